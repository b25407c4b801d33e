"""Conversion of documents to the model's input tensors.

    rows of spans of documents -> input_ids, labels, position_ids, document_ids (B, S) and pixel_values (N, P, P, 3) uint8

The arrays can be in any buffer. In shared memory, images are decoded directly into their slots, and nothing is copied on
the way to the trainer. Values are normalised on the device.

Shape suffixes: B sequences, S tokens of a sequence, N images of the batch (an image in tiles is several), P side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from mm1.data.images import Pixels, decode_tiles
from mm1.data.load.documents import Document
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError
from mm1.manifests import DataMix

NO_LOSS = -100
"""Label of tokens without loss (torch's default)."""
ALIGNMENT = 64
"""Alignment of the arrays in a buffer, in bytes."""
Batch = dict[str, torch.Tensor]
Ints = np.ndarray[Any, np.dtype[np.int64]]


class DocumentSpan(NamedTuple):
    """A document, or a part of one, in a sequence: its tokens from ``start`` to ``stop``."""

    document: Document
    start: int
    stop: int


@dataclass(frozen=True)
class BatchShape:
    """Maximum sizes of a micro-batch.

    Args:
        sequences: B.
        sequence_length: S.
        max_images: maximum images per sequence; the tiles of an image count as images.
        side_px: P.
    """

    sequences: int
    sequence_length: int
    max_images: int
    side_px: int

    def fields(self) -> list[tuple[str, tuple[int, ...], Any]]:
        """Name, shape and dtype of each array."""
        by_token = (self.sequences, self.sequence_length)
        pixels = (self.sequences * self.max_images, self.side_px, self.side_px, 3)
        return [
            ("input_ids", by_token, np.int64),
            ("labels", by_token, np.int64),
            ("position_ids", by_token, np.int64),
            ("document_ids", by_token, np.int32),
            ("source_ids", (self.sequences,), np.int64),
            ("pixel_values", pixels, np.uint8),
        ]

    @property
    def num_bytes(self) -> int:
        """Size in bytes of a buffer for all arrays."""
        return sum(_padded(shape, dtype) for _, shape, dtype in self.fields())

    def arrays(self, buffer: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, np.ndarray[Any, Any]]:
        """Create views of the arrays in a byte buffer, which they keep alive."""
        arrays, start = {}, 0
        for name, shape, dtype in self.fields():
            num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            arrays[name] = buffer[start : start + num_bytes].view(dtype).reshape(shape)
            start += _padded(shape, dtype)
        return arrays


def _padded(shape: tuple[int, ...], dtype: Any) -> int:
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return num_bytes + -num_bytes % ALIGNMENT


class Collator:
    """Packs documents into the arrays of a batch.

    Args:
        image_tokens: tokens per image.
        image_id: token ID of the image token.
        padding_id: token ID of the padding.
        keep: whether documents cache their decoded images.
        isolated: whether the documents of a sequence are numbered apart. Otherwise all have the number 1 and one line of
            positions, so that tokens attend to earlier documents; the first token of a document has no loss in either case.
    """

    def __init__(self, *, image_tokens: int, image_id: int, padding_id: int, keep: bool, isolated: bool = True) -> None:
        self.image_tokens = image_tokens
        self.image_id = image_id
        self.padding_id = padding_id
        self.keep = keep
        self.isolated = isolated

    @classmethod
    def of_mixture(cls, mix: DataMix, tokenizer: TextTokenizer, *, keep: bool) -> Collator:
        """Create the collator of a mixture."""
        return cls(
            image_tokens=mix.image_tokens,
            image_id=tokenizer.image_id,
            padding_id=tokenizer.eos_id,
            keep=keep,
            isolated=not mix.cross_document_attention,
        )

    def fill(
        self, arrays: dict[str, np.ndarray[Any, Any]], rows: Sequence[Sequence[DocumentSpan]], sources: Sequence[int]
    ) -> tuple[int, list[str]]:
        """Fill the arrays of a batch.

        Args:
            arrays: the output of :meth:`BatchShape.arrays`.
            rows: the document spans of each sequence, in order.
            sources: source of each sequence, an index into the mixture's sources.

        Returns:
            The number of images, and the errors of skipped spans (they become padding).
        """
        arrays["input_ids"].fill(self.padding_id)
        arrays["labels"].fill(NO_LOSS)
        arrays["position_ids"].fill(0)
        arrays["document_ids"].fill(0)
        arrays["source_ids"][:] = sources
        names = ("input_ids", "labels", "position_ids", "document_ids", "pixel_values")
        ids_BS, labels_BS, positions_BS, documents_BS, pixels_NPP3 = (arrays[name] for name in names)
        positions_S = np.arange(ids_BS.shape[1])
        num_images, damaged = 0, []
        for row, spans in enumerate(rows):
            end = documents = 0
            for document, start, stop in spans:
                try:
                    images = self._decode(document, document.places(start, stop), pixels_NPP3[num_images:])
                except _AlreadyReported:
                    continue
                except DataError as error:
                    damaged.append(f"{document.name}: {error}")
                    continue
                num_images += images
                begin, end, documents = end, end + stop - start, documents + 1
                ids = document.ids[start:stop]
                ids_BS[row, begin:end] = ids
                np.copyto(labels_BS[row, begin:end], ids, where=document.loss[start:stop])
                if self.isolated:
                    positions_BS[row, begin:end] = positions_S[: stop - start]
                    documents_BS[row, begin:end] = documents
                else:
                    labels_BS[row, begin] = NO_LOSS
                    positions_BS[row, begin:end] = positions_S[begin:end]
                    documents_BS[row, begin:end] = 1
        return num_images, damaged

    def _decode(self, document: Document, places: range, out_NPP3: Pixels) -> int:
        end = 0
        for index in places:
            image, tiles = document.images[index], document.tiles[index]
            start, end = end, end + tiles.count
            if isinstance(image, bytes):
                try:
                    decode_tiles(image, tiles, out_NPP3[start:end])
                except DataError as error:
                    document.images[index] = error  # decode and report it only once
                    raise
                if self.keep:
                    document.images[index] = out_NPP3[start:end].copy()
            elif isinstance(image, DataError):
                raise _AlreadyReported
            else:
                out_NPP3[start:end] = image
        return end


class _AlreadyReported(Exception):
    """An image already known to be damaged."""


def as_batch(arrays: dict[str, np.ndarray[Any, Any]], num_images: int) -> Batch:
    """Wrap the arrays as tensors without copying.

    Returns:
        ``input_ids``, ``labels`` (not shifted; -100 = no loss), ``position_ids`` (from 0 in each document) int64 and
        ``document_ids`` (1, 2, ... within a row; 0 = padding) int32, all (B, S); ``source_ids`` (B,) int64;
        ``pixel_values`` (N, P, P, 3) uint8, absent without images.
    """
    batch = {name: torch.from_numpy(array) for name, array in arrays.items() if name != "pixel_values"}
    if num_images:
        batch["pixel_values"] = torch.from_numpy(arrays["pixel_values"][:num_images])
    return batch


class PixelNorm:
    """Normalises images on the batch's device.

    Args:
        image_mean: mean of each channel, for values in [0, 1].
        image_std: standard deviation of each channel.
    """

    def __init__(self, image_mean: Sequence[float], image_std: Sequence[float]) -> None:
        self._mean_3 = 255 * torch.tensor(image_mean, dtype=torch.float32)
        self._std_3 = 255 * torch.tensor(image_std, dtype=torch.float32)

    def __call__(self, pixels_NPP3: torch.Tensor) -> torch.Tensor:
        """Convert uint8 (N, P, P, 3) to contiguous float32 (N, 3, P, P)."""
        mean_3, std_3 = self._mean_3.to(pixels_NPP3.device), self._std_3.to(pixels_NPP3.device)
        values_NPP3 = pixels_NPP3.to(torch.float32).sub_(mean_3).div_(std_3)
        return values_NPP3.permute(0, 3, 1, 2).contiguous()
