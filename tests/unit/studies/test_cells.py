"""Trained cells: losses of chains of stages, cells without an evaluation, values of whole corpora."""

from __future__ import annotations

import pytest

from mm1.manifests import Cell, CellUse, Checkpoint, Score, StageRun, StudyPlan, load, load_digest, publish, split_uri
from mm1.store.open import open_store
from mm1.studies.cells import MissingValue, StudyData, TrainedCell, read_cells, study_data
from mm1.studies.config import Study
from mm1.studies.costs import Cost, level_cost
from mm1.studies.run_records import measured, records_of
from mm1.studies.verdict import judge
from tests.support.stored_runs import ZERO, record, report
from tests.support.trained_cells import publish_studies, record_training, two_levels


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def chain(store):
    """Addresses of a text base, of a pre-training and of its fine-tuning, the last two with histories."""
    content = two_levels(scores={"few-shot": {"mean": ["loss/captions"]}})
    pretrained = publish_studies(store, {"letters": content}, lambda level, seed, term: 0.7).trained[0]
    base = load(pretrained, Checkpoint).model_copy(update={"stage": "text", "history": None})
    text = publish(store, base)
    middle = load(pretrained, Checkpoint).model_copy(update={"parents": (split_uri(text)[1],)})
    pretrain = publish(store, middle)
    tuned = middle.model_copy(update={"stage": "sft", "step": 50, "history": None, "parents": (split_uri(pretrain)[1],)})
    return text, pretrain, publish(store, tuned)


def trained(store, address, **more):
    uses = (CellUse(study="letters", level="A"),)
    cell = Cell(name="letters-A-0", seed=0, stages=(StageRun(stage="pretrain", step="pretrain", inputs={}),), uses=uses)
    digest = split_uri(address)[1]
    return TrainedCell(cell=cell, store=store, digest=digest, checkpoint=load_digest(store, digest), **more)


def test_the_loss_of_a_tuned_cell_is_that_of_its_pre_training(store, chain):
    _, pretrain, tuned = chain
    cell = trained(store, tuned)
    assert [checkpoint.stage for _, checkpoint in cell.trainings] == ["sft", "pretrain"]
    assert cell.values("loss/captions").values == pytest.approx([0.7])
    assert trained(store, pretrain).values("loss/captions").values == pytest.approx([0.7])
    with pytest.raises(MissingValue, match="no validation loss of text"):
        cell.values("loss/text")


def test_a_task_may_be_named_with_its_split(store):
    published = publish_studies(store, {"letters": two_levels()}, lambda level, seed, term: 0.5)
    cell = next(iter(read_cells(load(published.plan, StudyPlan), published.trained, published.reports).values()))
    assert cell.values("vague:test/4/accuracy").items == cell.values("vague/4/accuracy").items
    with pytest.raises(MissingValue, match="no accuracy of vague:dev at 4 shots"):
        cell.values("vague:dev/4/accuracy")


def test_the_loss_of_a_source_with_groups_is_their_mean(store):
    content = two_levels(scores={"few-shot": {"mean": ["loss/captions/a", "loss/captions/b"]}})
    address = publish_studies(store, {"letters": content}, lambda level, seed, term: 0.5 if term[-1] == "a" else 0.7).trained[0]
    cell = trained(store, address)
    assert cell.values("loss/captions").values == pytest.approx([0.6])
    assert cell.values("loss/captions/b").values == pytest.approx([0.7])


def test_a_cell_that_only_has_a_text_base_is_its_own_training(store, chain):
    assert [checkpoint.stage for _, checkpoint in trained(store, chain[0]).trainings] == ["text"]


def test_cost_is_that_of_all_trainings_of_the_cell_also_of_cached_ones(store, chain):
    _, pretrain, tuned = chain
    record(store, "a", "train-cell", step="study_train", outputs={"manifest": pretrain}, seconds=70.0)
    record_training(store, "a", "train-cell_pretrain", pretrain, 61.5, facts={"flops": 2e12})
    record_training(store, "b", "pretrain", pretrain, 61.5, facts={"flops": 2e12}, cache_hit=True)
    record_training(store, "b", "sft", tuned, 10.0, facts={"flops": 1e12, "gpu": "H200"}, step="sft", cache_hit=True)
    store.write("runs/b/damaged.json", b"{")
    cost = cost_of(trained(store, tuned))
    assert (cost.steps, cost.seconds, cost.flops, cost.device) == (250, 71.5, 3e12, "H200")


