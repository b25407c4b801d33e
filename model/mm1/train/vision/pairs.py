"""Pairs of an image and its caption in a packed batch, for contrastive training.

    input_ids, document_ids (B, S) -> documents with one image and text -> for each: its image, its text, its sequence

The loader packs documents as for the decoder, so no second loader is needed. Everything here is on the host, where batches come
from.

Names of dimensions: B sequences, S tokens of a sequence, N pairs, M images of the batch, T tokens of a caption.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from mm1.data.load.collate import Batch

HASH_FACTOR = 1_000_003
"""Odd, so that the factors of no two positions are equal (mod 2^64)."""


class CaptionPairs(NamedTuple):
    """Pairs of a batch, in the order of its images."""

    images: torch.Tensor
    """Index of each pair's image in the batch (N,)."""
    text_ids: torch.Tensor
    """Caption with its end, and ends as padding (N, T)."""
    texts: torch.Tensor
    """Hash of the caption (N,): equal captions have equal ones."""
    rows: torch.Tensor
    """Sequence of each pair (N,)."""


def caption_pairs(batch: Batch, *, image_id: int, end_id: int, text_length: int) -> CaptionPairs:
    """Find the documents with one image and at least one token of text.

    Args:
        batch: of the loader, on the host.
        image_id: token ID of the image token.
        end_id: token ID of the end of a document, which also ends captions.
        text_length: maximum T; longer captions are cut.
    """
    documents_BS = batch["document_ids"].numpy().astype(np.int64)
    ids_BS = batch["input_ids"].numpy()
    keys_BS = documents_BS + np.arange(len(ids_BS))[:, None] * (documents_BS.max(initial=0) + 1)
    is_image_BS = ids_BS == image_id
    keys_M = _keys_of_images(keys_BS[is_image_BS], len(batch.get("pixel_values", ())))
    is_text_BS = (documents_BS != 0) & ~is_image_BS & (ids_BS != end_id)
    counts = np.bincount(keys_M, minlength=keys_BS.max(initial=0) + 1)
    lengths = np.bincount(keys_BS[is_text_BS], minlength=len(counts))
    images_N = np.flatnonzero((counts[keys_M] == 1) & (lengths[keys_M] > 0))
    keys_N = keys_M[images_N]
    text_ids_NT = _texts(ids_BS[is_text_BS], keys_BS[is_text_BS], keys_N, end_id, text_length)
    return CaptionPairs(
        torch.from_numpy(images_N),
        torch.from_numpy(text_ids_NT),
        torch.from_numpy(_hashes(text_ids_NT, end_id)),
        torch.from_numpy(keys_N // (documents_BS.max(initial=0) + 1)),
    )


def rows_of_images(batch: Batch, image_id: int) -> torch.Tensor:
    """Return the sequence of each image of a batch, (M,)."""
    rows, _ = np.nonzero(batch["input_ids"].numpy() == image_id)
    return torch.from_numpy(_keys_of_images(rows, len(batch.get("pixel_values", ()))).copy())


def _keys_of_images(keys: np.ndarray, num_images: int) -> np.ndarray:
    """Return the value at each image's first token; all images have equally many tokens."""
    return keys[:: max(len(keys) // max(num_images, 1), 1)]


def _texts(ids: np.ndarray, keys: np.ndarray, keys_N: np.ndarray, end_id: int, text_length: int) -> np.ndarray:
    """Copy the tokens of the documents ``keys_N``, in ascending order, to rows."""
    pairs = np.searchsorted(keys_N, keys)
    is_in_pair = pairs < len(keys_N)
    is_in_pair[is_in_pair] = keys_N[pairs[is_in_pair]] == keys[is_in_pair]
    ids, pairs = ids[is_in_pair], pairs[is_in_pair]
    lengths_N = np.bincount(pairs, minlength=len(keys_N))
    places = np.arange(len(pairs)) - (np.cumsum(lengths_N) - lengths_N)[pairs]
    width = min(int(lengths_N.max(initial=0)) + 1, text_length)
    texts_NT = np.full((len(keys_N), width), end_id, np.int64)
    fits = places < width - 1
    texts_NT[pairs[fits], places[fits]] = ids[fits]
    return texts_NT


def _hashes(texts_NT: np.ndarray, end_id: int) -> np.ndarray:
    """Hash the tokens of each row, whatever the number of ends after them."""
    values_NT = np.where(texts_NT == end_id, 0, texts_NT + 1)
    factors_T = np.cumprod(np.full(texts_NT.shape[1], HASH_FACTOR))  # mod 2^64
    return (values_NT * factors_T).sum(axis=1)
