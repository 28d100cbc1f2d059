"""What does serving cost, on which machine, laid out how? ``hwprof deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, language_option, tell, verbose_option
from hwprof.cli.job_options import POSITIVE, TOKENS, named_hardware
from hwprof.cli.options import Devices, FiniteRange, Listed, Measured, Word, with_options
from hwprof.errors import InputError, WorkError
from hwprof.specs.files import write_atomically
from hwprof.units import parse_typed

if TYPE_CHECKING:
    from hwprof.deploy.decision import Decision
    from hwprof.deploy.requests.traffic import Traffic
    from hwprof.deploy.rollout import Split
    from hwprof.deploy.space import Demand
    from hwprof.report.chinese import Language

asked = with_options(
    click.option("--model", required=True, help="Name of the catalogue or of a model hub, or a config.json."),
    click.option(
        "--hardware", required=True, type=Listed(click.STRING), help="Devices, commas between them; 8xh100 for eight."
    ),
    click.option("--devices", type=Devices(), help="How many there are; default: a node for each server."),
    click.option("--prompt-len", "prompt", type=TOKENS, default=1024, show_default=True, help="Tokens of a prompt."),
    click.option("--new-tokens", "new", type=TOKENS, default=1024, show_default=True, help="Generated for it."),
    click.option(
        "--weights",
        default="bf16",
        show_default=True,
        help="bf16, fp8, fp8-block, nvfp4, mxfp4, int4 or int8.",
    ),
    click.option("--cache-dtype", "cache", type=Word(["bf16", "fp8"]), help="Default: fp8 with narrow weights."),
    click.option("--device-memory", "memory", help="Of one device, where its file does not say: 512GB."),
    click.option(
        "--two-batches",
        is_flag=True,
        help="Experts over groups: one half of a batch computes while the other's tokens are exchanged.",
    ),
    click.option("--engine", default="vllm", show_default=True, help="vllm, sglang or trtllm."),
)
"""What is served on what."""

LATENCY = Measured("s", "time", "ms")

goals = with_options(
    click.option("--ttft", type=LATENCY, help="Longest time to the first token, for example 500ms."),
    click.option("--tpot", type=LATENCY, help="Longest time of a token after it, for example 20ms."),
    click.option("--qps", type=FiniteRange(min=0, min_open=True), help="Requests a second over all servers."),
    click.option("--users", type=Listed(POSITIVE), help="Requests under way at one server, each tried; 1 to 1024."),
    click.option(
        "--reused",
        type=FiniteRange(min=0, max=1, max_open=True),
        default=0.0,
        help="Share of a prompt that is in the cache.",
    ),
    click.option("--accepted", type=FiniteRange(min=1, max=4), help="Tokens a pass gives with three drafted ahead."),
    click.option("--together", is_flag=True, help="No servers of their own for prompts."),
    click.option("--tp", type=POSITIVE, help="Tensor ranks of a server; default: all that can be."),
    click.option("--dp", type=POSITIVE, help="Groups with sequences of their own."),
    click.option("--ep", type=POSITIVE, help="Ranks over which experts are spread."),
    click.option("--pp", type=POSITIVE, help="Pipeline stages."),
    click.option(
        "--arrivals",
        metavar="poisson|closed|FILE",
        help="Simulate one server of the answer, request by request: --qps at random, its users, or a CSV of "
        "arrival_s, prompt_tokens, new_tokens.",
    ),
    click.option("--seed", type=int, default=0, help="Of what is drawn at random."),
    click.option("--rollouts", type=POSITIVE, help="Reinforcement learning: answers of one iteration."),
    click.option(
        "--answer-spread",
        type=FiniteRange(min=0, max=3),
        default=0.8,
        show_default=True,
        help="With --rollouts: standard deviation of the logarithm of their lengths; --new-tokens is their mean.",
    ),
    click.option(
        "--train-tokens",
        type=FiniteRange(min=0, min_open=True),
        help="With --rollouts: tokens/s that one device trains, as `hwprof simulate` says.",
    ),
    click.option("--price", type=FiniteRange(min=0, min_open=True), help="USD for an hour of one device."),
    click.option("--watt", type=FiniteRange(min=0, min_open=True), help="Power of one device; default: its TDP."),
    click.option("--pue", type=FiniteRange(min=1), help="Power of the building over that of its devices."),
)
"""What users want, and what the search may choose."""


@click.command(
    epilog=examples(
        "hwprof deploy --model 70b --hardware h100-sxm --prompt-len 1024 --new-tokens 1024 --weights fp8",
        "hwprof deploy --model deepseek-r1 --hardware h200,b200 --prompt-len 8192 --new-tokens 1024 --weights fp8 "
        "--ttft 2s --tpot 30ms --qps 10 --output serving",
    )
)
@asked
@goals
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all rows here.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write deploy.html, pareto.png, tables and settings for three engines into this folder.",
)
@verbose_option
@language_option
@format_option
def command(
    *,
    csv_path: Path | None,
    output: Path | None,
    verbose: bool,
    language: Language,
    output_format: str,
    **typed: Any,
) -> None:
    """Predict time to first token, time per token, throughput and cost of serving MODEL on each HARDWARE.

    Nothing runs and no torch is needed. Goals choose the fewest and the cheapest devices that keep to them.
    """
    from hwprof.cli.deploy.answer_json import decision_json
    from hwprof.report.deploy.tables import offer_sheet
    from hwprof.report.deploy.text import decision_text

    decision, demand = _decided(typed)
    traffic, shared = _traffic(decision, demand, typed), _splits(decision, demand, typed)
    change = "" if decision.services else _nearest_change(typed)
    if csv_path:
        from hwprof.report.csv import render_csv

        csv_path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(csv_path, render_csv(offer_sheet(decision)))
    if output:
        from hwprof.report.files.deploy import write_deploy

        write_deploy(decision, demand, typed["model"], output, language)
    tell(
        output_format,
        lambda: decision_json(decision, demand, typed["model"], traffic, shared),
        lambda: decision_text(
            decision, demand, typed["model"], traffic, shared, change=change, verbose=verbose, language=language
        ),
    )
    if not decision.services:
        raise WorkError(_nothing(decision), expectation="a server that fits and keeps to the goals")


def _traffic(decision: Decision, demand: Demand, typed: dict[str, Any]) -> Traffic | None:
    """What requests that come one by one see at one server of the answer."""
    if not typed["arrivals"] or not decision.services:
        return None
    from hwprof.deploy.engine import engine_file
    from hwprof.deploy.requests.traffic import arrivals_of, traffic_at

    best = decision.services[0]
    rate = None if typed["qps"] is None else typed["qps"] / best.replicas
    requests = arrivals_of(typed["arrivals"], best.offer, demand, rate_per_s=rate, seed=typed["seed"])
    return traffic_at(best.offer, demand, engine_file(), requests)


def _splits(decision: Decision, demand: Demand, typed: dict[str, Any]) -> list[Split]:
    """How a fleet of the answer's hardware is shared with a trainer; empty where that is not asked."""
    if typed["rollouts"] is None or not decision.services:
        return []
    if typed["train_tokens"] is None or typed["devices"] is None:
        raise InputError(
            "--rollouts needs --devices and --train-tokens", remedy="say how large the fleet is and how fast one trains"
        )
    from hwprof.deploy.engine import POLICIES, engine_file
    from hwprof.deploy.requests.traffic import costs_of
    from hwprof.deploy.rollout import LONGEST, Batch, best_of_each, long_tailed, splits

    offer = decision.services[0].offer
    answers = long_tailed(
        typed["rollouts"], demand.new, typed["answer_spread"], LONGEST * demand.new, seed=typed["seed"]
    )
    batch = Batch(prompt=demand.prompt, answers=answers)
    found = splits(
        batch,
        typed["devices"],
        offer.devices,
        costs_of(offer, demand, engine_file()),
        POLICIES[offer.engine],
        train_device_s=batch.tokens / typed["train_tokens"],
    )
    return best_of_each(found)


