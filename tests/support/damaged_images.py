"""Damaged images: seeds of every format that the decoder reads, and mutations of them."""

import io
import struct
import zlib
from collections.abc import Iterator
from random import Random

import numpy as np
from PIL import Image

FIELD_VALUES = (0, 1, 2, 7, 8, 16, 32, 127, 128, 255, 256, 4096, 32_767, 32_768, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tagged(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(samples: np.ndarray, colour_type: int, depth: int, *chunks: bytes, late: bytes = b"") -> bytes:
    """A PNG of samples (height, width, channels), packed to the depth, with extra chunks before or after its pixels."""
    height, width = samples.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        shifts = np.arange(depth)[::-1]
        rows = [np.packbits((row.reshape(-1)[:, None] >> shifts & 1).astype(np.uint8).reshape(-1)).tobytes() for row in samples]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + late + png_chunk(b"IEND", b"")


def seeds() -> dict[str, bytes]:
    """Small images of all formats, modes and kinds of metadata that the decoder handles differently."""
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((45, 35), Image.Resampling.BICUBIC)
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    grey_16 = np.asarray(rgb.convert("L")).astype(np.uint16) * 257
    wide = Image.fromarray(grey_16)
    exif = tagged(6)
    return {
        "jpeg": encoded(rgb, "JPEG"),
        "jpeg turned": encoded(rgb, "JPEG", exif=exif),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True, restart_marker_rows=1),
        "jpeg grey": encoded(rgb.convert("L"), "JPEG", exif=exif),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[rgb], exif=exif),
        "png": encoded(rgb, "PNG", exif=exif),
        "png alpha": encoded(rgba, "PNG"),
        "png palette": encoded(rgb.quantize(16), "PNG", transparency=b"\0\x80\xff"),
        "png grey key": raw_png(grey_16 >> 12, 0, 4, png_chunk(b"tRNS", b"\0\3")),
        "png 16": raw_png(grey_16, 0, 16, png_chunk(b"tRNS", b"\1\1"), late=png_chunk(b"eXIf", exif.tobytes()[6:])),
        "png animated": encoded(rgba, "PNG", save_all=True, append_images=[rgba.rotate(9)]),
        "webp": encoded(rgb, "WEBP", exif=exif),
        "webp lossless": encoded(rgba, "WEBP", lossless=True),
        "webp animated": encoded(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(9)]),
        "gif": encoded(rgb.quantize(16), "GIF", transparency=1, save_all=True, append_images=[rgb.quantize(8)]),
        "bmp": encoded(rgb, "BMP"),
        "bmp palette": encoded(rgb.quantize(16), "BMP"),
        "tiff": encoded(rgb, "TIFF", exif=exif),
        "tiff lzw": encoded(rgba, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": encoded(rgb, "TIFF", compression="jpeg"),
        "tiff 16": encoded(wide, "TIFF", compression="tiff_adobe_deflate"),
        "tiff 32": encoded(Image.fromarray(grey_16.astype(np.int32)), "TIFF"),
        "tiff float": encoded(Image.fromarray(grey_16.astype(np.float32)), "TIFF"),
    }


def mutations(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield damaged images with the names of their seeds; the same ones for the same arguments."""
    random, originals = Random(seed), list(seeds().items())
    for number in range(count):
        name, data = originals[number % len(originals)]
        damaged = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 5))):
            random.choice((_flip, _flip_early, _cut, _field, _field, _move, _repeat))(damaged, random)
        if name.startswith("png") and random.random() < 0.7:
            _repair_checksums(damaged)  # otherwise every damage ends at the checksum
        yield name, bytes(damaged)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _flip_early(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(min(len(data), 120))] = random.randrange(256)


def _cut(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data) + 1)
    del data[start : random.choice((len(data), start + random.randrange(40)))]


def _field(data: bytearray, random: Random) -> None:
    """Overwrite a number of 1, 2 or 4 bytes, mostly in the headers."""
    size, order = random.choice((1, 2, 2, 4, 4)), random.choice(("little", "big"))
    limit = len(data) if random.random() < 0.3 else min(len(data), 200)
    if limit > size:
        start = random.randrange(limit - size)
        data[start : start + size] = (random.choice(FIELD_VALUES) % 256**size).to_bytes(size, order)


def _move(data: bytearray, random: Random) -> None:
    start, target, size = random.randrange(len(data) + 1), random.randrange(len(data) + 1), random.randrange(60)
    data[target:target] = data[start : start + size]


def _repeat(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data) + 1)
    data[start:start] = bytes([random.randrange(256)]) * random.randrange(30)


def _repair_checksums(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        stop = position + 8 + length
        if stop + 4 > len(data):
            return
        struct.pack_into(">I", data, stop, zlib.crc32(data[position + 4 : stop]))
        position = stop + 4
