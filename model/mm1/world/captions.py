"""The captions part: image-caption pairs in img2dataset's output format.

Files: ``00000.tar`` with ``<key>.jpg``, ``<key>.txt`` and ``<key>.json`` per pair, ``00000.parquet`` with the JSON's columns,
``00000_stats.json``, then ``00001.tar`` and so on. The pairs are alt texts (noisy), synthetic captions (rich, like VeCap) and
single questions with answers; the field ``caption_kind`` (``alt``, ``synthetic``, ``qa``) in JSON and parquet tells them
apart.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.img2dataset import Pair, write_shard
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
        described = [Pair(image, caption, kind) for image, (_, caption, kind) in zip(images, pairs, strict=True)]
        write_shard(folder, shard, described, config.image_size_px)
        for _, _, kind in pairs:
            counts[kind] += 1
    return counts
