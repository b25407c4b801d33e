"""Whether a chain has the values of a study's scores, known before it is trained. Torch-free.

A value is a metric of a task, which the evaluation has to answer with these shots and this control, or a validation loss, for
which the mixture must hold out samples of the source.
"""

from __future__ import annotations

from collections.abc import Mapping

from mm1.config.resolve import suggest
from mm1.data.load.holdout import parse_holdout, request_of
from mm1.data.load.mixture import SYNTHETIC, TEXT_BASE, parse_weights
from mm1.data.source_names import names_of
from mm1.errors import ConfigurationError
from mm1.evals.tasks.names import parse_name
from mm1.evals.tasks.registry import metrics_of, planned_scores
from mm1.studies.chains import EVALUATE, Work, run_config
from mm1.studies.config import TERM, Study
from mm1.studies.evaluation import Tasks, selection

YES = ("1", "true", "t", "yes", "y", "on")
"""Texts that a step reads as true."""
PRETRAINED = ("pretrain", "continual")
"""Stages whose last one has the losses; without them, the last training has."""


def check_values(study: Study, works: Mapping[str, Work], tasks: Tasks) -> None:
    """Check that a chain has all values of the scores of a study.

    Args:
        study: the study.
        works: stages of the chain.
        tasks: tasks and shots of its evaluation.

    Raises:
        ConfigurationError: it does not; the message names score and value, and how to get it.
    """
    planned = _planned(works, tasks)
    for name, score in study.scores.items():
        for match in filter(None, map(TERM.match, (*score.mean, *score.minus))):
            complaint = _no_loss(works, match["source"]) if match["source"] else _no_answers(works, planned, match.groupdict())
            if complaint:
                raise ConfigurationError(f"scores.{name}: {match[0]}: {complaint}")


def _planned(works: Mapping[str, Work], tasks: Tasks) -> set[tuple[str, int, str]]:
    if EVALUATE not in works or not tasks:
        return set()
    inputs, chosen = works[EVALUATE].inputs, selection(tasks)
    return planned_scores(chosen["tasks"], chosen["shots"], _is_true(inputs, "controls"), inputs.get("split", ""))


def _no_answers(works: Mapping[str, Work], planned: set[tuple[str, int, str]], term: Mapping[str, str]) -> str:
    """Return why an evaluation does not have a value; empty if it does."""
    task, metric = term["task"], term["metric"]
    if EVALUATE not in works:
        return f"the chain has no stage {EVALUATE}"
    base = parse_name(task).base
    if not base.endswith(".py") and metric not in (known := metrics_of(base)):
        return f"{task} has no metric {metric!r}; {suggest(metric, known)}"
    if term["control"] and (task, int(term["shots"]), term["control"]) not in planned:
        if not _is_true(works[EVALUATE].inputs, "controls"):
            return f"the evaluation has no controls: set {EVALUATE}.controls: true"
        return f"{task} has no control at {term['shots']} shots"
    return ""


def _no_loss(works: Mapping[str, Work], source: str) -> str:
    """Return why a training has no validation loss of a source; empty if it has."""
    stages = [stage for stage, work in works.items() if work.trains]
    stage = next((stage for stage in reversed(stages) if stage in PRETRAINED), stages[-1])
    inputs = {name: work.run.inputs for name, work in works.items()}
    if not run_config(inputs, stage).train.validate_every:
        return f"stage {stage} does not validate: set {stage}.overrides: train.validate_every=100"
    mixture = dict(works[stage].parents).get("data")
    return _not_held_out(mixture, source) if mixture else ""


def _not_held_out(mixture: Work, source: str) -> str:
    stage, inputs = mixture.run.stage, mixture.inputs
    weights, holdout = inputs.get("weights", ""), inputs.get("holdout", "")
    try:
        known, held_out = parse_weights(weights), parse_holdout(holdout)
    except ConfigurationError as error:
        return f"{stage}: {error}"
    known = {name: weight for name, weight in known.items() if weight}
    if not names_of(source, known) and source != SYNTHETIC and weights.strip() != TEXT_BASE:
        return f"{stage}.weights does not have the source {source!r}; {suggest(source, list(known))}"
    if not request_of(held_out, source)[1]:
        return f"{stage} holds out no samples of {source}: set {stage}.holdout, for example 0.02"
    return ""


def _is_true(inputs: Mapping[str, str], name: str) -> bool:
    return inputs.get(name, "").strip().lower() in YES
