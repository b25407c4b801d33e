"""Configuration of the toy world: the size of each part and the few shares varied in experiments.

Everything else about the world (its words and page types) is fixed in the modules that write it. Two folders written with
the same configuration are byte-identical. Each part has its own random streams, so changing the size of one part does not
affect the others.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mm1.config.base import Config

EVAL_SPLITS = ("dev", "test")
"""Benchmark splits; settings are chosen on dev."""

EXAMPLES_PER_NAME = 4
"""Number of demonstrations for each invented word of an episode of the tasks `novel` (two words) and `codes` (five or six)."""

MARK_SIDE_PX = 64
"""Height and width of the smallest images with fine marks (:mod:`mm1.world.marks`)."""


class WorldConfig(Config):
    """Sizes and seed of the toy world. The defaults suit one pre-training run of about 2 million tokens."""

    seed: int = Field(default=0, ge=0)
    """Seed of scenes, words, orders and pixels."""

    image_size_px: int = Field(default=32, ge=16, le=512, multiple_of=4)
    """Height and width of each image, in pixels."""

    tokens_per_image: int = Field(default=4, ge=1)
    """Assumed tokens per image; only used to decide where an interleaved document ends."""

    tokens_per_document: int = Field(default=128, ge=48)
    """Maximum tokens in an interleaved document: images, words and the final EOS."""

    num_captions: int = Field(default=24_000, ge=1)
    """Number of image-caption pairs, including question-answer pairs."""

    captions_per_shard: int = Field(default=4_000, ge=1, le=10_000)
    """Number of pairs per tar in the captions part."""

    synthetic_share: float = Field(default=0.2, ge=0, le=1)
    """Fraction of pairs with a rich synthetic caption (like VeCap, paper section 3.3)."""

    num_synthetic: int = Field(default=4_000, ge=1)
    """Number of pairs with a rich synthetic caption in the part `synthetic`, a source of its own."""

    question_share: float = Field(default=0.1, ge=0, le=1)
    """Fraction of pairs with a question and its answer: they help a small model learn the question format."""

    num_interleaved: int = Field(default=2_500, ge=1)
    """Number of interleaved documents."""

    documents_per_file: int = Field(default=2_000, ge=1)
    """Number of documents per parquet file in the interleaved part."""

    num_texts: int = Field(default=30_000, ge=1)
    """Number of text-only documents."""

    texts_per_file: int = Field(default=50_000, ge=1)
    """Number of documents per jsonl file in the text part."""

    num_instructions: int = Field(default=4_000, ge=1)
    """Number of conversations about at most one image in the instruction part; those about several come on top."""

    num_pages: int = Field(default=8_000, ge=1)
    """Number of pairs of a text page and its text, or a question about it, in the part ocr."""

    num_reading: int = Field(default=2_000, ge=1)
    """Number of conversations about text pages in the part reading."""

    num_grounding: int = Field(default=2_000, ge=1)
    """Number of conversations with boxes and points in the part grounding."""

    num_marks: int = Field(default=8_000, ge=1)
    """Number of conversations about fine marks in the part marks."""

    num_eval_items: int = Field(default=512, ge=6, multiple_of=2)
    """Questions per task and split, and the same number of demonstrations (novel words: eight per episode of two questions)."""

    held_out_pairs: int = Field(default=4, ge=0, le=5)
    """Number of (shape, colour) pairs, of 30, that do not occur in any training part."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.synthetic_share + self.question_share > 1:
            raise ValueError("synthetic_share + question_share must not exceed 1: the rest are alt texts")
        return self

    def has_task(self, task: str) -> bool:
        """Whether the benchmarks have a task: all worlds have those of this project, except that marks need large images."""
        return task != "mark" or self.image_size_px >= MARK_SIDE_PX

    def demonstrations(self, task: str) -> int:
        """Return the maximum number of demonstrations for an item of a benchmark task."""
        if task.partition("_")[0] == "text":
            return 0
        few = {"novel": 2 * EXAMPLES_PER_NAME, "codes": 5 * EXAMPLES_PER_NAME, "ocr": self.num_eval_items // 4}
        return few.get(task, self.num_eval_items)

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """Return a world with a few dozen samples per part, written in well under a second, for tests."""
        return cls(
            seed=seed,
            num_captions=60,
            captions_per_shard=40,
            num_synthetic=20,
            num_interleaved=24,
            documents_per_file=16,
            num_texts=80,
            num_instructions=32,
            num_pages=50,
            num_reading=16,
            num_grounding=16,
            num_marks=16,
            num_eval_items=12,
        )