def _nearest_change(typed: dict[str, Any]) -> str:
    """What to type instead so that a server will do: narrower weights, then more devices; empty where neither helps."""
    devices = typed["devices"] or SERVER_DEVICES
    changes: list[dict[str, Any]] = [{"weights": "fp8"}, {"weights": "int4"}]
    changes += [{"devices": devices * times} for times in (2, 4, 8)]
    for change in changes:
        try:
            found, _ = _decided(typed | change)
        except InputError:  # the device has no such format, or so many are not defined
            continue
        if found.services:
            return "; it works with " + " ".join(f"--{name} {value}" for name, value in change.items())
    return ""


def _nothing(decision: Decision) -> str:
    reasons = [f"{name}: {reason}" for name, reasons in decision.refused.items() for reason in reasons]
    return "no server: " + "; ".join(reasons)


def _decided(typed: dict[str, Any]) -> tuple[Decision, Demand]:
    """Every hardware searched, and what is best of them all."""
    from hwprof.deploy.decision import Goals, decided
    from hwprof.deploy.engine import engine_file, engine_named
    from hwprof.deploy.formats import formats_of
    from hwprof.deploy.links import links_of
    from hwprof.deploy.passes import Deployment
    from hwprof.deploy.space import USERS, Demand, offers_of
    from hwprof.plan.answer.cost import rates_of
    from hwprof.session.captured import counted_server
    from hwprof.specs.catalogue.lookup import cluster_of

    said = named_hardware(typed["hardware"], [typed["devices"]] if typed["devices"] else (), alone=False)
    typed |= said | {"devices": said.get("devices", (typed["devices"],))[0]}
    model = counted_server(typed["model"])
    if typed["two_batches"] and not model.sparse:
        raise InputError(f"--two-batches: {model.name} has no experts to exchange tokens with", remedy="leave it out")
    demand = Demand(
        prompt=typed["prompt"],
        new=typed["new"],
        reused=typed["reused"],
        users=tuple(typed["users"] or USERS),
        accepted=typed["accepted"],
        apart=not typed["together"],
    )
    wanted = Goals(
        ttft_s=typed["ttft"],
        tpot_s=typed["tpot"],
        qps=typed["qps"],
        devices=typed["devices"],
    )
    engine = engine_named(typed["engine"])
    fixed = {name: typed[name] for name in ("tp", "dp", "ep", "pp") if typed[name]}
    found = []
    for name in typed["hardware"]:
        device = cluster_of(1, name).device
        word = "fp8-block" if typed["weights"] == "fp8" and model.sparse else typed["weights"]
        formats = formats_of(model, device, word, cache=typed["cache"])
        deployment = Deployment(
            model=model,
            device=device,
            formats=formats,
            links=links_of(device.id),
            capacity_bytes=None if typed["memory"] is None else parse_typed(typed["memory"], "byte"),
            two_batches=typed["two_batches"],
        )
        most = min(typed["devices"] or SERVER_DEVICES, deployment.links.most_devices)
        rates = rates_of(device, usd_per_hour=typed["price"], watt=typed["watt"], pue=typed["pue"])
        offers = offers_of(deployment, engine, demand, engine_file(), most_devices=max(most, 1), fixed=fixed)
        found.append((device.id, offers, rates))
    return decided(found, wanted), demand


SERVER_DEVICES = 16
"""Most devices of one server where no number is given: a node, or a part of a larger scale-up domain."""
