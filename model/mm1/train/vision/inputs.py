"""Inputs of the objectives of stage vision: the images that count, with what describes them.

    batch of the loader -> clip: images and texts of pairs; aim: images and prefixes -> device

A micro-batch without images has the blank one, with a text or a prefix, so that all ranks run the same layers; it has no row.

Names of dimensions: B sequences, N images or pairs of a micro-batch.
"""

from __future__ import annotations

import torch

from mm1.data.load.collate import Batch
from mm1.train.inputs import ModelInputs
from mm1.train.vision.aim import prefixes
from mm1.train.vision.pairs import caption_pairs, rows_of_images


class VisionInputs:
    """Common part of the inputs of both objectives: the images that count, or the blank one.

    Args:
        inputs: prepares images.
        image_id: token ID of the image token.
    """

    def __init__(self, inputs: ModelInputs, image_id: int) -> None:
        self.inputs, self.image_id = inputs, image_id

    def prepare(self, batch: Batch, images_N: torch.Tensor, extra: Batch) -> tuple[Batch, torch.Tensor]:
        """Move a batch with some of its images, and the tensors that describe them, to the device."""
        chosen = {name: batch[name] for name in ("document_ids", "source_ids")}
        if len(images_N):
            chosen["pixel_values"] = batch["pixel_values"][images_N]
        prepared, source_ids_B = self.inputs(chosen)
        return prepared | {name: tensor.to(self.inputs.device) for name, tensor in extra.items()}, source_ids_B


class ClipInputs(VisionInputs):
    """Inputs of a micro-batch of pairs.

    Args:
        inputs: prepares images.
        image_id: token ID of the image token.
        end_id: token ID that ends a caption.
        text_length: maximum number of tokens of a caption.
    """

    def __init__(self, inputs: ModelInputs, image_id: int, end_id: int, text_length: int) -> None:
        super().__init__(inputs, image_id)
        self.end_id, self.text_length = end_id, text_length

    def __call__(self, batch: Batch) -> tuple[Batch, torch.Tensor]:
        """Prepare a batch: images with ``text_ids``, ``texts``, ``rows`` of the pairs; and source_ids_B."""
        pairs = caption_pairs(batch, image_id=self.image_id, end_id=self.end_id, text_length=self.text_length)
        if not len(pairs.images):
            blank = {"text_ids": torch.full((1, 2), self.end_id), "texts": torch.zeros(0).long(), "rows": torch.zeros(0).long()}
            return self.prepare(batch, pairs.images, blank)
        extra = {"text_ids": pairs.text_ids, "texts": pairs.texts, "rows": pairs.rows}
        return self.prepare(batch, pairs.images, extra)


class AimInputs(VisionInputs):
    """Inputs of a micro-batch of images.

    Args:
        inputs: prepares images.
        image_id: token ID of the image token.
        num_patches: patches of an image.
    """

    def __init__(self, inputs: ModelInputs, image_id: int, num_patches: int) -> None:
        super().__init__(inputs, image_id)
        self.num_patches = num_patches

    def __call__(self, batch: Batch) -> tuple[Batch, torch.Tensor]:
        """Prepare a batch: images with ``prefix`` and ``rows``; and source_ids_B."""
        rows_N = rows_of_images(batch, self.image_id)
        if not len(rows_N):
            return self.prepare(batch, rows_N, {"prefix": torch.ones(1).long(), "rows": rows_N})
        return self.prepare(batch, torch.arange(len(rows_N)), {"prefix": self.prefixes(batch), "rows": rows_N})

    def prefixes(self, batch: Batch) -> torch.Tensor:
        """Choose the prefix of each image of a batch that has some."""
        rows_N = rows_of_images(batch, self.image_id)
        starts_N = torch.arange(len(rows_N)) - torch.searchsorted(rows_N, rows_N)
        return prefixes(batch["pixel_values"], starts_N, self.num_patches)
