"""Batched rendering of scenes to pixels.

Data flow: scenes -> arrays of attributes -> one pass per (cell, shape) with a distance function and a soft edge ->
letter by area sampling, from 64 pixels on the fine mark -> noise -> 8-bit images -> JPEG. Every call draws new jitter and
noise, so no two images are equal, even of equal scenes.

Shape suffixes: N images, M objects of one shape in one cell, S side of the image, C side of a cell (S / 2), all in
pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mm1.coordinates import Box, box_of_corners
from mm1.world.marks import MARK_GRID, draw_marks, shows_marks
from mm1.world.scene import NUM_SHAPES, Scene

Floats = NDArray[np.float32]
Boxes = list[list[Box]]
"""Boxes of the objects of each image, in the order of the objects."""

COLOUR_VALUES = np.array(
    [(0.90, 0.15, 0.15), (0.15, 0.80, 0.20), (0.20, 0.35, 0.95), (0.95, 0.85, 0.15), (0.65, 0.20, 0.80), (0.15, 0.85, 0.85)],
    dtype=np.float32,
)
"""RGB values in 0..1 of red, green, blue, yellow, purple, cyan."""

RADII = np.array([0.45, 0.80], dtype=np.float32)
"""Radius of small and big objects, in half cells."""

COLOUR_JITTER, RADIUS_JITTER, POSITION_JITTER, PIXEL_NOISE = 0.06, 0.05, 0.10, 0.05
BACKGROUND_LEVELS = np.array([0.10, 0.15, 0.20, 0.25], dtype=np.float32)

GLYPHS = ("100100100100111", "111010010010010", "101101010101101", "111101101101111", "101101111101101", "101101101101010")
"""Bitmaps of the letters l t x o h v, 5 rows by 3 columns."""

GLYPH_BITS = np.array([[int(bit) for bit in glyph] for glyph in GLYPHS], dtype=np.float32).reshape(-1, 5, 3)
GLYPH_CELL = 1 / 40
"""Side of one bit of a letter relative to the image's side: below one pixel at 32 px, so that resolution matters."""

CELL_ORIGINS = ((0, 0), (0, 1), (1, 0))
"""Row and column of the cells left, right and bottom."""

JPEG_QUALITY = 95
BATCH = 1024


def _triangle(x: Floats, y: Floats, r: Floats) -> Floats:
    # An equilateral triangle, moved down by a fifth of its radius to centre it in its cell.
    y = y - 0.2 * r
    distance: Floats = np.maximum(y - 0.5 * r, 0.866 * np.abs(x) - 0.5 * y - 0.5 * r)
    return distance


def _cross(x: Floats, y: Floats, r: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    distance: Floats = np.minimum(np.maximum(x - 0.3 * r, y - r), np.maximum(x - r, y - 0.3 * r))
    return distance


DISTANCES: tuple[Callable[[Floats, Floats, Floats], Floats], ...] = (
    lambda x, y, r: np.sqrt(x * x + y * y) - r,
    lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) - 0.85 * r,
    _triangle,
    _cross,
    lambda x, y, r: np.abs(np.sqrt(x * x + y * y) - 0.78 * r) - 0.22 * r,
)
"""Signed distance to the outline of circle, square, triangle, cross and ring, in half cells."""

EXTENTS = np.array(
    [(-1, -1, 1, 1), (-0.85, -0.85, 0.85, 0.85), (-0.866, -0.8, 0.866, 0.7), (-1, -1, 1, 1), (-1, -1, 1, 1)], dtype=np.float32
)
"""Left, top, right and bottom of each shape relative to its centre, in radii."""


def _jitter(rng: np.random.Generator, shape: tuple[int, ...], amount: float) -> Floats:
    return (rng.random(shape, dtype=np.float32) * 2 - 1) * np.float32(amount)


