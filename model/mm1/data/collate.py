"""From documents to the tensors that the model takes.

    rows of documents -> input_ids, labels, position_ids, document_ids (B, S) and pixel_values (N, 3, P, P)

Names of dimensions: B sequences, S tokens of a sequence, T tokens of a document, N images of the batch, P side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mm1.data.documents import Document
from mm1.errors import DataError

NO_LOSS = -100
"""Label of a token that bears no loss (torch's default)."""
Batch = dict[str, torch.Tensor]


class Collator:
    """Packs documents into a batch.

    Args:
        sequence_length: tokens of a sequence (S); shorter rows are padded.
        image_tokens: tokens that stand for one image.
        image_id: the image token.
        padding_id: token in the padding.
        image_mean: mean of each channel, of values in [0, 1].
        image_std: standard deviation of each channel.
    """

    def __init__(
        self,
        *,
        sequence_length: int,
        image_tokens: int,
        image_id: int,
        padding_id: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        self.sequence_length = sequence_length
        self.image_tokens = image_tokens
        self.image_id = image_id
        self.padding_id = padding_id
        self._mean_3 = 255 * torch.tensor(image_mean, dtype=torch.float32)
        self._std_3 = 255 * torch.tensor(image_std, dtype=torch.float32)

    def __call__(self, rows: Sequence[Sequence[Document]], source_ids: Sequence[int]) -> Batch:
        """Make a batch.

        Args:
            rows: documents of each sequence.
            source_ids: source of each sequence, an index into the mixture's sources.

        Returns:
            ``input_ids``, ``labels`` (not shifted; -100 = no loss), ``position_ids`` (from 0 in each document) int64 and
            ``document_ids`` (1, 2, ... within a row; 0 = padding) int32, all (B, S); ``source_ids`` (B,) int64;
            ``pixel_values`` (N, 3, P, P) float32, absent without images.

        Raises:
            DataError: image tokens and images do not match.
        """
        shape = (len(rows), self.sequence_length)
        input_ids_BS = np.full(shape, self.padding_id, np.int64)
        labels_BS = np.full(shape, NO_LOSS, np.int64)
        position_ids_BS = np.zeros(shape, np.int64)
        document_ids_BS = np.zeros(shape, np.int32)
        for row, documents in enumerate(rows):
            end = 0
            for number, document in enumerate(documents, start=1):
                start, end = end, end + len(document.ids)
                input_ids_BS[row, start:end] = document.ids
                labels_BS[row, start:end] = np.where(document.loss, document.ids, NO_LOSS)
                position_ids_BS[row, start:end] = np.arange(end - start)
                document_ids_BS[row, start:end] = number
        batch = {
            "input_ids": torch.from_numpy(input_ids_BS),
            "labels": torch.from_numpy(labels_BS),
            "position_ids": torch.from_numpy(position_ids_BS),
            "document_ids": torch.from_numpy(document_ids_BS),
            "source_ids": torch.tensor(source_ids, dtype=torch.int64),
        }
        images = [image for documents in rows for document in documents for image in document.images]
        num_image_tokens = int((input_ids_BS == self.image_id).sum())
        if num_image_tokens != len(images) * self.image_tokens:
            raise DataError(f"{num_image_tokens} image tokens for {len(images)} images of {self.image_tokens} tokens each")
        if images:
            pixels_NPP3 = torch.from_numpy(np.stack(images))
            values_NPP3 = pixels_NPP3.to(torch.float32).sub_(self._mean_3).div_(self._std_3)
            batch["pixel_values"] = values_NPP3.permute(0, 3, 1, 2).contiguous()
        return batch
