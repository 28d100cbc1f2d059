"""What does one device of a layout hold of the pieces? Its layers and ends, what is there throughout, what is shared.

Every formula takes numbers, for one layout, or arrays that broadcast against each other, for many at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hwprof.count.job.pipeline_stages import holds_first, holds_last, in_flight, layers_held
from hwprof.count.memory.pieces import Block, Held, Pieces
from hwprof.count.ops.elementwise import Amount, added, larger, scaled, smaller, where
from hwprof.specs.job.schedules import TRAITS, Schedule


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

    stages: Amount
    virtual_stages: Amount
    micro_batches: Amount
    replicas: Amount
    shards: Amount
    zero_stage: Amount
    schedule: Schedule


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device: how many layers of each sort it has, which ends, what waits in it.

    Attributes:
        pieces: of the model.
        spread: the layout, or many of them.
        device: its place in the pipeline, from 0.
    """

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
        """1 where it has the embedding, else 0."""
        return where(holds_first(self.spread.schedule, self.device, self.spread.stages), 1, 0)

    @cached_property
    def last(self) -> Amount:
        """1 where it has the head, else 0."""
        return where(holds_last(self.spread.schedule, self.device, self.spread.stages), 1, 0)

    @cached_property
    def chunk(self) -> Amount:
        """Share of the device's layers that one micro-batch passes at a time."""
        chunks = 2 if TRAITS[self.spread.schedule].two_chunks else self.spread.virtual_stages
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
        """Micro-batches that have passed the head and wait, where a schedule does not turn back at once."""
        return self.spread.micro_batches - 1 if TRAITS[self.spread.schedule].forward_first else 0

    @cached_property
    def lasting(self) -> Amount:
        """Whether gradients are there from the start of a backward."""
        return self.pieces.lasting_gradients or self.spread.micro_batches > 1

    @cached_property
    def _dense_ranks(self) -> Amount:
        """Over how many ranks ZeRO divides; DualPipe's two copies of a stage double them."""
        return self.spread.shards * (2 if TRAITS[self.spread.schedule].two_way else 1)

    @cached_property
    def _expert_ranks(self) -> Amount:
        return larger(self._dense_ranks * self.pieces.expert_replication, 1)

    def of_blocks(self, amount: Callable[[Block], Amount]) -> Amount:
        """Sum over the ends and layers of the device."""
        leading, body = self.layers
        pieces = self.pieces
        return added(
            scaled(self.first, amount(pieces.before)),
            scaled(leading, amount(pieces.leading)),
            scaled(body, amount(pieces.body)),
            scaled(self.last, amount(pieces.after)),
        )

    def held(self, amount: Callable[[Held], Amount], since_stage: int) -> Amount:
        """Sum of what weights take, as ZeRO divides it from a stage on."""
        dense = self.of_blocks(lambda block: amount(block.dense))
        experts = self.of_blocks(lambda block: amount(block.experts))
        again = scaled(where(self.spread.stages > 1, self.last - self.first * self.last, 0), amount(self.pieces.tied))
        divides = self.spread.zero_stage >= since_stage
        return added(
            added(dense, again) / where(divides, self._dense_ranks, 1),
            scaled(1 / where(divides, self._expert_ranks, 1), experts),
        )

    @cached_property
    def always(self) -> dict[str, Amount]:
        """What is there throughout the step."""
        pieces = self.pieces
        return {
            "weights": scaled(self.held(_weights, 2 if pieces.bucketed_gradients else 3), pieces.weights_on_device),
            "optimizer state": scaled(self.held(_state, 1), pieces.state_on_device),
            "rotary tables": pieces.tables_bytes,
            "gradient placeholders": pieces.placeholder_bytes,
            "communication buckets": self.buckets,
            "pipeline transfers": where(self.spread.stages > 1, 2 * pieces.stream_bytes, 0.0),
            "pipeline outputs": self.pipeline_outputs,
        }

    @cached_property
    def pipeline_outputs(self) -> Amount:
        """Logits that the last stage of torch's pipelines hands back, of all micro-batches (``output_chunks``)."""
        of_all = scaled(self.last * self.spread.micro_batches, self.pieces.pipeline_output_bytes)
        return where(self.spread.stages > 1, of_all, 0.0)

    @cached_property
    def always_bytes(self) -> Amount:
        """All of that."""
        return added(*self.always.values())

    @cached_property
    def all_gradients(self) -> Amount:
        """Gradients of all weights, as ZeRO divides them."""
        return scaled(self.pieces.gradients_on_device, self.held(_gradients, 2))

    @cached_property
    def waiting_gradients(self) -> Amount:
        """Those that add up over micro-batches: FSDP2 in a pipeline reduces them after the last one only.

        Until then each rank holds them whole, in the format in which they are reduced (torch/distributed/pipelining/
        stage.py: ``backward_maybe_with_nosync``; FSDPParam's ``to_accumulated_grad_if_needed``).
        """
        if not self.pieces.streams:
            return self.all_gradients
        whole = where(self.sharded_streams, self.spread.stages > 1, False)
        return where(whole, scaled(self.pieces.gradients_on_device, self.held(_gradients, 4)), self.all_gradients)

    @cached_property
    def buckets(self) -> Amount:
        """DDP's copies of gradients that come and go; DeepSpeed's two buckets, of gradients and of gathered weights."""
        pieces, spread = self.pieces, self.spread
        if pieces.bucketed_gradients and not pieces.lasting_gradients:
            return where((spread.zero_stage < 2) & (spread.replicas > 1), self.all_gradients, 0.0)
        return 2 * smaller(pieces.bucket_bytes, self.held(_gradients, 4)) if pieces.bucket_bytes else 0.0

    @cached_property
    def gathers(self) -> Amount:
        """Whether whole weights come to the device, or narrow copies to be, when they are used."""
        sharded = (self.spread.zero_stage >= 3) & (self.spread.shards > 1)
        return sharded | (self.pieces.weights_on_device < 1) | self.pieces.narrows_in_use

    @cached_property
    def keeps_gathered(self) -> Amount:
        """Whether these stay until their layer's backward: FSDP that does not reshard after the forward (stage 2)."""
        return (self.spread.zero_stage == 2) & (self.spread.shards > 1) & self.pieces.bucketed_gradients

    @cached_property
    def arriving(self) -> Amount:
        """Whole weights of a layer in the buffer that they are gathered into, before each has its place."""
        return larger(*(self._whole(_gathered, block) for block in (self.pieces.leading, self.pieces.body)))

    @cached_property
    def gathered_ends(self) -> Amount:
        """Whole weights of the embedding and of what follows the layers."""
        before, after = (_gathered(block.dense) for block in (self.pieces.before, self.pieces.after))
        return added(scaled(self.first, before), scaled(self.last, after))

    def gathered(self, leading: Amount, body: Amount, *, layers: int) -> Amount:
        """Whole weights of the ends, and of so many layers, or of all that wait for their backward."""
        pieces, ends = self.pieces, self.gathered_ends
        of_leading, of_body = (self._whole(_gathered, block) for block in (pieces.leading, pieces.body))
        used = added(ends if pieces.keeps_ends or not layers else 0.0, layers * self.arriving)
        if pieces.live_bytes:
            used = larger(used, smaller(pieces.live_bytes, self.held(_gathered, 4)))
        in_work = where(self.gathers, used, 0.0)
        waiting = added(ends, scaled(leading, of_leading), scaled(body, of_body))
        return where(self.keeps_gathered, waiting, in_work)

    @cached_property
    def sharded_streams(self) -> Amount:
        """Whether gradients and gathered weights come from pools of their own: FSDP's streams."""
        return ((self.spread.zero_stage >= 2) & (self.spread.shards > 1)) if self.pieces.streams else False

    def _whole(self, amount: Callable[[Held], Amount], block: Block) -> Amount:
        """Of a layer's weights those that are divided over ranks; experts may have no other rank."""
        experts = where(self._expert_ranks > 1, 1, 0)
        return added(amount(block.dense), scaled(experts, amount(block.experts)))

    def gradients(self, layers: Amount, ends: Amount) -> Amount:
        """All of them, or those that backward has reached; whole ones of the ends are being reduced."""
        if self.pieces.lasting_gradients:
            return self.waiting_gradients
        reached = added(layers / self._gradient_ranks, where(self._gradient_ranks > 1, 0.0, ends))
        return where(self.lasting, self.waiting_gradients, scaled(self.pieces.gradients_on_device, reached))

    @cached_property
    def changing(self) -> bool:
        """Whether gradients grow or are divided over ranks, in any of the layouts."""
        ranks = self._gradient_ranks
        divided = ranks > 1
        return self.lasting is not True or bool(divided if isinstance(divided, bool) else divided.any())

    @cached_property
    def _gradient_ranks(self) -> Amount:
        return where(self.spread.zero_stage >= 2, self._dense_ranks, 1)

    def working(self, block: Block) -> Amount:
        """The most that a block's backward takes beside what is kept; its own gradients are whole in it."""
        if self.pieces.lasting_gradients:
            return block.working_bytes
        grow = (self._gradient_ranks > 1) | (self.lasting == 0)
        return where(grow, block.growing_bytes, block.working_bytes)

    def reduced(self, block: Block, ends: Amount, *, layers: int) -> Amount:
        """Whole gradients on their way to the ranks that own them: of the layer before, of the ends to the last."""
        kept = self.pieces.keeps_ends and not self.pieces.lasting_gradients
        waiting = scaled(self.pieces.whole_gradient_share, ends) if kept else 0.0
        whole = added(scaled(layers, self._whole(_reduced, block)), waiting)
        return where(self._gradient_ranks > 1, whole, 0.0)

    def on_device(self, layers: Amount) -> Amount:
        """Of so many layers' activations those that are on the device: two at least, where the host has others."""
        share = self.pieces.activations_on_device
        return layers if share == 1 else larger(scaled(share, layers), smaller(layers, 2))


def _weights(held: Held) -> Amount:
    return held.weights_bytes


def _gradients(held: Held) -> Amount:
    return held.gradient_bytes


def _state(held: Held) -> Amount:
    return held.state_bytes


def _gathered(held: Held) -> Amount:
    return held.gathered_bytes


def _reduced(held: Held) -> Amount:
    return held.reduced_bytes
