"""Real pictures and pages from Debian packages: through the example, ingest, the mixture and a few training steps."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import zstandard
from PIL import Image

from mm1.data.images import decode
from mm1.data.reader import ShardIndex
from mm1.data.sample import ImagePart, Sample
from mm1.manifests import Checkpoint, RawData, load
from mm1.store.local import LocalStore
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
SIDE_PX = 64
DECORATIONS = ("images/note.png", "images/tip.png", "images/caution.png", "images/warning.png")


class Real:
    """The example's data, and what was made of them.

    Args:
        folder: where the fixture has written them.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.folder = folder
        self.store = LocalStore(folder / "store")

    @property
    def raw(self) -> RawData:
        return load((self.folder / "raw").read_text(), RawData)

    def kept(self, source: str) -> list[Sample]:
        """All samples of a source, from its shards."""
        samples = []
        for shard in self.raw.sources[source].shards:
            for members in webdataset.WebDataset(str(self.store.local_path(shard.tar)), shardshuffle=False, empty_check=False):
                images = sorted((name for name in members if name[0].isdigit()), key=lambda name: int(name.partition(".")[0]))
                samples.append(Sample.from_json(members["__key__"], members["json"], [members[name] for name in images]))
        return samples

    def captions(self) -> Iterator[tuple[bytes, str]]:
        """The pairs that the example wrote, read by the tools of their formats."""
        for tar in sorted((self.data / "captions" / "stamps").glob("*.tar")):
            for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False):
                yield sample["png"], sample["txt"].decode()
        for row in pq.read_table(self.data / "captions" / "clipart" / "train.parquet").to_pylist():
            yield row["image"]["bytes"], row["caption"]

    def pages(self) -> list[dict]:
        return pq.read_table(self.data / "interleaved" / "gimp-help-en" / "pages.parquet").to_pylist()


