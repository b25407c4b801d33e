r"""From studies to a plan: which chains are trained, in which order, and what each of them is for.

::

    base settings <- study.settings <- level settings, for each level and seed
        -> cells: equal ones of several studies are one, whose evaluation answers all of them
        -> shared: beginnings that several cells have in common, first those that nothing shared precedes

Torch-free, except for a budget in FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mm1.config.resolve import canonical_json, suggest
from mm1.errors import ConfigurationError
from mm1.manifests import Cell, CellUse, PlannedStudy, StageRun, StudyPlan
from mm1.store.base import digest_of
from mm1.studies.budget import with_budget
from mm1.studies.chains import EVALUATE, Defaults, Work, last_training, seeded, works_of
from mm1.studies.config import STAGES, Study
from mm1.studies.evaluation import SELECTION, Tasks, joined, needed, selection
from mm1.studies.files import merged, on_base, read_base, slug
from mm1.studies.sizes import check_sizes
from mm1.studies.values import check_values

JOINER = "+"
"""Between the names of chains that are trained one after the other."""
LONGEST = 40
"""Characters of a study and a level in the name of a cell."""


@dataclass
class _Draft:
    """A cell while studies are added to it."""

    name: str
    seed: int
    works: dict[str, Work]
    tasks: Tasks = field(default_factory=dict)
    uses: list[CellUse] = field(default_factory=list)

    @property
    def trainings(self) -> list[Work]:
        """The stages that train, in order."""
        return [work for work in self.works.values() if work.trains]

    def cell(self, runs: Mapping[str, StageRun]) -> Cell:
        """Return the cell; `runs` has the same object for equal work, so that shared chains are recognized."""
        stages = [runs[work.id] for stage, work in self.works.items() if stage != EVALUATE]
        if EVALUATE in self.works and self.tasks:
            run = self.works[EVALUATE].run
            stages.append(run.model_copy(update={"inputs": {**run.inputs, **selection(self.tasks)}}))
        return Cell(name=self.name, seed=self.seed, stages=tuple(stages), uses=tuple(self.uses))


def plan_studies(studies: Mapping[str, Study], defaults: Defaults, *, base: str = "", seeds: Sequence[int] = ()) -> StudyPlan:
    """Plan studies.

    Args:
        studies: name -> study.
        defaults: step -> input -> default, as declared.
        base: name of the chain instead of the studies' own; empty = theirs.
        seeds: seeds instead of the studies' own; empty = theirs.

    Raises:
        ConfigurationError: a stage lacks an input; names study and level.
    """
    if base:
        studies = {name: on_base(study, base) for name, study in studies.items()}
    if seeds:
        studies = {name: study.model_copy(update={"seeds": tuple(seeds)}) for name, study in studies.items()}
    drafts: dict[str, _Draft] = {}
    for name, study in studies.items():
        try:
            check_sizes(study)
        except ConfigurationError as error:
            raise ConfigurationError(f"study {name}: {error}") from None
        for level in study.levels:
            for seed in study.seeds:
                _add(drafts, name, study, level, seed, defaults)
    cells = list(drafts.values())
    runs: dict[str, StageRun] = {}
    for draft in cells:
        for work in draft.works.values():
            runs.setdefault(work.id, work.run)
    return StudyPlan(
        studies=tuple(PlannedStudy(name=name, content=study.model_dump(mode="json")) for name, study in studies.items()),
        cells=tuple(draft.cell(runs) for draft in cells),
        shared=tuple(_shared(cells, runs)),
    )


def _add(drafts: dict[str, _Draft], name: str, study: Study, level: str, seed: int, defaults: Defaults) -> None:
    """Add a level and seed of a study to the cell that trains and evaluates the same."""
    try:
        works = _works(study, level, seed, defaults)
        inputs = works[EVALUATE].run.inputs if EVALUATE in works else {}
        tasks = needed(study, inputs, defaults.get(EVALUATE, {}).get("shots", "0")) if EVALUATE in works else {}
        if seed == study.seeds[0]:
            check_values(study, works, tasks)
    except ConfigurationError as error:
        raise ConfigurationError(f"study {name}, level {level}: {error}") from None
    identity = _identity(works)
    if identity not in drafts:
        label = f"{slug(name)[:LONGEST]}.{slug(level)[:LONGEST]}.s{seed}"
        taken = {draft.name for draft in drafts.values()}
        drafts[identity] = _Draft(_unique(label, taken), seed, works)
    draft = drafts[identity]
    if same := [use.level for use in draft.uses if use.study == name]:
        raise ConfigurationError(f"study {name}, level {level}: {_same_training(same[-1], level)}")
    draft.tasks = joined(draft.tasks, tasks)
    draft.uses.append(CellUse(study=name, level=level))


def _same_training(other: str, level: str) -> str:
    if other == level:
        return "all seeds are one training, because no stage of the chain depends on the seed; set seeds: [0]"
    return f"its settings are those of level {other!r}, so that both are one training; change a setting, or remove a level"


def _works(study: Study, level: str, seed: int, defaults: Defaults) -> dict[str, Work]:
    parts = (read_base(study.base), study.settings)
    chain = with_budget(merged(*parts, study.levels[level]), merged(*parts), study.budget.same, defaults)
    works = works_of(seeded(chain, seed), defaults)
    last_training(works)
    return works


def _identity(works: Mapping[str, Work]) -> str:
    """Return a digest of all that a cell trains, and how it is evaluated apart from tasks and shots."""
    trained = [work.id for stage, work in works.items() if stage != EVALUATE]
    how = (
        {name: text for name, text in works[EVALUATE].run.inputs.items() if name not in SELECTION} if EVALUATE in works else {}
    )
    return digest_of(canonical_json([trained, how]).encode())


def _unique(label: str, taken: set[str]) -> str:
    names = (label, *(f"{label}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


# -- shared beginnings -----------------------------------------------------------------------------------------------------


def _shared(cells: Sequence[_Draft], runs: Mapping[str, StageRun]) -> Iterator[Cell]:
    """Yield the beginnings of chains to be trained first: those of several cells, and every text base and tower."""
    users: dict[str, list[tuple[_Draft, Work]]] = {}
    for draft in cells:
        for work in draft.trainings:
            users.setdefault(work.id, []).append((draft, work))
    chosen = [group for group in users.values() if len(group) > 1 or not STAGES[group[0][1].run.stage].seeded]
    taken: set[str] = set()
    for group in sorted(chosen, key=lambda group: len([work for work in group[0][1].chain if work.trains])):
        draft, work = group[0]
        stage = work.run.stage
        name = _unique(f"{draft.name}.{stage}" if STAGES[stage].seeded else stage, taken)
        taken.add(name)
        uses = dict.fromkeys(use for user, _ in group for use in user.uses)
        stages = tuple(runs[before.id] for before in work.chain)
        yield Cell(name=name, seed=draft.seed, stages=stages, uses=tuple(uses))


def waves(plan: StudyPlan) -> tuple[list[str], list[str]]:
    """Return two lists of shared chains: those that nothing shared precedes, then the rest. Neither is empty.

    The chains of a list are independent, so that they can be trained side by side. A chain that begins with another one of the
    second list is trained after it: their names are joined. Without such chains the second list repeats the first, whose
    results are cached by then, because not every engine is known to run a loop over an empty list.
    """
    first = [cell for cell in plan.shared if not any(_begins_with(cell, other) for other in plan.shared)] or [plan.cells[0]]
    groups: list[list[Cell]] = []
    for cell in (cell for cell in plan.shared if cell not in first):
        group = next((group for group in groups if any(_begins_with(cell, other) for other in group)), None)
        groups.append([cell]) if group is None else group.append(cell)
    names = [cell.name for cell in first]
    return names, [JOINER.join(cell.name for cell in group) for group in groups] or names


def chains_named(plan: StudyPlan, text: str) -> list[Cell]:
    """Return cells and shared chains by name.

    Args:
        plan: the plan.
        text: a name, or several that are joined.

    Raises:
        ConfigurationError: the plan has no such cell.
    """
    known = {cell.name: cell for cell in (*plan.shared, *plan.cells)}
    for name in (names := text.split(JOINER)):
        if name not in known:
            raise ConfigurationError(f"cell: the plan has no cell {name!r}; {suggest(name, list(known))}")
    return [known[name] for name in names]


def _begins_with(cell: Cell, other: Cell) -> bool:
    return cell != other and all(run in cell.stages for run in other.stages)
