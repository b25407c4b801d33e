"""Configuration of the toy world: how much of each part is written, and the few shares that experiments change.

Everything else about the world (its words, its page forms) is fixed in the modules that write it. Two folders written
with the same configuration are equal byte by byte; each part has random streams of its own, so that changing the size
of one part leaves the others as they were.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from mm1.config.base import Config

EVAL_SPLITS = ("dev", "test")
"""Splits of the benchmarks; settings are chosen on dev."""

EXAMPLES_PER_NAME = 4
"""Demonstrations of each of the two invented words that an item of the task `novel` asks about."""


class WorldConfig(Config):
    """Size and seed of the toy world. The defaults suit one pre-training run of about 2 million tokens."""

    seed: int = Field(default=0, ge=0)
    """Seed of everything: scenes, words, orders, pixels."""

    image_size_px: int = Field(default=32, ge=16, le=512, multiple_of=4)
    """Height and width of each image in pixels."""

    tokens_per_image: int = Field(default=4, ge=1)
    """Tokens an image is expected to cost; only used to decide where an interleaved document ends."""

    tokens_per_document: int = Field(default=128, ge=48)
    """Most tokens of an interleaved document, images, words and the final EOS counted."""

    num_captions: int = Field(default=24_000, ge=1)
    """Image-caption pairs, question-answer pairs included."""

    captions_per_shard: int = Field(default=4_000, ge=1, le=10_000)
    """Pairs in one tar file of the captions part."""

    synthetic_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the pairs that carry a rich synthetic caption (the role of VeCap, paper section 3.2)."""

    question_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the pairs that carry one question and its answer: the bridge that gives a small model the question form."""

    num_interleaved: int = Field(default=2_500, ge=1)
    """Interleaved documents."""

    documents_per_file: int = Field(default=2_000, ge=1)
    """Documents in one parquet file of the interleaved part."""

    num_texts: int = Field(default=30_000, ge=1)
    """Text-only documents."""

    texts_per_file: int = Field(default=50_000, ge=1)
    """Documents in one jsonl file of the text part."""

    num_instructions: int = Field(default=4_000, ge=1)
    """Conversations of the instruction part."""

    num_eval_items: int = Field(default=512, ge=6, multiple_of=2)
    """Questions per task and split; as many demonstrations (novel words: eight per episode of two questions)."""

    held_out_pairs: int = Field(default=4, ge=0, le=5)
    """Number of (shape, colour) pairs, of 30, that occur in no training part."""

    @model_validator(mode="after")
    def _shares_leave_room(self) -> Self:
        if self.synthetic_share + self.question_share > 1:
            raise ValueError("synthetic_share + question_share must not exceed 1: the rest are alt texts")
        return self

    def demonstrations(self, task: str) -> int:
        """How many demonstrations an item of a benchmark task can get at most."""
        return {"text": 0, "novel": 2 * EXAMPLES_PER_NAME}.get(task, self.num_eval_items)

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """A world of a few dozen samples per part, written in well under a second, for tests."""
        return cls(
            seed=seed,
            num_captions=60,
            captions_per_shard=40,
            num_interleaved=24,
            documents_per_file=16,
            num_texts=80,
            num_instructions=32,
            num_eval_items=12,
        )