def test_the_time_of_a_training_without_a_record_is_not_known(store, chain):
    record_training(store, "b", "sft", chain[2], 10.0, step="sft")
    cost = cost_of(trained(store, chain[2]))
    assert (cost.seconds, cost.device) == (None, "AMD EPYC")


def test_a_damaged_metrics_json_leaves_the_time_unknown(store, chain):
    nothing = {"metrics.json": store.put_bytes(b"[]").model_dump()}
    record(store, "b", "pretrain", outputs={"manifest": chain[1]}, artifacts=nothing)
    assert cost_of(trained(store, chain[1])).seconds is None


def cost_of(cell: TrainedCell) -> Cost:
    study = Study.model_validate(two_levels(seeds=[0]))
    data = StudyData(name="letters", study=study, plan=ZERO, cells={("A", 0): cell}, missing={})
    cost = level_cost(data, "A", measured([cell], records_of([cell])))
    assert cost is not None
    return cost


def test_a_score_without_items_is_that_of_the_report(store, chain):
    answers = report(store, 0.25)  # without a table of answers
    cell = trained(store, chain[1], report_digest=ZERO, report=answers, reports=store)
    values = cell.values("vqa/4/accuracy")
    assert (values.values.tolist(), values.items, values.clusters) == ([0.25], (), None)
    with pytest.raises(MissingValue, match="no bleu of vqa at 4 shots, shuffled"):
        cell.values("vqa/4/bleu/shuffled")


def test_cells_without_an_evaluation_are_judged_by_their_losses(store):
    content = two_levels(scores={"few-shot": {"mean": ["loss/captions"]}})
    losses = {"A": 0.9, "B": 0.4}
    published = publish_studies(store, {"letters": content}, lambda level, seed, term: losses[level] + 0.001 * seed**2)
    plan = load(published.plan, StudyPlan)
    stage = StageRun(stage="pretrain", step="pretrain", inputs={})
    unscored = plan.model_copy(update={"cells": tuple(cell.model_copy(update={"stages": (stage,)}) for cell in plan.cells)})
    nothing = [""] * len(plan.cells)
    assert not read_cells(plan, published.trained, nothing)  # their evaluation failed
    (data,) = study_data(unscored, ZERO, read_cells(unscored, published.trained, nothing))
    assert [verdict.outcome for verdict in judge(data)] == ["not shown"]
    assert judge(data)[0].effect == pytest.approx(0.5)


def test_levels_are_in_the_order_of_their_cells_if_the_plan_does_not_have_it(store):
    content = two_levels(levels={"B": {}, "A": {}})
    published = publish_studies(store, {"letters": content}, lambda level, seed, term: 0.5)
    plan = load(published.plan, StudyPlan)
    unordered = plan.model_copy(update={"studies": (plan.studies[0].model_copy(update={"levels": ()}),)})
    (data,) = study_data(unordered, ZERO, {})
    assert list(data.study.levels) == ["B", "A"]


def test_reports_of_corpus_metrics_have_errors_over_seeds(store):
    content = two_levels(scores={"few-shot": {"mean": ["vqa/4/bleu"]}})
    published = publish_studies(store, {"letters": content}, lambda level, seed, term: 0.5)
    plan = load(published.plan, StudyPlan)
    cells = read_cells(plan, published.trained, published.reports)
    means = {"A": (0.2, 0.21, 0.22), "B": (0.5, 0.52, 0.51)}
    changed = {name: _with_score(cell, means[cell.cell.uses[0].level][cell.cell.seed]) for name, cell in cells.items()}
    (data,) = study_data(plan, ZERO, changed)
    (verdict,) = judge(data)
    assert (verdict.outcome, verdict.over, verdict.num_items) == ("shown", "seeds", 0)
    assert verdict.effect == pytest.approx(0.3)


def _with_score(cell: TrainedCell, value: float) -> TrainedCell:
    score = Score(task="vqa", split="test", metric="bleu", shots=4, value=value, stderr=0.1, num_items=9)
    answers = cell.report.model_copy(update={"scores": (score,), "samples": None})
    return TrainedCell(
        cell=cell.cell, store=cell.store, digest=cell.digest, checkpoint=cell.checkpoint, report=answers, reports=cell.reports
    )
