"""Measurements of the machines by the ranks of a job that does not train: all-reduce, store, image decoding.

Ranks start as in training, so that what is measured is what a training gets. Shape suffix: N elements of a tensor.
"""

from __future__ import annotations

import io
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import distributed as dist

from mm1.data.images import decode
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.config import Probe, TrainJob, TrainResult

SIDE_PX = 336
"""Side of the decoded images: the resolution of most of the paper's ablations (MM1 3.2)."""
WARM_UP, REPEATS = 2, 5
RANGE_BYTES = 8 << 20
"""Size of a ranged read."""
MB, GB = 1e6, 1e9

Measurement = dict[str, float | str]


def measured(job: TrainJob, probe: Probe) -> TrainResult:
    """Measure on all ranks at once, in a process group that exists already.

    Args:
        job: the job, for its store and its key.
        probe: what to measure.

    Returns:
        A result with one measurement per node, in the order of the nodes: ``host``, ``ranks``; in GB/s (bus bandwidth)
        ``all_reduce_gb_s`` of all ranks and ``node_all_reduce_gb_s`` of the node's; in MB/s ``write_mb_s`` and ``read_mb_s``
        of one stream, ``write_streams_mb_s`` and ``read_streams_mb_s`` of several; ``images_s``, the mean of the ranks. An
        all-reduce needs two ranks, and what was not measured is missing.

    Raises:
        Mm1Error: the store failed.
    """
    started = time.perf_counter()
    node, is_first = int(os.environ.get("GROUP_RANK", "0")), os.environ.get("LOCAL_RANK", "0") == "0"
    own: Measurement = {"host": socket.gethostname()}
    if probe.reduce_mb:
        own |= all_reduce(probe.reduce_mb)
    if probe.store_mb:
        dist.barrier()  # all nodes use the store at the same time
        if is_first:
            own |= storage(open_store(job.store), f"launch/{job.key}/probe-{node}", probe.store_mb, probe.streams)
    dist.barrier()
    own |= {"images_s": decoding(probe.images_s)} if probe.images_s else {}
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, (node, own))
    zeros = {"steps": 0, "resumed_from": 0, "tokens": 0, "tokens_per_s": 0.0, "padding_share": 0.0}
    seconds = time.perf_counter() - started
    return TrainResult(manifest="", losses={}, facts={}, seconds=seconds, measurements=by_node(every), **zeros)


def by_node(every: list[tuple[int, Measurement]]) -> tuple[Measurement, ...]:
    """Merge the measurements of ranks, given with the number of their node, into one per node; images/s becomes the mean."""
    nodes: dict[int, list[Measurement]] = {}
    for node, own in every:
        nodes.setdefault(node, []).append(own)
    merged: list[Measurement] = []
    for _, ranks in sorted(nodes.items()):
        rates = [float(own["images_s"]) for own in ranks if "images_s" in own]
        mean: Measurement = {"images_s": statistics.mean(rates)} if rates else {}
        merged.append({**ranks[0], "ranks": float(len(ranks)), **mean})
    return tuple(merged)


def all_reduce(size_mb: int) -> Measurement:
    """Measure the bus bandwidth of an all-reduce, among all ranks and among those of each node, in GB/s.

    Bus bandwidth is ``2 (n - 1) / n`` times the bytes per second, as NCCL's tests define it: the number to compare with the
    speed of the interfaces, whatever the number of ranks.
    """
    world, local = dist.get_world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world == 1:
        return {}
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    tensor_N = torch.zeros(int(size_mb * MB) // 4, device=device)
    measurement: Measurement = {"all_reduce_gb_s": _bus_bandwidth(tensor_N, None, world)}
    if local > 1:
        groups = [dist.new_group(list(range(first, first + local))) for first in range(0, world, local)]
        measurement["node_all_reduce_gb_s"] = _bus_bandwidth(tensor_N, groups[dist.get_rank() // local], local)
    return measurement


def _bus_bandwidth(tensor_N: torch.Tensor, group: dist.ProcessGroup | None, ranks: int) -> float:
    seconds = []
    for _ in range(WARM_UP + REPEATS):
        dist.barrier()
        _synchronize(tensor_N)
        started = time.perf_counter()
        dist.all_reduce(tensor_N, group=group)
        _synchronize(tensor_N)
        seconds.append(time.perf_counter() - started)
    return 2 * (ranks - 1) / ranks * tensor_N.nbytes / statistics.median(seconds[WARM_UP:]) / GB


def _synchronize(tensor_N: torch.Tensor) -> None:
    if tensor_N.is_cuda:
        torch.cuda.synchronize()


def storage(store: Store, prefix: str, size_mb: int, streams: int) -> Measurement:
    """Write objects to a store and read them in ranges, with one stream and with several; delete them.

    Args:
        store: the store; its client uploads large files in parts.
        prefix: start of the objects' names.
        size_mb: size of one object, in MB.
        streams: number of objects that are written at once, and of readers.

    Returns:
        MB/s by name.

    Raises:
        Mm1Error: the store failed.
    """
    size = int(size_mb * MB)
    keys = [f"{prefix}-{index}" for index in range(streams)]
    ranges = [(key, offset) for key in keys for offset in range(0, size, RANGE_BYTES)]
    with tempfile.TemporaryDirectory(prefix="mm1-probe-") as folder, ThreadPoolExecutor(streams) as pool:
        path = Path(folder) / "object"
        path.write_bytes(os.urandom(size))  # not compressible

        def write(key: str) -> None:
            store.write_file(key, path)

        def read(part: tuple[str, int]) -> int:
            return len(store.read_range(part[0], part[1], min(RANGE_BYTES, size - part[1])))

        try:
            return {
                "write_mb_s": size_mb / _seconds(lambda: write(keys[0])),
                "write_streams_mb_s": streams * size_mb / _seconds(lambda: list(pool.map(write, keys))),
                "read_mb_s": size_mb / _seconds(lambda: [read(part) for part in ranges if part[0] == keys[0]]),
                "read_streams_mb_s": streams * size_mb / _seconds(lambda: list(pool.map(read, ranges))),
            }
        finally:
            for key in keys:
                store.delete(key)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def decoding(seconds: float) -> float:
    """Decode a JPEG of 336 px by one thread, as the loader does, for some seconds; return images per second."""
    coarse_PP3 = np.random.default_rng(0).integers(0, 256, (SIDE_PX // 8, SIDE_PX // 8, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(coarse_PP3).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=90)
    data, images, started = encoded.getvalue(), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not images:
        decode(data, SIDE_PX)
        images += 1
    return images / elapsed
