"""When in a step does memory peak, and how high? The pieces of a model put together over pipeline, replicas, schedule.

Every formula takes numbers, for one layout, or arrays that broadcast against each other, for many at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hwprof.count.job.pipeline_stages import chunk_of, device_chunks, devices_from, longer_chunks
from hwprof.count.memory.device import Device, Spread
from hwprof.count.memory.pieces import Block, Pieces
from hwprof.count.ops.elementwise import Amount, added, larger, scaled, smaller, where
from hwprof.specs.job.schedules import TRAITS

__all__ = ["Moment", "Spread", "device_peak_bytes", "host_bytes", "moments", "peak_bytes"]


def _any(condition: Amount) -> bool:
    return bool(condition) if isinstance(condition, bool | int | float) else bool(condition.any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a device holds at one moment.

    Attributes:
        name: of the moment.
        device: the device, with what it holds throughout.
        parts: what it holds beside, activations excepted.
        before: how many times what the embedding keeps is there.
        leading: the same for one of the leading layers.
        body: the same for one of the other layers.
        after: the same for what follows the layers.
        freed_bytes: of places that were freed shortly before and are too small for what came then.
        happens: whether the device comes to this moment.
    """

    name: str
    device: Device
    parts: Mapping[str, Amount]
    before: Amount = 0.0
    leading: Amount = 0.0
    body: Amount = 0.0
    after: Amount = 0.0
    freed_bytes: Amount = 0.0
    happens: Amount = True

    @property
    def all_parts(self) -> dict[str, Amount]:
        """Everything by what it is for, kept activations by what they are."""
        parts = {**self.device.always, **self.parts}
        for times, block in self._kept:
            for name, size in block.kept.items():
                parts[name] = parts.get(name, 0.0) + times * size
        return parts

    @property
    def total_bytes(self) -> Amount:
        """All of it; 0 where the device does not come to it."""
        kept = (scaled(times, block.kept_bytes) for times, block in self._kept)
        return where(self.happens, added(self.device.always_bytes, *self.parts.values(), *kept), 0.0)

    def main_pool_bytes(self, sharded: Amount) -> Amount:
        """What the pool of the main stream has given out; ``sharded`` gradients come from another."""
        held = self.total_bytes
        if _any(self.freed_bytes):
            held = added(held, where(self.happens, self.freed_bytes, 0.0))
        if not _any(sharded):
            return held
        apart = smaller(self.parts.get("gradients", 0.0), self.device.all_gradients)
        return added(held, scaled(-1 * sharded, where(self.happens, apart, 0.0)))

    @property
    def _kept(self) -> tuple[tuple[Amount, Block], ...]:
        pieces = self.device.pieces
        return (
            (self.before, pieces.before),
            (self.leading, pieces.leading),
            (self.body, pieces.body),
            (self.after, pieces.after),
        )


def peak_bytes(pieces: Pieces, spread: Spread) -> Amount:
    """Peak memory of the device that needs most, without what allocator and libraries add.

    That is the first or the last; or one at which the number or the sort of a device's layers changes: between these
    devices hold the same layers, and activations under way fall.
    """
    return larger(*(device_peak_bytes(pieces, spread, device) for device in _fullest(pieces, spread)))


def _fullest(pieces: Pieces, spread: Spread) -> list[Amount]:
    """Devices of which one holds the most."""
    layers, stages = pieces.layers, spread.stages
    chunks = device_chunks(spread.schedule, stages=stages, virtual_stages=spread.virtual_stages)
    changes: list[Amount] = []
    if _any(layers % chunks > 0):
        longer, shorter = longer_chunks(layers=layers, chunks=chunks)
        changes += [longer] if TRAITS[spread.schedule].one_chunk else [longer, shorter]
    if pieces.leading_layers:
        mixed = chunk_of(pieces.leading_layers, layers=layers, chunks=chunks)
        changes += [mixed, mixed + 1]
    found = (device for chunk in changes for device in devices_from(spread.schedule, chunk, stages))
    return [0, stages - 1, *(smaller(device, stages - 1) for device in found)]


def host_bytes(pieces: Pieces, spread: Spread) -> Amount:
    """What offload puts in host memory, of the device that puts most there.

    Optimizer state with the gradients that the host's optimizer reads, all weights, or the kept activations of all
    layers but those on the device (Ren et al. 2021, ZeRO-Offload; Rajbhandari et al. 2021, ZeRO-Infinity).
    """
    kept = replace(pieces, activations_on_device=1.0)
    return larger(*(_moved_bytes(pieces, kept, spread, device) for device in _fullest(pieces, spread)))


