"""The objectives of stage vision, with the interface of :class:`mm1.train.objective.Objective`.

    batch of the loader -> inputs (pairs, or prefixes), on the device -> model -> losses by sequence
    clip: outputs of all micro-batches and ranks -> contrast -> gradient of this micro-batch's outputs
    aim: losses / predicted patches of the global batch

Losses count pairs or predicted patches, where those of the language model count predicted tokens.

Names of dimensions: B sequences of a micro-batch, N images or pairs of a micro-batch, C maximum number of pairs of a
micro-batch, M micro-batches of a step over all ranks, G = M x C, E width of the space of the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mm1.data.load.collate import Batch
from mm1.train.engine import Engine
from mm1.train.objective import HeldOutSums
from mm1.train.vision.contrast import Contrast, Pool, contrast, pair_losses
from mm1.train.vision.inputs import AimInputs, ClipInputs


@dataclass
class VisionOutput:
    """Output of an objective for a micro-batch, as far as figures read it."""

    loss: torch.Tensor
    """What the engine differentiates; for clip only its gradient has a meaning."""
    sequence_loss: torch.Tensor
    """Sum of the losses of each sequence (B,), detached."""
    sequence_tokens: torch.Tensor
    """Pairs or predicted patches of each sequence (B,)."""
    hits: torch.Tensor | None = None
    """Pairs whose caption is the most similar one."""
    router_logits: None = None


class ClipObjective:
    """The contrastive loss over all pairs of the global batch.

    Args:
        engine: runs a :class:`mm1.train.vision.clip.ClipModel`.
        inputs: prepares a batch.
        capacity: maximum number of pairs of a micro-batch.
    """

    def __init__(self, engine: Engine, inputs: ClipInputs, capacity: int) -> None:
        self.engine, self.inputs, self.capacity = engine, inputs, capacity
        self._micro_batch = 0

    def totals(self, micro_batches: Sequence[Batch]) -> Contrast | None:
        """Compute the loss of the global batch; several micro-batches need a forward pass without gradients over all of them.

        Args:
            micro_batches: this rank's part of the global batch.

        Returns:
            None if each rank has one micro-batch: its own forward pass is enough.
        """
        self._micro_batch = 0
        return contrast(self._encode_all(micro_batches)) if len(micro_batches) > 1 else None

    def __call__(self, inputs: Batch, totals: Contrast | None) -> VisionOutput:
        """Run the towers on a micro-batch; the micro-batches of a step come in order."""
        image_NE, text_NE, log_scale = self._encode(inputs)
        if totals is None:
            totals = contrast(self._gather([(image_NE, text_NE, inputs["texts"])], log_scale))
        number = self.engine.batch_plan.micro_batches
        own = slice(first := self._first(self._micro_batch), first + len(inputs["texts"]))
        self._micro_batch += 1
        used = len(inputs["texts"])
        gain = (image_NE[:used] * totals.image_gradient[own]).sum() + (text_NE[:used] * totals.text_gradient[own]).sum()
        unused = 0.0 * (image_NE.sum() + text_NE.sum())  # a blank pair: all ranks differentiate the same layers
        loss = (gain + unused) * number + log_scale * totals.scale_gradient
        by_row_B = torch.zeros(len(inputs["document_ids"]), device=loss.device)
        return VisionOutput(
            loss=loss,
            sequence_loss=by_row_B.index_add(0, inputs["rows"], totals.losses[own]),
            sequence_tokens=by_row_B.index_add(0, inputs["rows"], torch.ones(used, device=loss.device)),
            hits=totals.hits[own].sum(),
        )

    def held_out(self, micro_batches: Sequence[Batch]) -> HeldOutSums:
        """Compute the losses of this rank's held-out pairs among those of all ranks and micro-batches; no gradients."""
        if not micro_batches:
            return HeldOutSums(*torch.zeros(3, dtype=torch.float64, device=self.engine.device))
        pool = self._encode_all(micro_batches)
        losses_G, hits_G = pair_losses(pool)
        own = slice(self._first(0, len(micro_batches)), self._first(len(micro_batches), len(micro_batches)))
        return HeldOutSums(losses_G[own].double().sum(), pool.used[own].double().sum(), hits_G[own].double().sum())

    def _first(self, micro_batch: int, accumulation: int = 0) -> int:
        """Return the first place of a micro-batch of this rank."""
        accumulation = accumulation or self.engine.batch_plan.accumulation
        return (self.engine.rank * accumulation + micro_batch) * self.capacity

    def _encode(self, inputs: Batch) -> Any:
        pixels = inputs["pixel_values"] if "pixel_values" in inputs else inputs["unused_pixel_values"]
        return self.engine(pixel_values=pixels, text_ids=inputs["text_ids"])

    @torch.no_grad()
    def _encode_all(self, micro_batches: Sequence[Batch]) -> Pool:
        """Encode all micro-batches, with the dropout masks of the next one, and gather them over the ranks."""
        devices = [self.engine.device] if self.engine.device.type == "cuda" else []
        encoded = []
        with torch.random.fork_rng(devices):
            for batch in micro_batches:
                inputs, _ = self.inputs(batch)
                image_NE, text_NE, log_scale = self._encode(inputs)
                encoded.append((image_NE, text_NE, inputs["texts"]))
        return self._gather(encoded, log_scale)

    @torch.no_grad()
    def _gather(self, encoded: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], log_scale: torch.Tensor) -> Pool:
        """Gather pairs over the ranks: each writes its places of a tensor of zeros, and the tensors are added."""
        width, world_size = encoded[0][0].shape[1], self.engine.batch_plan.world_size
        places = world_size * len(encoded) * self.capacity
        pairs_GW = torch.zeros(places, 2 * width + 1, device=self.engine.device)
        texts_G = torch.zeros(places, dtype=torch.long, device=self.engine.device)
        for number, (image_NE, text_NE, texts_N) in enumerate(encoded):
            used, first = len(texts_N), self._first(number, len(encoded))
            own = torch.cat([image_NE[:used], text_NE[:used], torch.ones(used, 1, device=image_NE.device)], dim=1)
            pairs_GW[first : first + used], texts_G[first : first + used] = own, texts_N
        image_GE, text_GE, used_G = self.engine.all_sum(pairs_GW).split([width, width, 1], dim=1)
        return Pool(image_GE, text_GE, self.engine.all_sum(texts_G), used_G[:, 0] > 0, log_scale)