def _paint(images_NSS3: Floats, image_M: NDArray[np.int64], cell: tuple[int, int], mask_MCC: Floats, colour_M3: Floats) -> None:
    side = mask_MCC.shape[1]
    rows, columns = slice(cell[0] * side, (cell[0] + 1) * side), slice(cell[1] * side, (cell[1] + 1) * side)
    patch_MCC3 = images_NSS3[image_M, rows, columns]
    patch_MCC3 += mask_MCC[..., None] * (colour_M3[:, None, None, :] - patch_MCC3)
    images_NSS3[image_M, rows, columns] = patch_MCC3


def _paint_objects(images_NSS3: Floats, scenes: Sequence[Scene], rng: np.random.Generator) -> Floats:
    """Paint all objects; returns left, top, right and bottom as shares of the image's side, in the order of the scenes."""
    flat = np.array([(index, *thing) for index, scene in enumerate(scenes) for thing in scene.objects], dtype=np.int64)
    corners = np.empty((len(flat), 4), dtype=np.float32)
    side = images_NSS3.shape[1] // 2
    axis_C = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)
    for index, cell in enumerate(CELL_ORIGINS):
        for shape in range(NUM_SHAPES):
            is_chosen = (flat[:, 1] == shape) & (flat[:, 4] == index)
            chosen = flat[is_chosen]
            count = len(chosen)
            if not count:
                continue
            centre_M2 = _jitter(rng, (count, 2), POSITION_JITTER)
            radius_M11 = (RADII[chosen[:, 3]] * (1 + _jitter(rng, (count,), RADIUS_JITTER)))[:, None, None]
            x_M1C = axis_C[None, None, :] - centre_M2[:, 0, None, None]
            y_MC1 = axis_C[None, :, None] - centre_M2[:, 1, None, None]
            distance_MCC = DISTANCES[shape](x_M1C, y_MC1, radius_M11)
            mask_MCC = np.clip(0.5 - distance_MCC * np.float32(side / 2), 0, 1)
            colour_M3 = COLOUR_VALUES[chosen[:, 2]] + _jitter(rng, (count, 3), COLOUR_JITTER)
            _paint(images_NSS3, chosen[:, 0], cell, mask_MCC, colour_M3)
            in_cell = np.tile(centre_M2, 2) + EXTENTS[shape] * radius_M11[:, 0]
            corners[is_chosen] = (np.array([cell[1], cell[0], cell[1], cell[0]], dtype=np.float32) + (in_cell + 1) / 2) / 2
    return corners


def _coverage(start_N: Floats, bits: int, bit_px: float, side: int) -> Floats:
    """Compute the fraction of each of ``side`` pixels covered by each bit along one axis, (N, side, bits)."""
    pixel = np.arange(side, dtype=np.float32)[None, :, None]
    left = start_N[:, None, None] + np.arange(bits, dtype=np.float32)[None, None, :] * np.float32(bit_px)
    overlap: Floats = np.clip(np.minimum(pixel + 1, left + np.float32(bit_px)) - np.maximum(pixel, left), 0, 1)
    return overlap


def _paint_tags(images_NSS3: Floats, scenes: Sequence[Scene], rng: np.random.Generator) -> None:
    count, side = len(scenes), images_NSS3.shape[1] // 2
    bit_px = images_NSS3.shape[1] * GLYPH_CELL
    centre_N2 = side / 2 + _jitter(rng, (count, 2), POSITION_JITTER) * np.float32(side / 2)
    rows_NC5 = _coverage(centre_N2[:, 0] - np.float32(2.5 * bit_px), 5, bit_px, side)
    columns_NC3 = _coverage(centre_N2[:, 1] - np.float32(1.5 * bit_px), 3, bit_px, side)
    mask_NCC = _sampled(rows_NC5, GLYPH_BITS[[scene.tag for scene in scenes]], columns_NC3)
    colour_N3 = np.float32(0.9) + _jitter(rng, (count, 3), COLOUR_JITTER)
    _paint(images_NSS3, np.arange(count), (1, 1), mask_NCC, colour_N3)


