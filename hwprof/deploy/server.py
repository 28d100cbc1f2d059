"""How long do requests wait and how fast do tokens come, at a given number of users? A closed form, for many servers.

So many users each send their next request when the last one is answered. A decode step has one token of each running
sequence; the prompts of those that join run between the steps, so that every token also waits for its share of them:

    time of a token = step + interleave x (sequences / new tokens) x time of a prompt

While requests come steadily, prompts wait as ``hwprof.deploy.queue`` says. In a benchmark those that start together
also wait for each other. Where prompts have servers of their own, tokens do not wait for prompts, but too few such
servers hold all users up; in a benchmark prompts then wait as in a queue with one server and constant work (M/D/1:
load / (2 (1 - load)) of a prompt's time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.deploy.engine import POLICIES, EngineFile, EngineName, EngineNumbers
from hwprof.deploy.kernels import EXPERT_KINDS, Floats, PassTimes, Share, Tokens, joined
from hwprof.deploy.memory import most_sequences, sequence_bytes
from hwprof.deploy.passes import Deployment, pass_times
from hwprof.deploy.queue import MOST_LOAD, Queue, settled

Flags = NDArray[np.bool_]

CHUNK_TOKENS = 8192.0
"""Tokens of prompts that run in one pass at most: ``--max-num-batched-tokens`` of the published servers (InferenceMAX,
benchmarks/*.sh), SGLang's usual ``--chunked-prefill-size``."""

DRAFTED = 3.0
"""Tokens that are drafted for each pass where nothing else is said (DeepSeek's own servers and NVIDIA's: 1 to 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of servers; arrays of one a configuration.

    Attributes:
        prompt: tokens of a prompt.
        new: tokens generated for it.
        users: requests under way at once, over all servers.
        reused: share of a prompt that is in the cache already.
        drafts: whether tokens are drafted and checked several at a time.
        perhaps: whether nobody knows if tokens are drafted.
        accepted: tokens that a pass then gives; not a number: as the engine usually does.
    """

    prompt: Floats
    new: Floats
    users: Floats
    reused: Floats
    drafts: Flags
    perhaps: Flags
    accepted: Floats

    def per_pass(self, usual: Floats) -> Floats:
        """Tokens of a sequence that a pass gives."""
        known = np.where(np.isnan(self.accepted), usual, self.accepted)
        given: Floats = np.where(self.drafts, known, 1.0)
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Which servers there are; arrays of one a configuration.

    Attributes:
        decode: how those that generate are laid out.
        decoders: how many of them.
        prefill, prefillers: of those for prompts; the same ones where ``apart`` is false.
        apart: whether prompts have servers of their own.
        stated: whether the layout is known, and not assumed.
    """

    decode: Share
    decoders: Floats
    prefill: Share
    prefillers: Floats
    apart: Flags
    stated: Flags

    @property
    def devices(self) -> Floats:
        """All devices."""
        own: Floats = np.where(self.apart, self.prefill.devices * self.prefillers, 0.0)
        return self.decode.devices * self.decoders + own


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes of each configuration, before what its engine makes of them; arrays of one a configuration.

    Attributes:
        step: of decoding, of one group's sequences; with ``drafts`` of all tokens that are checked.
        prompt: of one prompt alone.
        chunk: of as many prompts as fit into one pass.
        prompts: how many those are.
        sequences: running in one attention group.
        room: sequences that all servers hold.
        hand_over_s: to bring a prompt's cache to another server over the links.
    """

    step: PassTimes
    prompt: PassTimes
    chunk: PassTimes
    prompts: Floats
    sequences: Floats
    room: Floats
    hand_over_s: Floats


def passes_of(deployment: Deployment, fleet: Fleet, load: Load, running: Floats | None = None) -> Passes:
    """The passes of configurations that serve one model on one sort of device, as many users as there is room for.

    ``running``: sequences that are decoded at once, where that is known; else all users'.

    Raises:
        SpecError: a rate or the memory of the device is not known.
    """
    one = np.ones(len(load.users))
    longest = load.prompt + load.new
    room = most_sequences(deployment, fleet.decode, longest) * fleet.decoders
    if running is None:
        running = np.where(room > 0, np.minimum(load.users, room), load.users)
    sequences = np.maximum(running / (fleet.decoders * fleet.decode.dp * fleet.decode.pp), 1.0)
    checked = np.where(load.drafts, 1.0 + DRAFTED, 1.0)
    past = load.prompt + load.new / 2
    fresh = np.maximum(load.prompt * (1 - load.reused), 1.0)
    prompts = np.maximum(np.floor(CHUNK_TOKENS / fresh), 1.0)
    kept = load.prompt - fresh
    return Passes(
        step=pass_times(
            deployment, fleet.decode, Tokens(rows=sequences * checked, sequences=sequences, past=past), decode=True
        ),
        prompt=pass_times(deployment, fleet.prefill, Tokens(rows=fresh, sequences=one, past=kept), decode=False),
        chunk=pass_times(
            deployment, fleet.prefill, Tokens(rows=fresh * prompts, sequences=prompts, past=kept), decode=False
        ),
        prompts=prompts,
        sequences=sequences * fleet.decode.pp,
        room=room,
        hand_over_s=_hand_over_s(deployment, fleet, load),
    )


def _hand_over_s(deployment: Deployment, fleet: Fleet, load: Load) -> Floats:
    """All ranks send at once."""
    held = sequence_bytes(deployment, fleet.prefill, load.prompt) * fleet.prefill.tp
    seconds: Floats = held / deployment.links.near.inside_byte_per_s
    return seconds


def joined_passes(parts: Sequence[Passes]) -> Passes:
    """Several, one behind the other."""
    return Passes(
        step=joined([part.step for part in parts]),
        prompt=joined([part.prompt for part in parts]),
        chunk=joined([part.chunk for part in parts]),
        prompts=np.concatenate([part.prompts for part in parts]),
        sequences=np.concatenate([part.sequences for part in parts]),
        room=np.concatenate([part.room for part in parts]),
        hand_over_s=np.concatenate([part.hand_over_s for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The engine's numbers for each configuration, arrays by their names, and those of experts by kind."""

    engine: dict[str, Floats]
    traffic_factor: Floats
    layer_factor: Floats

    def __getitem__(self, name: str) -> Floats:
        """One of them."""
        return self.engine[name]

    def of_apart(self, name: str, apart: Flags) -> Floats:
        """One that has another value where prompts have servers of their own."""
        value: Floats = np.where(apart, self.engine[f"apart_{name}"], self.engine[name])
        return value


def numbers_of(file: EngineFile, engines: Sequence[EngineName], kind: Floats) -> Numbers:
    """The numbers of each configuration's engine and of its experts' kind."""
    place = np.array([list(file.engines).index(name) for name in engines], dtype=np.int64)
    names = EngineNumbers.model_fields
    values = {name: np.array([getattr(one, name) for one in file.engines.values()])[place] for name in names}
    kinds = [file.experts[name] for name in EXPERT_KINDS]
    where = kind.astype(np.int64)
    return Numbers(
        engine=values,
        traffic_factor=np.array([one.traffic_factor for one in kinds])[where],
        layer_factor=np.array([one.layer_factor for one in kinds])[where],
    )


def pass_s(times: PassTimes, numbers: Numbers, *, prefill: bool) -> Floats:
    """Seconds of a pass as the engine runs it, without the host.

    Two halves of a batch that take turns cost twice what takes longer, computing or exchanging; while prompts are
    read, the exchange takes some of the multiprocessors meanwhile, for a new token each it takes none.
    """
    before = "prefill_" if prefill else ""
    experts_s = numbers["expert_layer_s"] * numbers.layer_factor * times.expert_layers
    experts_s = experts_s + times.expert_traffic_s * numbers.traffic_factor
    experts_s = experts_s + times.expert_flop_s / numbers["expert_compute_share"]
    if prefill:
        experts_s = experts_s * numbers["prefill_expert_factor"]
    computed_s = (
        numbers[f"{before}product_factor"] * times.products_s
        + numbers["floor_share"] * times.floors_s
        + experts_s
        + numbers["latent_layer_s"] * times.latent_layers
        + numbers[f"{before}attention_factor"] * times.attention_s
        + numbers["moved_factor"] * times.moved_s
        + numbers["small_s"] * times.small
    )
    exchanged_s = np.minimum(numbers["reduce_s"] * times.reduces + times.wire_s, times.library_s)
    slowed_s = computed_s / (1 - EXCHANGING) if prefill else computed_s
    seconds: Floats = np.where(times.halves > 0, 2 * np.maximum(slowed_s, exchanged_s), computed_s + exchanged_s)
    return seconds


EXCHANGING = 20 / 132
"""Share of an H800's multiprocessors that exchange tokens beside the others (DeepSeek-V3 technical report, section
3.2.2); kernels of low latency need none (DeepEP's documentation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What users see; arrays of one a configuration, with the ends of 90 % intervals.

    Attributes:
        ttft_s, tpot_s: time to the first token, and of each token after it, in the mean.
        ttft_lo_s, ttft_hi_s, tpot_lo_s, tpot_hi_s: between which they lie.
        step_s: of one decode step alone.
        prompt_s: of a prompt among others.
        running: sequences that are generated at once, over all servers.
        request_per_s: requests that are answered, of all users together.
    """

    ttft_s: Floats
    ttft_lo_s: Floats
    ttft_hi_s: Floats
    tpot_s: Floats
    tpot_lo_s: Floats
    tpot_hi_s: Floats
    step_s: Floats
    prompt_s: Floats
    running: Floats
    request_per_s: Floats


def served(
    passes: Passes, fleet: Fleet, load: Load, engines: Sequence[EngineName], file: EngineFile, *, steady: bool = True
) -> Served:
    """Times of requests.

    Args:
        passes: of the configurations.
        fleet: their servers.
        load: what is asked of them.
        engines: that of each.
        file: the engines' numbers.
        steady: whether requests are under way for long; false: as benchmarks count them that start all at once.
    """
    numbers = numbers_of(file, engines, passes.step.expert_kind)
    step_s, tpot_s, prompt_s = token_times(passes, fleet, load, numbers)
    found = settled(queue_of(passes, fleet, load, numbers, engines))
    if steady:
        ttft_s, running = found.first_s, found.running
        tpot_s = found.pass_s / load.per_pass(numbers["accepted_tokens"])
    else:
        ttft_s = first_token_s(passes, fleet, load, numbers, (tpot_s, prompt_s, found.first_s))
        running = _running(passes, load)
    width, wait = _half_widths(fleet, file, passes)
    return Served(
        ttft_s=ttft_s,
        ttft_lo_s=ttft_s / np.exp(wait),
        ttft_hi_s=ttft_s * np.exp(wait),
        tpot_s=tpot_s,
        tpot_lo_s=tpot_s / np.exp(width),
        tpot_hi_s=tpot_s * np.exp(width),
        step_s=step_s,
        prompt_s=prompt_s,
        running=running,
        request_per_s=load.users / (ttft_s + (load.new - 1) * tpot_s),
    )


def token_times(passes: Passes, fleet: Fleet, load: Load, numbers: Numbers) -> tuple[Floats, Floats, Floats]:
    """Seconds of a decode step, of a token in the mean, and of a prompt among others on its server."""
    host_s = numbers["step_s"] + numbers["sequence_s"] * passes.sequences
    accepted = load.per_pass(numbers["accepted_tokens"])
    step_s = pass_s(passes.step, numbers, prefill=False) + host_s
    plain_s = step_s / accepted * np.where(load.perhaps, numbers["unstated_factor"], 1.0)
    prompt_s = (pass_s(passes.chunk, numbers, prefill=True) + numbers["step_s"]) / passes.prompts
    between_s = numbers["interleave"] * passes.sequences / load.new * prompt_s
    return step_s, plain_s + np.where(fleet.apart, 0.0, between_s), prompt_s


def queue_of(passes: Passes, fleet: Fleet, load: Load, numbers: Numbers, engines: Sequence[EngineName]) -> Queue:
    """What waits for what where requests come steadily, of one decoding server with its share of users and prompts.

    What the engine adds beyond the mechanism comes before a request is ready: its own seconds, the prompt's pass alone
    over one among others, and further passes that it waits for.
    """
    step_s, _, prompt_s = token_times(passes, fleet, load, numbers)
    apart, groups = fleet.apart, fleet.decode.dp
    among_s = prompt_s * np.where(apart, 1.0, numbers["interleave"])
    alone_s = numbers.of_apart("prefill_factor", apart) * (
        pass_s(passes.prompt, numbers, prefill=True) + numbers["step_s"]
    )
    waited = numbers["step_wait"] + np.where(groups > 1, numbers["group_wait"], 0.0)
    before_s = numbers.of_apart("request_s", apart) + alone_s - among_s + np.where(apart, 0.0, waited * step_s)
    policies = [POLICIES[engine] for engine in engines]
    return Queue(
        users=np.maximum(_running(passes, load) / fleet.decoders, 1.0),
        passes=np.maximum(load.new - 1, 1.0) / load.per_pass(numbers["accepted_tokens"]),
        step_s=step_s,
        prompt_s=among_s / np.where(apart, 1.0, groups),
        before_s=np.maximum(before_s, 0.0),
        prompt_tokens=np.maximum(load.prompt * (1 - load.reused), 1.0),
        budget_tokens=CHUNK_TOKENS * groups,
        beside=np.array([policy != "prompts first" for policy in policies]),
        pieces=np.array([policy == "mixed" for policy in policies]),
        servers=np.where(apart, fleet.prefillers * fleet.prefill.dp / fleet.decoders, 0.0),
        hand_over_s=np.where(apart, passes.hand_over_s, 0.0),
    )


def first_token_s(
    passes: Passes, fleet: Fleet, load: Load, numbers: Numbers, times: tuple[Floats, Floats, Floats]
) -> Floats:
    """Seconds to the first token in the mean of a benchmark, whose requests start all at once.

    ``times``: of a token, of a prompt among others, and to the first token of those who come later (``settled``), which
    counts on servers that do prompts and tokens.
    """
    tpot_s, prompt_s, steady_s = times
    apart = fleet.apart
    groups = fleet.prefill.dp * np.where(apart, fleet.prefillers, fleet.decoders)
    running = _running(passes, load)
    answer_s = load.new * tpot_s
    mine = load.users / groups
    start_s = numbers.of_apart("start_share", apart) * mine * prompt_s
    room_s = np.maximum(load.users / running - 1, 0.0) * answer_s
    busy = np.minimum(running / answer_s / groups * prompt_s, MOST_LOAD)
    waits_s = numbers["apart_wait_factor"] * prompt_s * busy / (2 * (1 - busy))
    alone_s = pass_s(passes.prompt, numbers, prefill=True) + numbers["step_s"]
    factor = numbers["apart_prefill_factor"]
    behind_s = np.maximum(mine * factor * prompt_s - answer_s, 0.0)
    own_s = numbers["apart_request_s"] + factor * (alone_s + waits_s) + behind_s + (factor - 1) * start_s
    first_s: Floats = np.where(apart, own_s, steady_s) + start_s + room_s
    return first_s


def _running(passes: Passes, load: Load) -> Floats:
    """Sequences at once, where all users send requests."""
    running: Floats = np.where(passes.room > 0, np.minimum(load.users, passes.room), load.users)
    return running


def _half_widths(fleet: Fleet, file: EngineFile, passes: Passes) -> tuple[Floats, Floats]:
    """Half widths of a token's and a first token's interval: those of held-out servers, and the kernels' beside."""
    widths = file.half_widths

    def chosen(name: str) -> Floats:
        stated = np.where(fleet.apart, getattr(widths, f"apart_{name}"), getattr(widths, name))
        found: Floats = np.where(fleet.stated, stated, getattr(widths, f"unstated_{name}"))
        return found

    tpot = np.hypot(chosen("tpot"), np.maximum(passes.step.width - USUAL_WIDTH, 0.0))
    ttft = np.hypot(chosen("ttft"), np.maximum(passes.prompt.width - USUAL_WIDTH, 0.0))
    return tpot, ttft


USUAL_WIDTH = 0.1
"""Half width of the kernels of devices whose servers were measured; what goes beyond it widens the interval."""
