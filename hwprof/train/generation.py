"""What happens when a decoder generates? The prompts in one pass, then one token of each sequence after the other."""

from __future__ import annotations

import torch

from hwprof.errors import InputError
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.cache import empty_cache
from hwprof.train.decoder import Decoder
from hwprof.train.loop import PhaseContext, build_model, no_phase
from hwprof.train.precision import select_precision

_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Generator:
    """A decoder with its cache, ready to answer the same prompts again and again.

    Weights, activations and cache are in the run's format; rotary angles stay in fp32, as in training.

    Args:
        spec: the model.
        settings: ``micro_batch`` prompts of ``seq_len`` random tokens, ``new_tokens`` for each.
        device: where the model lives.

    Attributes:
        model: the module itself.

    Raises:
        InputError: it is no decoder, or the format is none of the device.
        torch.OutOfMemoryError: the model does not fit on the device.
    """

    def __init__(self, spec: ModelSpec, settings: RunSettings, *, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self._settings, self._device = settings, device
        select_precision(settings.dtype, device)
        capacity = settings.seq_len + settings.decode_steps
        self.model = decoder_of(spec, settings.changed(seq_len=capacity), device)
        self._cache = empty_cache(
            spec,
            batch=settings.micro_batch,
            capacity=capacity,
            dtype=_DTYPES.get(settings.dtype, torch.float32),
            device=device,
        )
        self._prompts = torch.randint(spec.vocab_size, (settings.micro_batch, settings.seq_len))

    def state_bytes(self) -> float:
        """Bytes of weights, buffers and cache, each storage once."""
        cache = (tensor for kept in self._cache for tensor in kept.tensors)
        tensors = (*self.model.parameters(), *self.model.buffers(), *cache)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return float(sum(storages.values()))

    def close(self) -> None:
        """Nothing to end."""

    @torch.inference_mode()
    def step(self, phase: PhaseContext = no_phase) -> torch.Tensor:
        """One answer to all prompts, the likeliest token each time; nothing here waits for the device.

        Args:
            phase: entered, in order, for "host_to_device", "prefill" and, where there are more tokens, "decode".

        Returns:
            The new tokens, [batch, new_tokens].
        """
        with phase("host_to_device"):
            tokens = self._prompts.to(self._device, non_blocking=True)
        with phase("prefill"):
            found = [self.after(0, tokens)]
        if self._settings.decode_steps:
            with phase("decode"):
                for _ in range(self._settings.decode_steps):
                    found.append(self._next(found[-1]))
        return torch.cat(found, dim=1)

    @torch.inference_mode()
    def after(self, before: int, tokens: torch.Tensor) -> torch.Tensor:
        """The likeliest token after these, [batch, tokens], which follow the first ``before`` that were read."""
        for kept in self._cache:
            kept.length = before
        return self._next(tokens)

    def _next(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.generate(tokens, self._cache).argmax(dim=-1)


def decoder_of(spec: ModelSpec, settings: RunSettings, device: torch.device) -> Decoder:
    """The model in the run's format, to read and generate ``seq_len`` tokens.

    Raises:
        InputError: it generates nothing.
    """
    model = build_model(spec, settings, device).eval()
    if not isinstance(model, Decoder):
        raise InputError(
            f"{spec.name} is of kind {spec.kind!r}, which generates nothing", expectation="expected a decoder"
        )
    dtype = _DTYPES.get(settings.dtype, torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad = False
    return model