def _moved_bytes(pieces: Pieces, kept: Pieces, spread: Spread, device: Amount) -> Amount:
    at = Device(pieces=pieces, spread=spread, device=device)
    activations = larger(
        *(
            whole.total_bytes - left.total_bytes
            for whole, left in zip(moments(kept, spread, device), moments(pieces, spread, device), strict=True)
        )
    )
    state = at.held(lambda held: added(held.state_bytes, held.gradient_bytes), 1)
    weights = at.held(lambda held: held.weights_bytes, 3)
    return added(activations, scaled(1 - pieces.state_on_device, state), scaled(1 - pieces.weights_on_device, weights))


def device_peak_bytes(pieces: Pieces, spread: Spread, device: Amount) -> Amount:
    """Peak memory of one device."""
    return larger(*(moment.total_bytes for moment in moments(pieces, spread, device)))


def reserved_bytes(pieces: Pieces, spread: Spread) -> Amount:
    """What torch's allocator takes from the fullest device, without what it can't use: pools of streams add up."""
    return larger(*(device_reserved_bytes(pieces, spread, device) for device in _fullest(pieces, spread)))


def device_reserved_bytes(pieces: Pieces, spread: Spread, device: Amount) -> Amount:
    """The same for one device.

    Each stream has a pool, which keeps its largest size when its tensors are freed. FSDP2 makes sharded gradients in
    the stream of reduce-scatters and gathers into buffers of another (torch/distributed/fsdp/_fully_shard:
    ``foreach_reduce``, ``foreach_all_gather``), so that these are not where activations have been. Narrow logits that
    were freed leave a place that wide ones do not fit.
    """
    at = Device(pieces=pieces, spread=spread, device=device)
    if not pieces.streams:
        return larger(*(moment.main_pool_bytes(0) for moment in _moments(at)))
    sharded = where(at.sharded_streams, 1, 0)
    own = larger(*(moment.main_pool_bytes(sharded) for moment in _moments(at)))
    gathering = larger(at.gathered_ends, (1 + pieces.prefetched_layers) * at.arriving)
    return added(own, scaled(sharded, added(at.all_gradients, gathering)))


def moments(pieces: Pieces, spread: Spread, device: Amount) -> tuple[Moment, ...]:
    """Each moment at which a device's memory may peak.

    The end of forward, the loss, backward at the ends of its layers, the update.

    Between the ends of its layers memory changes evenly, so one of them is higher.
    """
    return _moments(Device(pieces=pieces, spread=spread, device=device))


def _moments(at: Device) -> tuple[Moment, ...]:
    return (_forward(at), _loss(at), *_backward(at), _update(at))


def _forward(at: Device) -> Moment:
    """The last layer's weights come in beside those of all other layers, where these stay.

    FSDP2 keeps the buffer of the layer before until they have their place.
    """
    leading, body = at.layers
    under_way = at.waiting + at.chunk
    return Moment(
        name="end of forward",
        device=at,
        parts={
            "gradients": at.gradients(0.0, 0.0),
            "gathered weights": added(at.gathered(leading, body, layers=0), 2 * at.arriving),
        },
        before=at.first * under_way,
        leading=at.on_device(leading * under_way),
        body=at.on_device(larger(body * under_way - 1, 0)),
        happens=at.keeps_gathered,
    )


def _loss(at: Device) -> Moment:
    """Everything is kept, and the loss makes its gradient."""
    pieces = at.pieces
    leading, body = at.layers
    under_way = at.waiting + at.chunk
    loss = (at.waiting_at_head + 1) * pieces.loss_kept_bytes + pieces.loss_working_bytes
    return Moment(
        name="start of backward, at the loss",
        device=at,
        parts={
            "gradients": at.gradients(0.0, 0.0),
            "logits and loss": loss + pieces.lasting_logits_bytes,
            "weight copies": _copies(at, *at.layers, ends=1),
            "gathered weights": at.gathered(leading, body, layers=0),
        },
        before=at.first * under_way,
        leading=at.on_device(leading * under_way),
        body=at.on_device(body * under_way),
        after=at.waiting_at_head + 1,
        freed_bytes=pieces.freed_logits_bytes,
        happens=(at.last > 0) & (pieces.loss_kept_bytes > 0),
    )