def _sampled(rows_NCR: Floats, bits_NRB: Floats, columns_NCB: Floats) -> Floats:
    """Sample bitmaps by area, given the pixels' coverage by their rows and columns."""
    # Explicit sums instead of a matrix product, so that the order of additions does not depend on the machine's BLAS.
    bands_NCB = (rows_NCR[:, :, :, None] * bits_NRB[:, None, :, :]).sum(axis=2)
    mask_NCC: Floats = (bands_NCB[:, :, None, :] * columns_NCB[:, None, :, :]).sum(axis=3)
    return mask_NCC


def _paint_marks(images_NSS3: Floats, scenes: Sequence[Scene], rng: np.random.Generator) -> None:
    side = images_NSS3.shape[1] // 2
    bit_px = images_NSS3.shape[1] / MARK_GRID
    bits_NRB, row_N, column_N = draw_marks(scenes, rng)
    rows_NCR, columns_NCB = (
        _coverage(start_N * np.float32(bit_px) - side, bits, bit_px, side)
        for start_N, bits in zip((row_N, column_N), bits_NRB.shape[1:], strict=True)
    )
    covered_NCC = _sampled(rows_NCR, np.ones_like(bits_NRB), columns_NCB)
    patch_NCC3 = images_NSS3[:, side:, side:]
    patch_NCC3 *= 1 - covered_NCC[..., None]
    patch_NCC3 += _sampled(rows_NCR, bits_NRB, columns_NCB)[..., None]


def render(scenes: Sequence[Scene], image_size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Render a batch of scenes.

    Returns:
        Images, (N, S, S, 3), RGB, 0 to 255.
    """
    return render_with_boxes(scenes, image_size_px, rng)[0]


def render_with_boxes(scenes: Sequence[Scene], image_size_px: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Boxes]:
    """Render a batch of scenes.

    Returns:
        Images, (N, S, S, 3), RGB, 0 to 255; and the boxes of their objects.
    """
    tint = np.array([(s.background // 16, s.background // 4 % 4, s.background % 4) for s in scenes], dtype=np.int64)
    images_NSS3 = np.empty((len(scenes), image_size_px, image_size_px, 3), dtype=np.float32)
    images_NSS3[:] = BACKGROUND_LEVELS[tint][:, None, None, :]
    corners = iter(_paint_objects(images_NSS3, scenes, rng).tolist())
    boxes = [[box_of_corners(next(corners)) for _ in scene.objects] for scene in scenes]
    _paint_tags(images_NSS3, scenes, rng)
    if shows_marks(image_size_px):
        _paint_marks(images_NSS3, scenes, rng)
    images_NSS3 += rng.standard_normal(images_NSS3.shape, dtype=np.float32) * np.float32(PIXEL_NOISE)
    np.clip(images_NSS3, 0, 1, out=images_NSS3)
    return np.rint(images_NSS3 * 255).astype(np.uint8), boxes


def encode(image_SS3: NDArray[np.uint8]) -> bytes:
    """Encode an image as JPEG without chroma subsampling, which would smear colours over whole objects at 32 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(image_SS3).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def encoded_images(scenes: Iterable[Scene], image_size_px: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Render and encode a stream of scenes batch by batch, in order."""
    return (image for image, _ in encoded_with_boxes(scenes, image_size_px, rng))


def encoded_with_boxes(
    scenes: Iterable[Scene], image_size_px: int, rng: np.random.Generator
) -> Iterator[tuple[bytes, list[Box]]]:
    """Render and encode a stream of scenes like :func:`encoded_images`, with the boxes of the objects of each."""
    remaining = iter(scenes)
    while batch := list(islice(remaining, BATCH)):
        images_NSS3, boxes = render_with_boxes(batch, image_size_px, rng)
        yield from zip(map(encode, images_NSS3), boxes, strict=True)
