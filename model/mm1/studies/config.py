"""Configuration of a study: levels of one factor, trained with several seeds, and claims about their scores. Torch-free.

A study is a YAML file (``studies/*.yaml``), and its claims are written before it runs: the direction, and the smallest
effect that would matter. The whole file is part of the plan's digest::

    title: Captions against interleaved documents
    base: laptop                                   # studies/bases/laptop.yaml: the settings of all stages
    factor: captions / interleaved
    levels:
      100/0: {mix.weights: captions=1}
      50/50: {mix.weights: "captions=0.5,interleaved=0.5"}
    scores:
      few-shot: {mean: [vague/4/accuracy, novel/8/accuracy]}
    claims:
      - says: Few-shot answers need interleaved documents.
        score: few-shot
        better: 50/50
        than: 100/0
        effect: 0.1

A *chain* is the stages of one training, each a step of this project whose inputs are the stage's settings (:data:`STAGES`).
A *cell* is a chain for one level and one seed.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from mm1.config.base import Config
from mm1.config.resolve import suggest


class Stage(NamedTuple):
    """A stage of a chain: its step, and what its inputs get from earlier stages."""

    step: str
    inputs: dict[str, tuple[str, ...]]
    """Input -> stages whose output it may be: the last one that the chain has."""
    seeded: bool = False
    """Whether the seed of the cell is its input `seed`."""


STAGES: dict[str, Stage] = {
    "data": Stage("ingest", {}),
    "text_mix": Stage("data_mix", {"data": ("data",)}),
    "text_base": Stage("pretrain", {"data": ("text_mix",)}),
    "vision_mix": Stage("data_mix", {"data": ("data",)}),
    "vision": Stage("pretrain_vision", {"data": ("vision_mix",), "init": ("text_base",)}),
    "mix": Stage("data_mix", {"data": ("data",)}, seeded=True),
    "pretrain": Stage("pretrain", {"data": ("mix",), "init": ("text_base", "vision")}, seeded=True),
    "continual_mix": Stage("data_mix", {"data": ("data",)}, seeded=True),
    "continual": Stage("pretrain", {"data": ("continual_mix",), "init": ("pretrain",)}, seeded=True),
    "sft_mix": Stage("data_mix", {"data": ("data",)}, seeded=True),
    "sft": Stage("sft", {"data": ("sft_mix",), "init": ("pretrain", "continual")}, seeded=True),
    "evaluate": Stage("evaluate", {"checkpoint": ("text_base", "pretrain", "continual", "sft")}),
}
"""The stages of a chain in order. Text base and tower have the seed of the base, so that all cells can share them."""

Settings = dict[str, str]
"""``stage.input`` -> text of the value, as on a command line. The inputs ``overrides`` of a stage are joined, not replaced.
``stage: omit`` removes a stage."""
OMIT = "omit"
MAX_NAME = 80
"""Longest name of a level or a score, in characters: it is part of tables and figures."""
TRAININGS = ("pretrain", "pretrain_vision", "sft")
"""Steps that train. All others take seconds, so that only the results of these are worth waiting for."""
LOSS = "loss/"
TERM = re.compile(
    r"^(?P<task>[^/@\s]+)/(?P<shots>[0-9]{1,6})/(?P<metric>[^/\s]+)(/(?P<control>shuffled))?\Z|^loss/(?P<source>.+)\Z"
)
"""A value of a cell: ``task/shots/metric``, the same with ``/shuffled`` for the control with wrong images, or
``loss/source``, the validation loss after the last step of pre-training (0 shots, no items); of a source that the mixture has
in groups, their mean."""


class Score(Config):
    """A score of a cell: the mean of some values of its evaluation, minus that of others."""

    mean: tuple[str, ...] = Field(min_length=1)
    """Values (:data:`TERM`); all have the same unit."""
    minus: tuple[str, ...] = ()
    """Values whose mean is subtracted, for gains such as 4 shots against 0."""
    unit: str = ""
    """Unit for axes; empty = a share between 0 and 1."""

    @field_validator("mean", "minus")
    @classmethod
    def _terms(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        for term in terms:
            if not TERM.match(term):
                raise ValueError(f"expected task/shots/metric, task/shots/metric/shuffled or loss/source, got {term!r}")
        return terms

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if len({term.startswith(LOSS) for term in (*self.mean, *self.minus)}) > 1:
            raise ValueError("a loss and a score of a task have no common mean: make two scores of them")
        return self

    @property
    def lower_is_better(self) -> bool:
        """Whether it is a loss."""
        return self.mean[0].startswith(LOSS)


class Claim(Config):
    """A statement about two levels (or two scores of one level), with the effect that is expected."""

    says: str
    """The statement, a sentence."""
    score: str
    """Name of a score of the study."""
    better: str
    """Level that is expected to be better."""
    than: str
    """Level that it is compared with."""
    than_score: str = ""
    """Score of the other level; empty = the same."""
    effect: float = Field(gt=0)
    """Smallest effect of interest, in units of the score: a smaller one is not worth a claim, even if it is real."""
    kind: Literal["better", "equal"] = "better"
    """better: the difference is above 0, and at least `effect`; equal: it is smaller than `effect` in either direction."""


class Paper(Config):
    """What the paper says about the factor."""

    section: str
    """Section, figure or table."""
    says: str
    """Its conclusion, in our words."""
    figures: dict[str, dict[str, float | None]] = Field(default={})
    """Level -> column -> number of the paper; null = not published or not known."""
    source: str = ""
    """Where the numbers are from, if not from the paper itself."""


class Budget(Config):
    """What all levels have in common."""

    same: Literal["steps", "tokens", "flops"] = "steps"
    """steps: every level trains as many steps as the base; tokens, flops: the steps of pre-training follow from the tokens or
    arithmetic of the base's, whatever the sequences and the model of a level are."""


