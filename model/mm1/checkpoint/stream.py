"""Writing safetensors files in one pass: every byte is hashed on its way to the disk, and not copied or read back.

The library's own writer copies each tensor, and the digest would need a second pass over the file. Both would slow down
training while a checkpoint is written. For reading, the library is used.

    header length (8 bytes), header (JSON, padded to 8 bytes), tensors one after the other, those with larger elements first
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from mm1.store.base import BlobRef

CHUNK_BYTES = 8 << 20
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes in the format."""


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> BlobRef:
    """Write tensors to a file and sync it to disk.

    Args:
        path: path of the file.
        tensors: tensors by name, on the CPU.
        metadata: strings for the header.

    Returns:
        Digest and size of the file; equal tensors give equal bytes.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header = _header(tensors, order, metadata)
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for chunk in _chunks(header, (tensors[name] for name in order)):
            digest.update(chunk)
            num_bytes += len(chunk)
            while chunk:  # unbuffered writes may be short
                chunk = chunk[file.write(chunk) :]
        os.fsync(file.fileno())
    return BlobRef(sha256=digest.hexdigest(), num_bytes=num_bytes)


def _header(tensors: Mapping[str, torch.Tensor], order: list[str], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        entries[name] = {"dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _chunks(header: bytes, tensors: Iterable[torch.Tensor]) -> Iterable[memoryview]:
    """Yield the bytes of the file as views; small neighbouring tensors are joined."""
    buffer = bytearray(header)
    for tensor in tensors:
        data = memoryview(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
        if len(buffer) + len(data) <= CHUNK_BYTES:
            buffer += data
            continue
        yield memoryview(bytes(buffer))
        buffer = bytearray()
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
    yield memoryview(bytes(buffer))
