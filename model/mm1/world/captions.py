"""The captions part: image-caption pairs in img2dataset's output format.

Files: ``00000.tar`` with ``<key>.jpg``, ``<key>.txt`` and ``<key>.json`` per pair, ``00000.parquet`` with the JSON's columns,
``00000_stats.json``, then ``00001.tar`` and so on. The pairs are alt texts (noisy), synthetic captions (rich, like VeCap) and
single questions with answers; the field ``caption_kind`` (``alt``, ``synthetic``, ``qa``) in JSON and parquet tells them
apart.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.render import encoded_images
from mm1.world.scene import Scene, SceneSampler, Split, held_out_pairs

VAGUE_SHARE_OF_QUESTIONS = 0.1
ONLY_SYNTHETIC = {"synthetic_share": 1.0, "question_share": 0.0}


def _pair(sampler: SceneSampler, rng: Random, config: WorldConfig) -> tuple[Scene, str, str]:
    """Draw a scene with its caption and the caption's kind."""
    draw = rng.random()
    if draw < config.synthetic_share:
        scene = sampler.any()
        return scene, language.rich_caption(scene), "synthetic"
    if draw < config.synthetic_share + config.question_share:
        if rng.random() < VAGUE_SHARE_OF_QUESTIONS:
            scene = sampler.single()
            answer = language.vague_answer(rng.choice(language.VAGUE_KINDS), scene.objects[0])
            return scene, language.ask(language.VAGUE_QUESTION, answer), "qa"
        scene = sampler.any()
        question = language.question(rng.choice(language.QUESTION_KINDS), scene, rng.choice(scene.objects))
        return scene, language.ask(*question), "qa"
    scene = sampler.any()
    return scene, language.alt_text(scene, rng), "alt"


def _record(key: str, caption: str, kind: str, image: bytes, side: int) -> dict[str, object]:
    """Create img2dataset's metadata of one pair."""
    return {
        "caption": caption,
        "caption_kind": kind,
        "url": f"https://toy-world.invalid/captions/{key}.jpg",
        "key": key,
        "status": "success",
        "error_message": None,
        "width": side,
        "height": side,
        "original_width": side,
        "original_height": side,
        "exif": "{}",
        "sha256": hashlib.sha256(image).hexdigest(),
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("caption", "caption_kind", "url", "key", "status", "error_message")],
        *[(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")],
        *[(name, pa.string()) for name in ("exif", "sha256")],
    ]
)


def _write_shard(folder: Path, shard: int, pairs: list[tuple[Scene, str, str]], images: Iterator[bytes], side: int) -> None:
    name = f"{shard:05d}"
    records = []
    with tarfile.open(folder / f"{name}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, (_, caption, kind) in enumerate(pairs):
            image, key = next(images), f"{name}{index:04d}"
            record = _record(key, caption, kind, image, side)
            _add(tar, f"{key}.jpg", image)
            _add(tar, f"{key}.txt", caption.encode())
            _add(tar, f"{key}.json", json.dumps(record, sort_keys=True).encode())
            records.append(record)
    pq.write_table(pa.Table.from_pylist(records, schema=_SCHEMA), folder / f"{name}.parquet")
    count = len(pairs)
    # img2dataset also records start and end times; they are omitted here to keep the files byte-identical.
    failures = {"failed_to_download": 0, "failed_to_resize": 0}
    stats = {"count": count, "successes": count, **failures, "status_dict": {"success": count}}
    (folder / f"{name}_stats.json").write_text(json.dumps(stats, indent=4, sort_keys=True))


def write(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the captions part into an existing folder.

    Returns:
        Number of pairs of each kind.
    """
    return _write(folder, config, "captions", config.num_captions)


def write_web(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write captions without synthetic ones into an existing folder: the control of the part ``synthetic``.

    Returns:
        Number of pairs of each kind.
    """
    return _write(folder, config.model_copy(update={"synthetic_share": 0.0}), "web captions", config.num_captions)


def write_synthetic(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the part of synthetic captions alone into an existing folder: a source of its own, as VeCap is for MM1.

    Returns:
        Number of pairs of each kind.
    """
    return _write(folder, config.model_copy(update=ONLY_SYNTHETIC), "synthetic", config.num_synthetic)


def _write(folder: Path, config: WorldConfig, part: str, number: int) -> dict[str, int]:
    rng = streams.choices(config.seed, part)
    sampler = SceneSampler(rng, Split.TRAIN, held_out_pairs(config))
    noise = streams.pixels(config.seed, part)
    counts = {"alt": 0, "synthetic": 0, "qa": 0}
    for shard, start in enumerate(range(0, number, config.captions_per_shard)):
        size = min(config.captions_per_shard, number - start)
        pairs = [_pair(sampler, rng, config) for _ in range(size)]
        images = encoded_images((scene for scene, _, _ in pairs), config.image_size_px, noise)
        _write_shard(folder, shard, pairs, images, config.image_size_px)
        for _, _, kind in pairs:
            counts[kind] += 1
    return counts