def _backward(at: Device) -> Iterator[Moment]:
    """Of the head, of the last layer of each sort, of the embedding.

    Where gradients grow or are divided over ranks, also of the layer before, while the last one's are reduced, and of
    the first layer, or of the second where the first one's weights come in meanwhile.
    """
    pieces = at.pieces
    leading, body = at.layers
    layer, lead = pieces.body.grown_bytes, pieces.leading.grown_bytes
    yield _at_block(at, pieces.after, leading=leading, body=body, head=1, happens=at.last > 0)
    yield _at_block(at, pieces.body, leading=leading, body=body, happens=body > 0)
    if at.changing:
        end = where(at.gathers, smaller(body, 2), 1)
        for left, done in ((body - 1, layer), (end, (body - end) * layer)):
            yield _at_block(at, pieces.body, leading=leading, body=left, happens=body > 1, done=done, reducing=1)
    if pieces.leading_layers:
        for left, done in ((leading, body * layer), (1, body * layer + (leading - 1) * lead)):
            yield _at_block(at, pieces.leading, leading=left, body=0, happens=leading > 0, done=done, reducing=1)
    done = body * layer + leading * lead
    yield _at_block(at, pieces.before, leading=0, body=0, done=done, happens=at.first > 0)


def _at_block(
    at: Device,
    block: Block,
    *,
    leading: Amount,
    body: Amount,
    happens: Amount,
    done: Amount = 0.0,
    reducing: int = 0,
    head: int = 0,
) -> Moment:
    """A block's backward, while so many layers of each sort wait for theirs and ``done`` gradients of layers exist."""
    pieces = at.pieces
    all_leading, all_body = at.layers
    kept_leading = at.waiting * all_leading + _under_way(at, leading)
    kept_body = at.waiting * all_body + _under_way(at, body)
    left = pieces.lasting_logits_bytes + head * pieces.loss_at_head_bytes
    loss = at.last * (at.waiting_at_head * pieces.loss_kept_bytes + left)
    ends = 0.0 if head else at.last * pieces.after.grown_bytes
    return Moment(
        name=_name(at, block, leading, body),
        device=at,
        parts={
            "gradients": at.gradients(done, ends),
            "logits and loss": loss,
            "weight copies": _copies(at, leading, body, ends=head),
            "gathered weights": at.gathered(leading, body, layers=pieces.prefetched_layers + 1 - head),
            "working gradients": at.working(block),
            "gradients being reduced": at.reduced(block, ends, layers=reducing),
        },
        before=at.first * (at.waiting + at.chunk),
        leading=at.on_device(kept_leading),
        body=at.on_device(kept_body),
        after=at.last * (at.waiting_at_head + head),
        happens=happens,
    )


def _under_way(at: Device, layers: Amount) -> Amount:
    """Layers that the micro-batch in work has been through: of one chunk, but the one in backward at least."""
    return larger(layers * at.chunk, smaller(layers, 1))


def _update(at: Device) -> Moment:
    """The optimizer step: all gradients, no activations."""
    pieces = at.pieces
    blocks = (pieces.before, pieces.leading, pieces.body, pieces.after)
    sizes = (held.largest_step_bytes for block in blocks for held in (block.dense, block.experts))
    largest = scaled(1 / where(at.spread.zero_stage >= 1, at.spread.shards, 1), larger(*sizes))
    return Moment(
        name="optimizer step",
        device=at,
        parts={
            "gradients": at.all_gradients,
            "optimizer temporaries": scaled(
                pieces.state_on_device, added(at.held(lambda held: held.step_bytes, 1), largest)
            ),
        },
    )


def _name(at: Device, block: Block, leading: Amount, body: Amount) -> str:
    """The operation by name, and its layer by number where there is one device to speak of."""
    if not isinstance(body, int | float) or not isinstance(leading, int | float):
        return f"backward of {block.moment}"
    label = block.growing_moment if at.lasting is False else block.moment
    return f"backward of {label.replace('*', str(int(max(leading + body - 1, 0))))}"


def _copies(at: Device, leading: Amount, body: Amount, *, ends: int) -> Amount:
    """Narrow copies of the weights of so many layers, and of the ends; gathered weights are narrow and need none."""
    pieces = at.pieces
    sizes = added(
        scaled(leading, pieces.leading.copies_bytes),
        scaled(body, pieces.body.copies_bytes),
        scaled(at.last * ends, pieces.after.copies_bytes),
        scaled(at.first * ends, pieces.before.copies_bytes),
    )
    return scaled(where(at.gathers, 0, where(at.keeps_gathered, 0, 1)), sizes)