@pytest.fixture(scope="module")
def real(made_once: Callable[[str, Callable[[Path], None]], Path], warm_python: WarmPython) -> Real:
    """Skipped where the packages can be had neither from the cache nor with apt."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "examples.real_data", "--small", "--out", str(folder / "data")]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        if ended.returncode == 1 and "Traceback" not in ended.stderr:
            (folder / "reason").write_text(ended.stderr.strip())
            return
        assert ended.returncode == 0, ended.stderr
        sources = [word for name in ("captions", "interleaved", "text") for word in (f"--{name}", str(folder / "data" / name))]
        run(warm_python, folder, "ingest", "raw", *sources, "--preset", "paper")
        sizes = ["--image-size", "64", "--image-tokens", "16", "--sequence-length", "512", "--max-images", "16"]
        run(warm_python, folder, "data_mix", "mix", "--data", (folder / "raw").read_text(), *sizes, "--holdout", "0.1")
        steps = ["train.steps=6", "train.global_batch=4", "train.micro_batch=4", "schedule.warmup_steps=1"]
        overrides = [word for step in steps for word in ("--set", step)]
        arguments = ["--data", (folder / "mix").read_text(), "--recipe", "mm1_tiny", *overrides]
        run(warm_python, folder, "pretrain", "checkpoint", *arguments, "--artifact.metrics.json", str(folder / "metrics.json"))

    folder = made_once("real-data", make)
    if (folder / "reason").is_file():
        pytest.skip((folder / "reason").read_text())
    return Real(folder)


def run(python: WarmPython, folder: Path, step: str, output: str, *arguments: str) -> None:
    places = ["--store", str(folder / "store"), "--work", str(folder / "work" / step), "--out.manifest", str(folder / output)]
    ended = python.run(f"mm1_components.{step}", *arguments, *places, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]
    (folder / f"{step}.log").write_text(ended.stderr)


def test_the_packages_have_what_the_example_promises(real: Real) -> None:
    counts = json.loads((real.data / "counts.json").read_text())["counts"]
    assert counts["captions/stamps"]["pairs"] >= 80 and counts["captions/clipart"]["pairs"] >= 60
    assert counts["interleaved/manual"]["pages written"] == 40 and counts["interleaved/manual"]["images"] > 100
    assert counts["benchmarks"]["pairs"] > 5
    assert sum(counts[name]["pairs"] for name in ("captions/stamps", "captions/clipart")) == len(list(real.captions()))


@pytest.mark.parametrize("source", ["captions", "interleaved", "text"])
def test_files_are_read_or_left_out(real: Real, source: str) -> None:
    files = [path for path in (real.data / source).rglob("*") if path.is_file()]
    data = real.raw.sources[source]
    assert data.num_files + sum(data.left_out.values()) == len(files)
    # img2dataset's counts and its table of the rows; images that rows name
    expected = {"captions": 2, "interleaved": len(files) - 1, "text": 0}
    assert sum(data.left_out.values()) == expected[source] and data.odd == {}


def test_pairs_are_kept_or_counted(real: Real) -> None:
    data, pairs = real.raw.sources["captions"], list(real.captions())
    assert data.num_read == len(pairs) == data.num_samples + sum(data.dropped.values())
    assert data.num_samples > 0.6 * len(pairs)
    sizes = [sorted(Image.open(io.BytesIO(png)).size) for png, _ in pairs]
    assert data.dropped.get("image_too_small", 0) == sum(short < 100 for short, _ in sizes)
    assert set(data.dropped) <= {"image_too_small", "duplicate", "near_duplicate"}


def test_the_pictures_and_captions_of_pairs_are_those_of_the_package(real: Real) -> None:
    pairs = Counter(real.captions())
    for sample in real.kept("captions"):
        (caption,) = sample.texts()
        assert pairs[sample.images[0], caption] >= 1, sample.origin
        assert "\n" not in caption and "utf8=" not in caption


def test_pictures_are_decoded_as_by_pillow_on_white(real: Real) -> None:
    modes = Counter()
    for sample in [*real.kept("captions"), *real.kept("interleaved")]:
        for data in sample.images:
            image = Image.open(io.BytesIO(data))
            modes[image.mode] += 1
            shown = image.convert("RGBA")
            page = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
            expected = np.asarray(page.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)).astype(int)
            difference = np.abs(decode(data, SIDE_PX) - expected)
            # JPEGs are decoded at a reduced scale
            assert difference.mean() < (6.0 if image.format == "JPEG" else 0.6), sample.origin
    assert modes["RGBA"] > 20 and modes["RGB"] > 20


def test_pages_are_kept_or_counted(real: Real) -> None:
    data, pages = real.raw.sources["interleaved"], real.pages()
    assert data.num_read == len(pages) == 40 == data.num_samples + sum(data.dropped.values())
    assert data.num_samples >= 20


def test_pages_keep_their_text_and_the_order_of_their_images(real: Real) -> None:
    pages = real.pages()
    for sample in real.kept("interleaved"):
        page = pages[int(sample.origin.rpartition(":")[2]) - 1]
        assert list(sample.texts()) == [text for text in page["texts"] if text is not None]
        folder = real.data / "interleaved" / "gimp-help-en"
        contents = [(folder / name).read_bytes() for name in page["images"] if name]
        places = [contents.index(image) for image in sample.images]
        assert places == sorted(places)
        before = [part for part in sample.parts if isinstance(part, ImagePart)]
        assert [part.image for part in before] == list(range(len(sample.images)))
        assert not any((folder / name).read_bytes() in sample.images for name in DECORATIONS if (folder / name).is_file())


def test_texts_have_no_markup_and_no_navigation(real: Real) -> None:
    data = real.raw.sources["text"]
    with zstandard.open(real.data / "text" / "pages.jsonl.zst", "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream]
    assert data.num_read == len(texts) == data.num_samples + sum(data.dropped.values())
    kept = [text for sample in real.kept("text") for text in sample.texts()]
    assert set(kept) <= set(texts)
    for text in [*kept, *(text for sample in real.kept("interleaved") for text in sample.texts())]:
        assert not re.search(r"</?(p|div|span|img|a|td)\b|&(nbsp|amp|lt);|\bPrev\b.*\bNext\b", text), text[:200]


def test_the_index_counts_what_the_shards_hold(real: Real) -> None:
    for source in real.raw.sources.values():
        for shard in source.shards:
            assert len(ShardIndex(real.store.local_path(shard.index), shard.name)) == shard.num_samples


def test_a_model_learns_from_them(real: Real) -> None:
    checkpoint = load((real.folder / "checkpoint").read_text(), Checkpoint)
    metrics = json.loads((real.folder / "metrics.json").read_text())
    assert checkpoint.step == metrics["steps"] == 6
    assert set(metrics["final_losses"]) >= {"captions", "interleaved", "all"}
    assert all(np.isfinite(loss) and loss < 7.0 for loss in metrics["final_losses"].values())
