"""The chain of a level and a seed: its stages in order, each with its inputs and the earlier stages whose outputs it reads.

Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mm1.config.resolve import canonical_json, resolve, split_overrides
from mm1.errors import ConfigurationError
from mm1.manifests import StageRun
from mm1.recipes import registry
from mm1.store.base import digest_of
from mm1.studies.config import OMIT, STAGES, TRAININGS
from mm1.train.config import RunConfig

Chain = dict[str, dict[str, str]]
"""Stage -> input -> text, in the order of the stages."""
Defaults = Mapping[str, Mapping[str, str]]
"""Step -> input -> default as text; required inputs are missing."""
EVALUATE = "evaluate"
SEED = "seed"


@dataclass(frozen=True)
class Work:
    """A stage with all that it depends on. Equal works have equal results."""

    run: StageRun
    parents: tuple[tuple[str, Work], ...] = ()
    """Input -> the stage that produces it."""
    defaults: Mapping[str, str] | None = None
    """Defaults of the step's inputs, so that a setting equal to the default makes no difference."""

    @cached_property
    def id(self) -> str:
        """Digest of the step, its inputs, and those of all stages before it."""
        parents = {name: parent.id for name, parent in self.parents}
        return digest_of(canonical_json([self.run.step, self.inputs, parents]).encode())

    @property
    def inputs(self) -> dict[str, str]:
        """Its inputs, with the defaults of those that are not set."""
        return {**(self.defaults or {}), **self.run.inputs}

    @property
    def trains(self) -> bool:
        """Whether its step trains."""
        return self.run.step in TRAININGS

    @cached_property
    def chain(self) -> tuple[Work, ...]:
        """All stages that it depends on, and itself, in the order of the stages."""
        works = {work.run.stage: work for _, parent in self.parents for work in parent.chain}
        return (*(works[stage] for stage in STAGES if stage in works), self)


def works_of(chain: Chain, defaults: Defaults) -> dict[str, Work]:
    """Connect the stages of a chain.

    Args:
        chain: stages with their inputs.
        defaults: defaults of the steps.

    Returns:
        Stage -> work; the evaluation is last.

    Raises:
        ConfigurationError: a stage needs an output that no stage of the chain produces.
    """
    works: dict[str, Work] = {}
    for stage, inputs in chain.items():
        step = STAGES[stage].step
        parents = tuple((name, works[before]) for name, before in sources_of(stage, chain))
        known = defaults.get(step, {})
        for name in STAGES[stage].inputs:
            if name not in inputs and name not in known and name not in dict(parents):
                stages = " or ".join(STAGES[stage].inputs[name])
                raise ConfigurationError(
                    f"stage {stage} needs stage {stages}, which the chain does not have: add it, or set {stage}.{name}"
                )
        works[stage] = Work(StageRun(stage=stage, step=step, inputs=inputs), parents, known)
    return works


def last_training(works: Mapping[str, Work]) -> Work:
    """Return the last stage of a chain that trains, on which all others have to be of use.

    Raises:
        ConfigurationError: no stage trains, or one has no effect on the last training.
    """
    trainings = [work for work in works.values() if work.trains]
    if not trainings:
        raise ConfigurationError("the chain has no stage that trains: add text_base, pretrain or sft")
    last = trainings[-1]
    used = {work.run.stage for work in last.chain}
    if unused := [stage for stage in works if stage not in used and stage != EVALUATE]:
        raise ConfigurationError(
            f"stage {unused[0]} has no effect, because stage {last.run.stage}, the last that trains, does not depend on it: "
            f"set {unused[0]}: {OMIT}"
        )
    return last


def run_config(chain: Mapping[str, Mapping[str, str]], stage: str) -> RunConfig:
    """Return the configuration of a training stage: its recipe with its overrides.

    Raises:
        ConfigurationError: the chain has no such stage, or recipe or overrides are invalid; the message names the input.
    """
    if stage not in chain:
        raise ConfigurationError(f"expected a stage {stage}, got {', '.join(chain)}")
    inputs = chain[stage]
    if "recipe" not in inputs:
        raise ConfigurationError(f"{stage}.recipe: is required")
    try:
        return resolve(registry.get(inputs["recipe"]), split_overrides(inputs.get("overrides", "")))
    except ConfigurationError as error:
        raise ConfigurationError(f"{stage}: {error}") from None


def sources_of(stage: str, chain: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the inputs of a stage that come from earlier stages of a chain: input, stage."""
    for name, candidates in STAGES[stage].inputs.items():
        present = [candidate for candidate in candidates if candidate in chain]
        if present and name not in chain[stage]:
            yield name, present[-1]


def seeded(chain: Chain, seed: int) -> Chain:
    """Return a chain whose seeded stages have the seed of a cell.

    Raises:
        ConfigurationError: a seeded stage has a seed already.
    """
    for stage, inputs in chain.items():
        if STAGES[stage].seeded and SEED in inputs:
            raise ConfigurationError(f"{stage}.{SEED} has no effect: it is the seed of each cell; set seeds instead")
    return {stage: inputs | ({SEED: str(seed)} if STAGES[stage].seeded else {}) for stage, inputs in chain.items()}
