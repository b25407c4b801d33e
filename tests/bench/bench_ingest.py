"""Ingest beside a plain loop that does the same checks, on one core, in turn: ``python tests/bench/bench_ingest.py``.

JPEGs of 640 x 480 with captions in img2dataset tars. Both sides read the tar, look at format, size, sides and aspect, decode
the image to see that it is whole, take a digest of it, and judge the caption. The plain loop (tarfile, PIL, hashlib) then
forgets the pair; ours writes tars with indexes, counts tokens, finds duplicates, near ones too, and publishes the shards.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

WORDS = ("a", "photo", "of", "the", "red", "green", "small", "house", "dog", "tree", "street", "water", "sky", "with", "and")


def make_data(folder: Path, count: int) -> Path:
    """Tars as img2dataset writes them."""
    from PIL import Image

    random = np.random.default_rng(0)
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(count):
            coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels = np.clip(smooth + random.normal(0, 5, (480, 640, 1)), 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
            caption = f"{' '.join(random.choice(WORDS, random.integers(8, 24)))} {number}"
            record = {"url": f"https://a.invalid/{number}.jpg", "caption": caption, "key": f"{number:09d}"}
            members = {"jpg": buffer.getvalue(), "txt": caption.encode(), "json": json.dumps(record).encode()}
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{number:09d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    print(f"{count} pairs, {(folder / '00000.tar').stat().st_size / count / 1000:.0f} kB each")
    return folder


def plain(folder: Path) -> int:
    """A loop as one writes it."""
    from PIL import Image

    kept, seen = 0, set()
    with tarfile.open(folder / "00000.tar") as tar:
        content: dict[str, bytes] = {}
        for info in tar:
            suffix = info.name.rpartition(".")[2]
            content[suffix] = tar.extractfile(info).read()  # type: ignore[union-attr]
            if suffix != "json":
                continue
            record, data, caption = json.loads(content["json"]), content["jpg"], content["txt"].decode()
            image = Image.open(io.BytesIO(data))
            short, long = sorted(image.size)
            good = image.format in ("JPEG", "PNG", "WEBP") and short >= 100 and long <= 10_000 and long <= 2 * short
            image.load()
            digest = hashlib.md5(data).hexdigest()
            words = caption.split()
            letters = sum(map(str.isalpha, caption)) / max(1, len(caption.replace(" ", "")))
            furniture = any(word in record["url"] for word in ("logo", "button", "icon", "plugin", "widget"))
            if good and not furniture and 1 <= len(words) <= 256 and letters >= 0.5 and (digest, caption) not in seen:
                seen.add((digest, caption))
                kept += 1
    return kept


def ours(folder: Path, work: Path, tokenizer: Path) -> int:
    """All of ingest in this process."""
    from mm1.data.prepare.locations.roots import LocalRoot
    from mm1.data.prepare.merge import collect, merge_parts
    from mm1.data.prepare.pipeline import filter_part, shard_part
    from mm1.data.prepare.plan import plan_source
    from mm1.data.prepare.sources.formats import DEFAULTS
    from mm1.store.local import LocalStore
    from mm1_components.wrapper.raw_data import SourceOptions, filtering

    store, root = LocalStore(work / "store"), LocalRoot(folder)
    planned, parts = plan_source("captions", root, DEFAULTS)
    how = filtering("paper", tokenizer, SourceOptions(), "captions")
    filtered = [filter_part(store, part, root, how, work) for part in parts]
    merged = merge_parts(store, filtered, tokenizer, None, work)
    sharded = [shard_part(store, merged, part, work) for part in filtered]
    return collect({"captions": planned}, merged, filtered, sharded).sources["captions"].num_samples


def main() -> None:
    """Measure both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    from mm1.data.tokenizer import train_bpe

    times: dict[str, list[float]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory(prefix="mm1-bench-") as name:
        folder = make_data(Path(name) / "raw", options.images)
        tokenizer = train_bpe([" ".join(WORDS)] * 50, Path(name) / "tokenizer", 400)
        ours(folder, Path(name) / "warm", tokenizer)  # imports
        for number in range(options.rounds):
            runs: dict[str, Any] = {
                "ours": lambda work: ours(folder, work, tokenizer),
                "plain": lambda _: plain(folder),
            }
            kept = {}
            for side, run in runs.items():
                started = time.perf_counter()
                kept[side] = run(Path(name) / f"{side}-{number}")
                times[side].append(time.perf_counter() - started)
            assert kept["ours"] == kept["plain"], kept
    for side, found in times.items():
        print(f"{side:6} {options.images / statistics.median(found):7,.0f} images/s on one core")
    ratios = [plain / ours for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    print(f"ours / plain {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
