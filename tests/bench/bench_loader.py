"""The loader beside what others do, measured in turn: ``python tests/bench/bench_loader.py [--rounds 3] [--samples 3000]``.

JPEGs of 336 x 336 (about 30 kB) with captions, batches of 32, two workers, a consumer that touches every byte:

- *ours*: the mixture's loader; one pair per sequence, uint8 batches in shared memory
- *webdataset*: as its documentation shows it: PIL, float32, WebLoader
- *same decoder*: torch's DataLoader over files, simplejpeg, uint8 batches in shared memory, as quick as that gets
- *ceiling*: two processes that read, decode into one buffer and tokenise, and hand nothing over

Then how long a loader takes to its first batch after 1,000 batches, and whether the memory of a worker grows (``--batches``).
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

SIDE, BATCH, WORKERS = 336, 32, 2
WORDS = ("a", "photo", "of", "the", "red", "green", "small", "house", "dog", "tree", "street", "water", "sky", "with", "and")


def picture(random: np.random.Generator) -> bytes:
    """A JPEG of smooth forms and some grain: about as many bytes as a photo of that size."""
    from PIL import Image

    coarse = random.integers(0, 256, (14, 14, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.normal(0, random.uniform(4, 11), (SIDE, SIDE, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def make_data(folder: Path, count: int) -> dict[str, Any]:
    """The same pairs as a mixture in a store, as plain files, and as webdataset tars."""
    from mm1.data.sample import ImagePart, Sample, TextPart
    from mm1.store.local import LocalStore
    from tests.support.mixtures import build_mix

    random = np.random.default_rng(0)
    samples, files = [], []
    (folder / "files").mkdir()
    for number in range(count):
        caption = " ".join(random.choice(WORDS, random.integers(8, 24)))
        image = picture(random)
        key = f"captions-{number:09d}"
        samples.append(Sample(key=key, source="captions", parts=[ImagePart(0), TextPart(caption)], images=[image]))
        path = folder / "files" / f"{number:06d}.jpg"
        path.write_bytes(image)
        files.append((str(path), caption))
    store = LocalStore(folder / "store")
    sizes = {"sequence_length": 192, "max_images": 1, "image_tokens": 144, "image_size_px": SIDE, "per_shard": 1000}
    raw, mix = build_mix(
        store, folder / "work", weights={"captions": 1.0}, samples={"captions": samples}, vocabulary=1000, **sizes
    )
    tars = [str(store.local_path(shard.tar)) for shard in raw.sources["captions"].shards]
    print(f"{count} images, {sum(len(sample.images[0]) for sample in samples) / count / 1000:.0f} kB on average")
    return {"store": store, "raw": raw, "mix": mix, "files": files, "tars": tars, "tokenizer": folder / "work" / "tokenizer"}


def consume(batches: Iterator[Any], count: int) -> float:
    """Samples/s from the first batch on; every byte is touched."""
    seen, started = 0, 0.0
    for batch in batches:
        values = batch["pixel_values"] if isinstance(batch, dict) else batch[0]
        np.bitwise_xor.reduce(values.numpy().reshape(-1).view(np.uint64))
        if not started:
            started = time.perf_counter()  # start-up is not what is compared
            continue
        seen += len(values)
        if seen >= count - 2 * BATCH:
            break
    return seen / (time.perf_counter() - started)


def ours(data: dict[str, Any], count: int) -> float:
    """The mixture's loader."""
    batches = iter(loader(data))
    try:
        return consume(batches, count)
    finally:
        batches.close()


def loader(data: dict[str, Any], **settings: Any) -> Any:
    """The loader, none of the decoded images kept."""
    from mm1.data.config import LoaderLimits
    from mm1.data.load.loader import MixtureLoader

    sizes = {"micro_batch": BATCH, "global_batch": BATCH, "rank": 0, "world_size": 1, "num_workers": WORKERS}
    limits = LoaderLimits(cache_bytes=0)
    return MixtureLoader(data["store"], data["mix"], data["raw"], limits=limits, **(sizes | settings))


def documented_webdataset(data: dict[str, Any], count: int) -> float:
    """Decode to PIL's RGB, float32 tensors, batches, WebLoader."""
    import torch
    import webdataset

    from mm1.data.tokenizer import TextTokenizer

    tokenizer = TextTokenizer.from_folder(data["tokenizer"])

    def image(pixels: Any) -> torch.Tensor:
        values = np.asarray(pixels.resize((SIDE, SIDE)), np.float32) / 255
        return torch.from_numpy(values.transpose(2, 0, 1).copy()).sub_(0.5).div_(0.5)

    def text(sample: Any) -> list[int]:
        return tokenizer.encode([part["text"] for part in sample["parts"] if "text" in part])[0]

    dataset = (
        webdataset.WebDataset(data["tars"], shardshuffle=False)
        .decode("pil")
        .to_tuple("0.jpg", "json")
        .map_tuple(image, text)
        .batched(BATCH, collation_fn=lambda rows: (torch.stack([row[0] for row in rows]), [row[1] for row in rows]))
    )
    return consume(iter(webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS)), count)


