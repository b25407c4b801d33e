"""Model inputs of a micro-batch, such that all ranks run the same layers.

    batch of the loader -> device, images normalised, a blank image if it has none -> inputs of the model

A collective needs all ranks. ZeRO gathers weights in the forward pass and reduces gradients in the backward pass, so a rank
whose micro-batch has no images must still run tower and connector, on images of the size that the other ranks have.
"""

from __future__ import annotations

import torch

from mm1.data.load.collate import Batch, PixelNorm
from mm1.manifests import DataMix
from mm1.modeling.modeling import MM1ForConditionalGeneration


class ModelInputs:
    """Prepares batches of the loader for the model.

    Args:
        device: device of the model.
        norm: normalises uint8 images on the device.
        blank: image (1, 3, P, P) that the model encodes, and does not use, in a batch without images; None = such a batch does
            not run tower and connector.
    """

    def __init__(self, device: torch.device, norm: PixelNorm, blank: torch.Tensor | None) -> None:
        self.device = device
        self.norm = norm
        self.blank = None if blank is None else blank.to(device)

    def __call__(self, batch: Batch) -> tuple[Batch, torch.Tensor]:
        """Prepare a batch.

        Args:
            batch: of the loader (:func:`mm1.data.load.collate.as_batch`); not changed.

        Returns:
            Arguments of the model's forward pass, and source_ids_B, both on the device.
        """
        inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        source_ids_B = inputs.pop("source_ids")
        if "pixel_values" not in inputs:
            return inputs if self.blank is None else {**inputs, "unused_pixel_values": self.blank}, source_ids_B
        if inputs["pixel_values"].dtype == torch.uint8:
            inputs["pixel_values"] = self.norm(inputs["pixel_values"])
        return inputs, source_ids_B


def blank_image(model: MM1ForConditionalGeneration, mix: DataMix) -> torch.Tensor | None:
    """Return the blank image (1, 3, P, P) of a run, of the mixture's size P.

    Args:
        model: before it is partitioned, with its frozen parameters marked.
        mix: its images, or a trained weight of tower or connector, make every batch run both.

    Returns:
        An image of the mean colour; None if no rank ever runs tower and connector.
    """
    parts = (model.model.vision_tower, model.model.connector)
    trained = any(parameter.requires_grad for part in parts for parameter in part.parameters())
    if not trained and not mix.has_images:
        return None
    return torch.zeros(1, 3, mix.image_size_px, mix.image_size_px)
