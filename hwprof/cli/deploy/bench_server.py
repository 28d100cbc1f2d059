"""What does a running server give its users? ``hwprof bench-server``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, say
from hwprof.cli.job_options import POSITIVE, TOKENS
from hwprof.cli.options import FiniteRange, Listed, with_options
from hwprof.cli.progress import caller
from hwprof.errors import InputError
from hwprof.units import format_quantity, format_seconds, format_span

if TYPE_CHECKING:
    from hwprof.deploy.space import Offer
    from hwprof.session.bench_server import Measured

server_options = with_options(
    click.argument("url"),
    click.option("--served-model", help="As the server calls it; default: the first that it lists."),
    click.option("--endpoint", type=click.Choice(["chat", "completions"]), default="chat", show_default=True),
    click.option("--prompt-len", "prompt", type=TOKENS, default=256, show_default=True, help="About so many tokens."),
    click.option("--new-tokens", "new", type=TOKENS, default=64, show_default=True, help="Of each answer."),
    click.option("--users", type=Listed(POSITIVE), default="1,2,4,8", show_default=True, help="Requests at once."),
    click.option("--rounds", type=POSITIVE, default=4, show_default=True, help="Requests of each user."),
    click.option(
        "--timeout", "timeout_s", type=FiniteRange(min=0.1), default=300.0, show_default=True, help="Seconds."
    ),
    click.option("--remote", is_flag=True, help="Also a server of another machine."),
)
"""Which server is asked for what."""

beside = with_options(
    click.option("--model", help="Sets a prediction beside it: what is served, as in `hwprof deploy`."),
    click.option("--hardware", help="On which device."),
    click.option("--weights", default="bf16", show_default=True, help="In which format."),
    click.option("--engine", default="vllm", show_default=True, help="By which engine."),
    click.option("--tp", type=POSITIVE, default=1, help="Tensor ranks."),
    click.option("--dp", type=POSITIVE, default=1, help="Data groups."),
    click.option("--ep", type=POSITIVE, default=1, help="Expert ranks."),
    click.option("--pp", type=POSITIVE, default=1, help="Pipeline stages."),
)
"""What is predicted."""


@click.command(
    epilog=examples(
        "hwprof bench-server http://127.0.0.1:8000 --users 1,8,64 --prompt-len 1024 --new-tokens 256",
        "hwprof bench-server http://127.0.0.1:8000 --model 8b --hardware h100-sxm --weights fp8",
    )
)
@server_options
@beside
@format_option
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def command(*, output_format: str, quiet: bool, **typed: Any) -> None:
    """Measure time to first token and time per token of a running server, over numbers of users.

    The server speaks the OpenAI protocol (vLLM, SGLang, TensorRT-LLM, `transformers serve`). Only this machine is asked
    unless --remote.
    """
    from hwprof.measure.server.client import address_of, first_model
    from hwprof.measure.server.sweep import Asked
    from hwprof.session.bench_server import bench_server

    address = address_of(typed["url"], remote=typed["remote"])
    offers = _offers(typed)
    with caller(quiet=quiet) as told:
        asked = Asked(
            address=address,
            endpoint=typed["endpoint"],
            model=typed["served_model"] or first_model(address, timeout_s=typed["timeout_s"]),
            prompt_tokens=typed["prompt"],
            new_tokens=typed["new"],
            timeout_s=typed["timeout_s"],
        )
        found = bench_server(asked, tuple(typed["users"]), typed["rounds"], told.progress, offers)
    if output_format == "json":
        rows = [dataclasses.asdict(one) for one in found]
        click.echo(json.dumps({"model": asked.model, "rows": rows}, indent=2, allow_nan=False))
    else:
        say("\n".join(line for one in found for line in _lines(one)))


def _offers(typed: dict[str, Any]) -> Callable[[int, int], Sequence[Offer]] | None:
    """What is predicted for lengths that are measured, where it was said what runs on what."""
    if not typed["model"] and not typed["hardware"]:
        return None
    if not (typed["model"] and typed["hardware"]):
        raise InputError("a prediction needs both --model and --hardware", remedy="give both of them, or none")
    from hwprof.deploy.engine import engine_file, engine_named
    from hwprof.deploy.formats import formats_of
    from hwprof.deploy.links import links_of
    from hwprof.deploy.passes import Deployment
    from hwprof.deploy.published import model_of
    from hwprof.deploy.space import Demand, offers_of
    from hwprof.specs.catalogue.lookup import load_device

    model, device = model_of(typed["model"], Path()), load_device(typed["hardware"])
    formats = formats_of(model, device, typed["weights"])
    deployment = Deployment(model=model, device=device, formats=formats, links=links_of(device.id))
    engine = engine_named(typed["engine"])
    degrees = {name: typed[name] for name in ("tp", "dp", "ep", "pp")}
    most = typed["tp"] * typed["dp"] * typed["pp"]

    def offers(prompt: int, new: int) -> Sequence[Offer]:
        demand = Demand(prompt=prompt, new=max(new, 1), users=tuple(typed["users"]), apart=False)
        return offers_of(deployment, engine, demand, engine_file(), most_devices=most, fixed=degrees).offers

    return offers


def _lines(one: Measured) -> list[str]:
    failed = f", {one.failed} failed" if one.failed else ""
    tokens = format_quantity(one.tokens_per_s, "count")
    asked = f"{one.requests} requests of {one.prompt_tokens:.0f} + {one.new_tokens:.0f} tokens"
    lines = [f"{one.users} users: {asked}{failed}, {tokens} tokens/s"]
    predicted = one.predicted
    pairs = (
        ("first token", one.ttft_s, predicted and (predicted.ttft_s, predicted.ttft_interval_s)),
        ("a token", one.tpot_s, predicted and (predicted.tpot_s, predicted.tpot_interval_s)),
    )
    for name, spread, said in pairs:
        if spread is None:
            continue
        beside = f"   predicted {format_seconds(said[0])} ({format_span(said[1], 's')})" if said else ""
        mean, high = format_seconds(spread.mean), format_seconds(spread.p90)
        lines.append(f"  {name:12} mean {mean}, 90 % below {high}{beside}")
    return lines