class Files:
    """Pairs in files, one by one: the dataset that people write for torch's DataLoader."""

    def __init__(self, data: dict[str, Any]) -> None:
        from mm1.data.tokenizer import TextTokenizer

        self.files = data["files"]
        self.tokenizer = TextTokenizer.from_folder(data["tokenizer"])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Any, list[int]]:
        import simplejpeg
        import torch

        path, caption = self.files[number]
        pixels = simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB")
        return torch.from_numpy(pixels), self.tokenizer.encode([caption])[0]


def into_shared_memory(rows: list[tuple[Any, list[int]]]) -> tuple[Any, list[list[int]]]:
    """Stack images as torch's own collation does in a worker: into shared memory, so that the hand-over copies nothing."""
    import torch

    storage = rows[0][0]._typed_storage()._new_shared(len(rows) * rows[0][0].numel())
    out = rows[0][0].new(storage).resize_(len(rows), *rows[0][0].shape)
    return torch.stack([pixels for pixels, _ in rows], out=out), [ids for _, ids in rows]


def same_decoder(data: dict[str, Any], count: int) -> float:
    """torch's DataLoader with the same decoder and the same end state."""
    from torch.utils.data import DataLoader

    batches = DataLoader(Files(data), BATCH, num_workers=WORKERS, prefetch_factor=2, collate_fn=into_shared_memory)
    return consume(iter(batches), count)


def ceiling(data: dict[str, Any], count: int) -> float:
    """Processes that do the work and hand nothing over."""
    context = multiprocessing.get_context("fork")
    times: Any = context.Queue()
    shares = [data["files"][number::WORKERS] for number in range(WORKERS)]
    processes = [context.Process(target=_alone, args=(data["tokenizer"], share, times)) for share in shares]
    for process in processes:
        process.start()
    ended = [times.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(len(share) for share in shares) / max(ended)


def _alone(tokenizer_folder: Path, files: list[tuple[str, str]], times: Any) -> None:
    import simplejpeg

    from mm1.data.tokenizer import TextTokenizer

    tokenizer = TextTokenizer.from_folder(tokenizer_folder)
    buffer = np.empty((SIDE, SIDE, 3), np.uint8)
    started = time.perf_counter()
    for first in range(0, len(files), BATCH):
        chosen = files[first : first + BATCH]
        for path, _ in chosen:
            simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", buffer=buffer)
        tokenizer.encode([caption for _, caption in chosen])
    times.put(time.perf_counter() - started)


def resume_seconds(data: dict[str, Any]) -> float:
    """From nothing to the first batch, 1,000 batches into the order."""
    first = loader(data, num_workers=0)
    sequence = 1_000 * BATCH
    first._opened.plan[sequence]
    cursors = first._opened.plan.cursors(sequence)
    started = time.perf_counter()
    batches = iter(loader(data, start_sequence=sequence, cursors=json.loads(json.dumps(cursors))))
    next(batches)
    seconds = time.perf_counter() - started
    batches.close()
    return seconds


def memory_slope(folder: Path, num_batches: int) -> tuple[float, float]:
    """Growth of a worker's own memory after batch 500, MB per 1,000 batches (least squares), and where it ended, MB."""
    import psutil

    from mm1.data.config import LoaderLimits
    from mm1.data.load.loader import MixtureLoader
    from mm1.store.local import LocalStore
    from tests.support.mixtures import build_mix

    store = LocalStore(folder / "small")
    raw, mix = build_mix(store, folder / "small-work", weights={"captions": 0.45, "interleaved": 0.45, "text": 0.1})
    limits = LoaderLimits(cache_bytes=0)
    sizes = {"micro_batch": 4, "global_batch": 4, "rank": 0, "world_size": 1, "num_workers": 1}
    batches = iter(MixtureLoader(store, mix, raw, limits=limits, **sizes))
    next(batches)
    (worker,) = psutil.Process().children()
    points = []
    for number in range(1, num_batches + 1):
        next(batches)
        if number >= 500 and number % 100 == 0:
            points.append((number / 1000, worker.memory_full_info().uss / 1e6))
    batches.close()
    places, sizes_mb = np.array(points).T
    return float(np.polyfit(places, sizes_mb, 1)[0]), float(sizes_mb[-1])


def main() -> None:
    """Measure all in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--batches", type=int, default=10_000, help="of the memory measurement; 0 leaves it out")
    options = parser.parse_args()
    runs: dict[str, Callable[[dict[str, Any], int], float]] = {
        "ours": ours,
        "webdataset": documented_webdataset,
        "same decoder": same_decoder,
        "ceiling": ceiling,
    }
    with tempfile.TemporaryDirectory(prefix="mm1-bench-") as name:
        folder = Path(name)
        data = make_data(folder, options.samples)
        found: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                found[name].append(run(data, options.samples))
        for name, speeds in found.items():
            ratios = [ours / other for ours, other in zip(found["ours"], speeds, strict=True)]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(
                f"{name:13} {statistics.median(speeds):7,.0f} samples/s   ours / it {statistics.median(ratios):5.2f}   ({each})"
            )
        resumed = [resume_seconds(data) for _ in range(options.rounds)]
        print(f"resume after 1,000 batches: first batch in {statistics.median(resumed):.2f} s")
        if options.batches:
            slope, end = memory_slope(folder, options.batches)
            print(f"worker's own memory over {options.batches:,} batches: {slope:+.3f} MB per 1,000, {end:.0f} MB at the end")


if __name__ == "__main__":
    main()
