"""When in a step does memory peak, and how high? The pieces of a model put together over pipeline, replicas, schedule.

Every formula takes numbers, for one layout, or arrays that broadcast against each other, for many at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hwprof.count.elementwise import Amount, larger, smaller, where
from hwprof.count.memory_pieces import Block, Held, Pieces
from hwprof.count.pipeline_stages import holds_first, holds_last, in_flight, layers_held
from hwprof.specs.parallel import TWO_CHUNK_SCHEDULES, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the pieces are spread; numbers, or arrays of as many layouts.

    Attributes:
        stages: of the pipeline.
        virtual_stages: chunks a device (interleaved).
        micro_batches: of one replica in a step.
        replicas: ranks that hold the same weights.
        shards: over how many of them ZeRO divides.
        zero_stage: what it divides.
        schedule: of the pipeline, one for all.
    """

    stages: Amount = 1
    virtual_stages: Amount = 1
    micro_batches: Amount = 1
    replicas: Amount = 1
    shards: Amount = 1
    zero_stage: Amount = 0
    schedule: Schedule = "1f1b"

    def over(self, since_stage: int, shards: Amount) -> Amount:
        """Into how many parts something is divided that ZeRO divides from a stage on."""
        return where(self.zero_stage >= since_stage, shards, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a device holds at one moment.

    Attributes:
        name: of the moment.
        parts: bytes by what they are for, activations excepted.
        before, leading, body, after: how many times what each block keeps is there.
        activation_share: what of the layers' activations is on the device.
        happens: whether the device comes to this moment.
    """

    name: str
    parts: Mapping[str, Amount]
    before: Amount = 0.0
    leading: Amount = 0.0
    body: Amount = 0.0
    after: Amount = 0.0
    happens: Amount = True

    def kept(self, pieces: Pieces) -> dict[str, Amount]:
        """Kept activations, by what they are."""
        pairs = (
            (self.before, pieces.before),
            (self.leading, pieces.leading),
            (self.body, pieces.body),
            (self.after, pieces.after),
        )
        parts: dict[str, Amount] = {}
        for times, block in pairs:
            for name, size in block.kept.items():
                parts[name] = parts.get(name, 0.0) + times * size
        return parts

    def total_bytes(self, pieces: Pieces) -> Amount:
        """All of it; 0 where the device does not come to it."""
        activations = (
            self.before * pieces.before.kept_bytes
            + self.leading * pieces.leading.kept_bytes
            + self.body * pieces.body.kept_bytes
            + self.after * pieces.after.kept_bytes
        )
        return where(self.happens, sum(self.parts.values()) + activations, 0.0)


def peak_bytes(pieces: Pieces, spread: Spread) -> Amount:
    """Peak memory of the device that needs most, without what allocator and libraries add.

    The devices that may need most are the first two and the last: activations under way fall, and layers do not grow,
    from the second on.
    """
    devices = [0, 1, spread.stages - 1]
    return larger(*(device_peak_bytes(pieces, spread, where(d < spread.stages, d, 0)) for d in devices))


def device_peak_bytes(pieces: Pieces, spread: Spread, device: Amount) -> Amount:
    """Peak memory of one device."""
    return larger(*(moment.total_bytes(pieces) for moment in moments(pieces, spread, device)))


def moments(pieces: Pieces, spread: Spread, device: Amount) -> tuple[Moment, ...]:
    """Each moment at which a device's memory may peak: the loss, backward at the ends of its layers, the update.

    Between the ends of its layers memory changes evenly, so one of them is higher.
    """
    at = _Device(pieces=pieces, spread=spread, device=device)
    return (_loss(at), *_backward(at), _update(at))


@dataclass(frozen=True, kw_only=True)
class _Device:
    """One device: how many layers of each sort it has, which ends, what waits in it."""

    pieces: Pieces
    spread: Spread
    device: Amount

    @cached_property
    def layers(self) -> tuple[Amount, Amount]:
        """Leading layers and others."""
        spread, pieces = self.spread, self.pieces
        return layers_held(
            spread.schedule,
            self.device,
            stages=spread.stages,
            virtual_stages=spread.virtual_stages,
            layers=pieces.layers,
            leading=pieces.leading_layers,
        )

    @cached_property
    def first(self) -> Amount:
        return where(holds_first(self.spread.schedule, self.device, self.spread.stages), 1, 0)

    @cached_property
    def last(self) -> Amount:
        return where(holds_last(self.spread.schedule, self.device, self.spread.stages), 1, 0)

    @cached_property
    def chunk(self) -> Amount:
        """Share of the device's layers that one micro-batch passes at a time."""
        chunks = 2 if self.spread.schedule in TWO_CHUNK_SCHEDULES else self.spread.virtual_stages
        return 1 / where(self.spread.stages > 1, chunks, 1)

    @cached_property
    def waiting(self) -> Amount:
        """Micro-batches, in all of the device's layers, that wait while one is worked on."""
        under_way = in_flight(
            self.spread.schedule,
            self.device,
            stages=self.spread.stages,
            virtual_stages=self.spread.virtual_stages,
            micro_batches=self.spread.micro_batches,
        )
        return larger(under_way - self.chunk, 0)

    @cached_property
    def waiting_at_head(self) -> Amount:
        """Micro-batches that have passed the head and wait: only gpipe does not turn back at once."""
        return self.spread.micro_batches - 1 if self.spread.schedule == "gpipe" else 0

    @cached_property
    def lasting(self) -> Amount:
        """Whether gradients are there from the start of a backward."""
        return self.pieces.lasting_gradients or self.spread.micro_batches > 1

    @cached_property
    def twice(self) -> int:
        """DualPipe's two copies of a stage double what ZeRO divides over."""
        return 2 if self.spread.schedule == "dualpipe" else 1

    def shards(self, since_stage: int) -> Amount:
        return self.spread.over(since_stage, self.spread.shards * self.twice)

    def expert_shards(self, since_stage: int) -> Amount:
        ranks = larger(self.spread.shards * self.twice * self.pieces.expert_replication, 1)
        return self.spread.over(since_stage, ranks)

    def of_blocks(self, amount: Callable[[Block], Amount]) -> Amount:
        """Sum over the ends and layers of the device."""
        leading, body = self.layers
        pieces = self.pieces
        return (
            self.first * amount(pieces.before)
            + leading * amount(pieces.leading)
            + body * amount(pieces.body)
            + self.last * amount(pieces.after)
        )

    def held(self, amount: Callable[[Held], Amount], since_stage: int) -> Amount:
        """Sum of what weights take, as ZeRO divides it from a stage on."""
        dense, experts = self.shards(since_stage), self.expert_shards(since_stage)
        tied = where(self.spread.stages > 1, self.last - self.first * self.last, 0) * amount(self.pieces.tied)
        return self.of_blocks(lambda block: amount(block.dense)) / dense + (
            self.of_blocks(lambda block: amount(block.experts)) / experts + tied / dense
        )

    @cached_property
    def always(self) -> dict[str, Amount]:
        """What is there throughout the step."""
        pieces, spread = self.pieces, self.spread
        return {
            "weights": self.held(_weights, 3) * pieces.weights_on_device,
            "optimizer state": self.held(_state, 1) * pieces.state_on_device,
            "rotary tables": pieces.tables_bytes,
            "gradient placeholders": pieces.placeholder_bytes,
            "gathered weights": where(self.gathers, self.gathered, 0.0),
            "gradient buckets": where(
                (spread.zero_stage < 2) & (spread.replicas > 1),
                self.held(_gradients, 2) * pieces.bucketed_gradients,
                0.0,
            ),
            "pipeline transfers": where(spread.stages > 1, 2 * pieces.stream_bytes, 0.0),
        }

    @cached_property
    def gathers(self) -> Amount:
        sharded = (self.spread.zero_stage >= 3) & (self.spread.shards > 1)
        return sharded | (self.pieces.weights_on_device < 1)

    @cached_property
    def gathered(self) -> Amount:
        """Two layers, this and the next, and the ends."""
        pieces = self.pieces
        layer = larger(*(_gathered(block.dense) + _gathered(block.experts) for block in (pieces.leading, pieces.body)))
        return 2 * layer + self.first * _gathered(pieces.before.dense) + self.last * _gathered(pieces.after.dense)

    def gradients(self, done: Amount) -> Amount:
        """All of them, or those that backward has reached."""
        return where(self.lasting, self.held(_gradients, 2), done / self.shards(2))

    def working(self, block: Block) -> Amount:
        """The most that a block's backward takes beside what is kept."""
        shards = self.shards(2)
        growing = where(shards > 1, block.working_bytes + block.grown_bytes / shards, block.growing_bytes)
        return where(self.lasting, block.working_bytes, growing)

    def reduced(self, block: Block) -> Amount:
        """Whole gradients of a layer on their way to the ranks that own them."""
        return where((self.spread.zero_stage >= 2) & (self.spread.shards > 1), block.dense.reduced_bytes, 0.0)

    def on_device(self, layers: Amount) -> Amount:
        """Of so many layers' activations those that are on the device: two, where the host has the others."""
        return layers if self.pieces.activations_on_device else smaller(layers, 2)


def _loss(at: _Device) -> Moment:
    """Everything is kept, and the loss makes its gradient."""
    pieces = at.pieces
    leading, body = at.layers
    under_way = at.waiting + at.chunk
    loss = (at.waiting_at_head + 1) * pieces.loss_kept_bytes + pieces.loss_working_bytes
    return Moment(
        name="start of backward, at the loss",
        parts=at.always
        | {
            "gradients": at.gradients(0.0),
            "logits and loss": loss + pieces.lasting_logits_bytes,
            "weight copies": at.of_blocks(_copies),
        },
        before=at.first * under_way,
        leading=at.on_device(leading * under_way),
        body=at.on_device(body * under_way),
        after=at.waiting_at_head + 1,
        happens=(at.last > 0) & (pieces.loss_kept_bytes > 0),
    )


def _backward(at: _Device) -> Iterator[Moment]:
    """Of the head, of the last and the first layer of each sort, of the embedding."""
    pieces = at.pieces
    leading, body = at.layers
    after, layer, lead = at.last * pieces.after.grown_bytes, pieces.body.grown_bytes, pieces.leading.grown_bytes
    some, any_leading = body > 0, leading > 0
    yield _at_block(at, pieces.after, leading=leading, body=body, done=0.0, head=1, happens=at.last > 0)
    yield _at_block(at, pieces.body, leading=leading, body=body, done=after, happens=some)
    done = after + (body - 1) * layer
    yield _at_block(at, pieces.body, leading=leading, body=1, done=done, happens=some)
    done = after + body * layer
    yield _at_block(at, pieces.leading, leading=leading, body=0, done=done, happens=any_leading)
    done = done + (leading - 1) * lead
    yield _at_block(at, pieces.leading, leading=1, body=0, done=done, happens=any_leading)
    done = after + body * layer + leading * lead
    yield _at_block(at, pieces.before, leading=0, body=0, done=done, happens=at.first > 0)


def _at_block(
    at: _Device, block: Block, *, leading: Amount, body: Amount, done: Amount, happens: Amount, head: int = 0
) -> Moment:
    """A block's backward, while so many layers of each sort wait for theirs and ``done`` gradients exist."""
    pieces = at.pieces
    all_leading, all_body = at.layers
    kept_leading = at.waiting * all_leading + _under_way(at, leading)
    kept_body = at.waiting * all_body + _under_way(at, body)
    loss = at.last * (at.waiting_at_head * pieces.loss_kept_bytes + pieces.lasting_logits_bytes)
    copies = leading * _copies(pieces.leading) + body * _copies(pieces.body) + head * _copies(pieces.after)
    return Moment(
        name=_name(at, block, leading, body),
        parts=at.always
        | {
            "gradients": at.gradients(done),
            "logits and loss": loss,
            "weight copies": copies,
            "working gradients": at.working(block),
            "gradients being reduced": at.reduced(block),
        },
        before=at.first * (at.waiting + at.chunk),
        leading=at.on_device(kept_leading),
        body=at.on_device(kept_body),
        after=at.last * (at.waiting_at_head + head),
        happens=happens,
    )


def _under_way(at: _Device, layers: Amount) -> Amount:
    """Layers that the micro-batch in work has been through: of one chunk, but the one in backward at least."""
    return larger(layers * at.chunk, smaller(layers, 1))


def _update(at: _Device) -> Moment:
    """The optimizer step: all gradients, no activations."""
    pieces = at.pieces
    largest = larger(
        *(
            held.largest_step_bytes
            for block in (pieces.before, pieces.leading, pieces.body, pieces.after)
            for held in (block.dense, block.experts)
        )
    )
    temporaries = at.held(lambda held: held.step_bytes, 1) + largest / at.shards(1)
    gradients = at.held(_gradients, 2)
    return Moment(
        name="optimizer step",
        parts=at.always | {"gradients": gradients, "optimizer temporaries": temporaries * pieces.state_on_device},
    )


def _name(at: _Device, block: Block, leading: Amount, body: Amount) -> str:
    """The operation by name, and its layer by number where there is one device to speak of."""
    if not isinstance(body, int | float) or not isinstance(leading, int | float):
        return f"backward of {block.moment}"
    label = block.growing_moment if at.lasting is False else block.moment
    return f"backward of {label.replace('*', str(int(max(leading + body - 1, 0))))}"


def _weights(held: Held) -> Amount:
    return held.weights_bytes


def _gradients(held: Held) -> Amount:
    return held.gradient_bytes


def _state(held: Held) -> Amount:
    return held.state_bytes


def _gathered(held: Held) -> Amount:
    return held.gathered_bytes


def _copies(block: Block) -> Amount:
    return block.copies_bytes
