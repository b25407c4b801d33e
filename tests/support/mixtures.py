"""A small mixture in a store, made from invented samples without the ingest and data_mix steps."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from mm1.data.config import ShardLimits
from mm1.data.load.freeze import with_layout
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.shards import ShardWriter, write_index
from mm1.data.tokenizer import TextTokenizer, train_bpe
from mm1.manifests import DataMix, MixSource, RawData, Shard, SourceData, digest_of_manifest, publish
from mm1.store.base import Store

WORDS = (
    *("a", "the", "red", "blue", "green", "big", "small", "circle", "square", "ring"),
    *("cross", "is", "and", "of", "on", "left", "right", "what", "colour", "it"),
)


def encoded_image(seed: int, side: int = 16, image_format: str = "PNG", size: tuple[int, int] | None = None) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*(size or (side, side))[::-1], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def words(random: np.random.Generator, low: int, high: int) -> str:
    return " ".join(random.choice(WORDS, size=random.integers(low, high)))


def make_samples(source: str, count: int, seed: int = 0) -> list[Sample]:
    random = np.random.default_rng([seed, len(source)])
    samples = []
    for number in range(count):
        key = f"{source}-{number:09d}"
        if source == "text":
            parts, images = [TextPart(words(random, 4, 60))], []
        elif source == "captions":
            parts, images = [ImagePart(0), TextPart(words(random, 2, 12))], [encoded_image(number)]
        else:
            size = int(random.integers(1, 7))
            images = [encoded_image(1000 * (number + 1) + i) for i in range(size)]
            parts = [part for i in range(size) for part in (ImagePart(i), TextPart(words(random, 1, 9)))]
        samples.append(Sample(key=key, source=source, parts=parts, images=images, meta={"number": number}))
    return samples


def store_source(store: Store, folder: Path, source: str, samples: list[Sample], tokenizer: TextTokenizer, per_shard: int):
    with ShardWriter(folder, source, ShardLimits(max_samples=per_shard)) as writer:
        for sample in samples:
            writer.add(sample)
    shards = []
    for written in writer.shards:
        index, num_text_tokens = write_index(written, tokenizer)
        shards.append(
            Shard(
                name=written.path.stem,
                tar=store.put_file(written.path),
                index=store.put_file(index),
                num_samples=len(written.keys),
                num_images=written.num_images,
                num_text_tokens=num_text_tokens,
            )
        )
    return SourceData(format="test", preset="toy", num_read=len(samples), shards=tuple(shards))


def build_mix(
    store: Store,
    folder: Path,
    *,
    weights: dict[str, float],
    samples: dict[str, list[Sample]] | None = None,
    sequence_length: int = 64,
    max_images: int = 6,
    image_tokens: int = 4,
    image_size_px: int = 16,
    per_shard: int = 16,
    vocabulary: int = 300,
    seed: int = 0,
    image_layout: str = "single",
) -> tuple[RawData, DataMix]:
    samples = samples or {name: make_samples(name, 50) for name in weights}
    texts = [text for items in samples.values() for sample in items for text in sample.texts()]
    files = store.put_folder(train_bpe(texts, folder / "tokenizer", vocabulary))
    tokenizer = TextTokenizer.from_folder(folder / "tokenizer")
    sources = {
        name: store_source(store, folder / "shards", name, items, tokenizer, per_shard) for name, items in samples.items()
    }
    raw = RawData(sources=sources, tokenizer=files)
    mix = DataMix(
        parents=(digest_of_manifest(raw),),
        raw=digest_of_manifest(raw),
        sources=tuple(
            MixSource(
                name=name,
                weight=weight,
                num_samples=sources[name].num_samples,
                num_images=sources[name].num_images,
                num_text_tokens=sources[name].num_text_tokens,
            )
            for name, weight in weights.items()
        ),
        order_seed=seed,
        sequence_length=sequence_length,
        max_images=max_images,
        image_tokens=image_tokens,
        image_size_px=image_size_px,
        packing={},
        tokenizer=files,
    )
    mix = with_layout(mix, image_layout, store)
    publish(store, raw)
    publish(store, mix)
    return raw, mix
