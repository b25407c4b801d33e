"""Steps within a step: one cache for both ways of running, records of their own, errors that keep their class."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError, DivergedError, NetworkError, Outcome
from mm1.lineage.records import RunRecords, read_run
from mm1.manifests import Cell, DataMix, StageRun, StudyPlan, load, publish
from mm1.store.local import LocalStore
from mm1_components import data_mix, study_evaluate, study_train
from mm1_components.chains import run as chains
from mm1_components.wrapper.arguments import ManifestUri, build_parser
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import execute
from mm1_components.wrapper.nested import run_step
from tests.support.mixtures import build_mix, make_samples


class Inputs(BaseModel):
    data: ManifestUri = Field(description="RawData.")
    seed: str = Field("0", description="Seed of the mixture.")


class Outputs(BaseModel):
    manifest: ManifestUri = Field(description="DataMix.")


def mix_within(inputs: Inputs, context: Context) -> Outputs:
    given = {"data": inputs.data, "weights": "text=1", "seed": inputs.seed}
    return Outputs(manifest=run_step("data_mix", given, context, "mix")["manifest"])


OUTER = Step(name="outer", inputs=Inputs, outputs=Outputs, run=mix_within, summary="Mixes within.", cached=False)


def mix_and_go_on(inputs: Inputs, context: Context) -> Outputs:
    made = mix_within(inputs, context)
    with suppress(ConfigurationError):
        run_step("data_mix", {"data": inputs.data, "weights": "captions=1"}, context, "wrong")
    return made


TOLERANT = Step(name="tolerant", inputs=Inputs, outputs=Outputs, run=mix_and_go_on, summary="Mixes within.", cached=False)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store's folder and its RawData."""
    folder = tmp_path_factory.mktemp("nested")
    store = LocalStore(folder / "store")
    raw, _ = build_mix(store, folder / "raw", weights={"text": 1.0}, samples={"text": make_samples("text", 40)})
    return folder / "store", publish(store, raw)


def do(step: Step[Any, Any], store: Path, task: str, **inputs: str) -> tuple[Outcome, RunRecords]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    arguments = [*options, "--store", str(store), "--run", "r", "--task", task]
    return execute(step, build_parser(step).parse_args(arguments)), read_run(LocalStore(store), "r")


def test_work_is_cached_in_both_directions(raw: tuple[Path, str]) -> None:
    store, data = raw
    outcome, run = do(OUTER, store, "outer", data=data, seed="1")
    inner = run.tasks["outer/mix"]
    assert outcome is Outcome.DONE and not inner.cache_hit and inner.within == "outer" and inner.step == "data_mix"
    assert run.tasks["outer"].manifest == inner.manifest and load(inner.manifest, DataMix).order_seed == 1
    assert inner.inputs["seed"] == 1 and inner.artifacts, "its artifacts are in the store"
    _, run = do(data_mix.STEP, store, "alone", data=data, weights="text=1", seed="1")
    assert run.tasks["alone"].cache_hit and run.tasks["alone"].cache_key == inner.cache_key
    do(data_mix.STEP, store, "first", data=data, weights="text=1", seed="2")
    _, run = do(OUTER, store, "second", data=data, seed="2")
    assert run.tasks["second/mix"].cache_hit and run.tasks["second"].cache_hit, "nothing was left to do"
    assert set(run.own) == {"outer", "alone", "first", "second"} and run.state == "done"


def test_an_error_within_is_recorded_there_and_is_the_error_of_the_task(raw: tuple[Path, str]) -> None:
    store, data = raw
    outcome, run = do(OUTER, store, "wrong", data=data, seed="x")
    assert outcome is Outcome.CONFIGURATION
    for task in ("wrong", "wrong/mix"):
        assert run.tasks[task].status == "failed" and "seed: expected an integer, got 'x'" in run.tasks[task].message
    assert run.failures == {"wrong": "configuration"}, "it is counted once"


# -- study_train and study_evaluate ----------------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> tuple[LocalStore, str]:
    run = StageRun(stage="text_base", step="pretrain", inputs={})
    evaluate = StageRun(stage="evaluate", step="evaluate", inputs={"tasks": "vqa@0"})
    cells = (
        Cell(name="s.a.s0", seed=0, stages=(run, evaluate), uses=()),
        Cell(name="s.b.s0", seed=0, stages=(run,), uses=()),
    )
    store = LocalStore(tmp_path / "store")
    return store, publish(store, StudyPlan(studies=(), cells=cells))


def test_a_task_with_a_failure_within_is_not_cached(raw: tuple[Path, str]) -> None:
    store, data = raw
    for _ in range(2):
        outcome, run = do(TOLERANT, store, "tolerant", data=data, seed="5")
        assert outcome is Outcome.DONE and not run.tasks["tolerant"].cache_hit
    assert run.tasks["tolerant/mix"].cache_hit


@pytest.mark.parametrize(
    ("error", "tolerate", "outcome"),
    [
        (DivergedError("loss is NaN at step 7"), "true", Outcome.DONE),
        (DivergedError("loss is NaN at step 7"), "false", Outcome.DIVERGED),
        (NetworkError("no store"), "true", Outcome.NETWORK),
    ],
)
def test_a_cell_that_diverges_does_not_stop_the_others(
    plan: tuple[LocalStore, str], monkeypatch: pytest.MonkeyPatch, error: Exception, tolerate: str, outcome: Outcome
) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(chains, "train_chain", fail)
    store, address = plan
    ended, run = do(study_train.STEP, store.root, "train", plan=address, cell="s.a.s0", tolerate=tolerate)
    assert ended is outcome
    if ended is Outcome.DONE:
        assert run.tasks["train"].outputs == {"manifest": "", "failure": "diverged: loss is NaN at step 7"}


@pytest.mark.parametrize(("cell", "trained"), [("s.a.s0", ["", "x"]), ("s.b.s0", ["", "x"])])
def test_a_cell_without_checkpoint_or_tasks_has_no_report(plan: tuple[LocalStore, str], cell: str, trained: list[str]) -> None:
    store, address = plan
    ended, run = do(study_evaluate.STEP, store.root, "e", plan=address, cell=cell, trained=json.dumps(trained))
    assert ended is Outcome.DONE and run.tasks["e"].outputs == {"manifest": ""}


@pytest.mark.parametrize(
    ("cell", "trained", "message"),
    [("s.c.s0", "[]", "the plan has no cell 's.c.s0'"), ("s.a.s0", '["x"]', "expected a JSON list of 2 addresses")],
)
def test_what_does_not_fit_the_plan_is_refused(plan: tuple[LocalStore, str], cell: str, trained: str, message: str) -> None:
    store, address = plan
    ended, run = do(study_evaluate.STEP, store.root, "e", plan=address, cell=cell, trained=trained)
    assert ended is Outcome.CONFIGURATION and message in run.tasks["e"].message
