"""What ran, in words? The batch and the optimizer of a run, or of a loop that somebody else wrote."""

from __future__ import annotations

from hwprof.specs.record.loop import LoopSettings
from hwprof.specs.record.run import RunSettings, StepTime
from hwprof.units import format_quantity


def setting_words(settings: RunSettings | LoopSettings) -> tuple[str, ...]:
    """Format, batch, optimizer and what else changes a step; empty where there is nothing to say."""
    if isinstance(settings, LoopSettings):
        return _loop_words(settings)
    if settings.new_tokens:
        prompts = f"{settings.micro_batch} prompts" if settings.micro_batch > 1 else "a prompt"
        return settings.dtype, f"{prompts} of {settings.seq_len:,} tokens", f"{settings.new_tokens:,} new tokens"
    return (
        settings.dtype,
        f"micro-batch {settings.micro_batch} × {settings.seq_len:,} tokens",
        f"accumulation {settings.gradient_accumulation}" if settings.gradient_accumulation > 1 else "",
        f"{settings.optimizer} ({settings.optimizer_implementation})",
        "" if settings.recompute == "none" else f"{settings.recompute} recompute",
        "compiled" if settings.compile else "",
    )


def _loop_words(settings: LoopSettings) -> tuple[str, ...]:
    implementation = f" ({settings.optimizer_implementation})" if settings.optimizer_implementation else ""
    return (
        "" if settings.dtype == "unknown" else settings.dtype,
        ", ".join(settings.inputs),
        f"accumulation {settings.gradient_accumulation}" if (settings.gradient_accumulation or 1) > 1 else "",
        settings.optimizer + implementation,
        "recompute" if settings.recompute == "seen" else "",
        "compiled" if settings.compile else "",
    )


def batch_words(settings: RunSettings | LoopSettings) -> tuple[str, str]:
    """What one step takes in: in short, and how it comes about."""
    if isinstance(settings, RunSettings) and settings.new_tokens:
        brief = f"{settings.tokens_per_step:,} new tokens a step, prompts included in its time"
        sequences = f"{settings.micro_batch} sequences" if settings.micro_batch > 1 else "a sequence"
        return brief, f"{brief}: {sequences} × {settings.new_tokens:,}"
    if isinstance(settings, RunSettings):
        brief = f"{settings.tokens_per_step:,} tokens per step and rank"
        return brief, (
            f"{brief} = {settings.micro_batch} sequences × {settings.gradient_accumulation} accumulation × "
            f"{settings.seq_len:,} tokens"
        )
    counts = ((settings.tokens_per_step, "tokens"), (settings.samples_per_step, "samples"))
    known = [f"{number:,} {word}" for number, word in counts if number is not None]
    brief = f"{known[0]} per step and rank" if known else "what a step takes in was not seen"
    return brief, f"{brief}; {', '.join(known)}, as seen at the module's inputs" if known else brief


def rate_text(step: StepTime) -> str:
    """Tokens a second, or samples where the inputs are no tokens."""
    if step.tokens_per_s is None and step.samples_per_s is not None:
        return f"{format_quantity(step.samples_per_s, 'count')} samples/s"
    return f"{format_quantity(step.tokens_per_s, 'count')} tokens/s"