class Sizes(Config):
    """Settings of a study on another base, where the numbers of its own do not fit, such as widths and pixels."""

    settings: Settings | None = None
    """Settings of all levels; None = those of the study."""
    levels: dict[str, Settings] = Field(default={})
    """Level -> its settings; levels that are not here keep those of the study."""
    target: Settings | None = None
    """Settings of the size that is predicted; None = those of the study."""


class Study(Config):
    """A study of one factor."""

    title: str = Field(min_length=1)
    """Headline."""
    paper: Paper
    """What is repeated."""
    base: str = "laptop"
    """Name of the chain that the levels change (``studies/bases/<name>.yaml``)."""
    analysis: Literal["levels", "learning_rate", "scaling"] = "levels"
    """levels: verdicts on claims; learning_rate: fit of the law; scaling: prediction of the largest size."""
    factor: str = Field(min_length=1)
    """Name of what the levels change."""
    settings: Settings = Field(default={})
    """Settings of all levels, on top of the base's."""
    levels: dict[str, Settings] = Field(min_length=1)
    """Level -> its settings."""
    target: Settings = Field(default={})
    """Settings of a size that is predicted and not trained (analysis scaling); empty = the largest level is predicted."""
    bases: dict[str, Sizes] = Field(default={})
    """Other base -> what differs on it."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of data order and fresh weights; levels with the same seed see the same order."""
    budget: Budget = Budget()
    """What the levels have in common."""
    scores: dict[str, Score] = Field(min_length=1)
    """Name -> score."""
    claims: tuple[Claim, ...] = ()
    """Claims, written before the run."""
    limits: str = ""
    """What this study cannot show at its size, and why; printed with the verdicts."""

    @field_validator("levels", "scores")
    @classmethod
    def _short_names(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if not 0 < len(name) <= MAX_NAME or not name.isprintable():
                raise ValueError(f"expected names of 1 to {MAX_NAME} characters on one line, got {name[:100]!r}")
        return value

    @field_validator("seeds")
    @classmethod
    def _different_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 0 or len({*value}) < len(value):
            raise ValueError(f"expected different integers from 0 on, got {', '.join(map(str, value))}")
        return value

    def on(self, base: str, like: str = "") -> Self:
        """Return the study with another base, and its settings for it, or for the base that it is like."""
        sizes = self.bases.get(like or base, Sizes())
        given = {name: value for name in ("settings", "target") if (value := getattr(sizes, name)) is not None}
        return self.model_copy(update={"base": base, "levels": self.levels | sizes.levels, **given})

    @model_validator(mode="after")
    def _known_stages(self) -> Self:
        groups = {"settings": self.settings, "target": self.target}
        groups |= {f"levels.{level}": settings for level, settings in self.levels.items()}
        for base, sizes in self.bases.items():
            for level in sizes.levels:
                if level not in self.levels:
                    where = f"bases.{base}.levels.{level}"
                    raise ValueError(f"{where}: unknown level {level!r}; {suggest(level, list(self.levels))}")
            groups |= {f"bases.{base}.settings": sizes.settings or {}, f"bases.{base}.target": sizes.target or {}}
            groups |= {f"bases.{base}.levels.{level}": settings for level, settings in sizes.levels.items()}
        for where, settings in groups.items():
            try:
                check_settings(settings)
            except ValueError as error:
                raise ValueError(f"{where}.{error}") from None
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        for number, claim in enumerate(self.claims):
            for field, name, known in (
                ("score", claim.score, self.scores),
                ("than_score", claim.than_score or claim.score, self.scores),
                ("better", claim.better, self.levels),
                ("than", claim.than, self.levels),
            ):
                if name not in known:
                    raise ValueError(f"claims.{number}.{field}: unknown name {name!r}; {suggest(name, list(known))}")
            if (claim.better, claim.score) == (claim.than, claim.than_score or claim.score):
                raise ValueError(f"claims.{number}: compares {claim.better!r} with itself")
            if claim.than_score and self.scores[claim.score].lower_is_better != self.scores[claim.than_score].lower_is_better:
                raise ValueError(f"claims.{number}.than_score: a loss cannot be compared with a score; name two of one kind")
        return self


def check_settings(settings: Settings) -> None:
    """Check that settings name stages.

    Raises:
        ValueError: an unknown stage, or an input without a name.
    """
    for path, value in settings.items():
        stage, _, name = path.partition(".")
        if stage not in STAGES:
            raise ValueError(f"{path}: unknown stage {stage!r}; {suggest(stage, list(STAGES))}")
        if not name and value != OMIT:
            raise ValueError(f"{path}: expected stage.input, for example {stage}.seed, or {stage}: {OMIT}")