class AimObjective:
    """The loss of the predicted patches, the mean over those of the global batch.

    Args:
        engine: runs a :class:`mm1.train.vision.aim.AimModel`.
        inputs: prepares a batch.
    """

    def __init__(self, engine: Engine, inputs: AimInputs) -> None:
        self.engine, self.inputs = engine, inputs

    def totals(self, micro_batches: Sequence[Batch]) -> float:
        """Count the predicted patches of the global batch, divided by the number of micro-batches.

        Args:
            micro_batches: this rank's part of the global batch.
        """
        prefixes = [self.inputs.prefixes(batch) for batch in micro_batches if "pixel_values" in batch]
        predicted = sum(float((self.inputs.num_patches - prefix_N).sum()) for prefix_N in prefixes)
        return max(self.engine.reduce([predicted])[0], 1.0) / self.engine.batch_plan.micro_batches

    def __call__(self, inputs: Batch, totals: float) -> VisionOutput:
        """Run the tower and its head on a micro-batch."""
        losses_N, predicted_N = self._losses(inputs)
        by_row_B = torch.zeros(len(inputs["document_ids"]), device=losses_N.device)
        used = len(inputs["rows"])
        return VisionOutput(
            loss=losses_N[:used].sum() / totals + 0.0 * losses_N.sum(),
            sequence_loss=by_row_B.index_add(0, inputs["rows"], losses_N[:used].detach()),
            sequence_tokens=by_row_B.index_add(0, inputs["rows"], predicted_N[:used].float()),
        )

    def held_out(self, micro_batches: Sequence[Batch]) -> HeldOutSums:
        """Compute the losses of this rank's held-out images; no gradients."""
        sums = torch.zeros(3, dtype=torch.float64, device=self.engine.device)
        for batch in micro_batches:
            inputs, _ = self.inputs(batch)
            losses_N, predicted_N = self._losses(inputs)
            used = len(inputs["rows"])
            sums[0] += losses_N[:used].double().sum()
            sums[1] += predicted_N[:used].sum()
        return HeldOutSums(sums[0], sums[1])

    def _losses(self, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = inputs["pixel_values"] if "pixel_values" in inputs else inputs["unused_pixel_values"]
        return self.engine(pixel_values=pixels, prefix=inputs["prefix"]), self.inputs.num_patches - inputs["prefix"]
