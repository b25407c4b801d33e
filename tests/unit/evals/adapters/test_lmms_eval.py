"""Our tasks and our model in lmms-eval, where it is installed: the same numbers as in this project's harness."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from mm1.evals.adapters.write_tasks import write_tasks
from mm1.evals.models.own import OwnModel
from mm1.generation.generator import Generator
from tests.support.answered_benchmarks import SHOTS, score, write_answered
from tests.support.tiny_mm1 import tiny_mm1

pytestmark = pytest.mark.skipif(
    find_spec("lmms_eval") is None,
    reason="lmms-eval is not installed: its pins of wandb and av exclude this project's",
)


@pytest.fixture(scope="module")
def model():
    return OwnModel(Generator(*tiny_mm1()))


@pytest.fixture(scope="module")
def benchmarks(model, tmp_path_factory):
    return write_answered(model, tmp_path_factory.mktemp("benchmarks"))


@pytest.mark.parametrize("name", SHOTS)
def test_our_tasks_have_the_same_scores_in_the_harness(model, benchmarks, name, tmp_path, monkeypatch):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from mm1.evals.adapters.lmms_eval import HarnessModel

    write_tasks(tmp_path, "lmms_eval", benchmarks, [f"{name}@{SHOTS[name]}"])
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    title = f"mm1_{name}_{SHOTS[name]}shot"
    evaluation = simple_evaluate(model=HarnessModel(model=model), tasks=[title], task_manager=manager, bootstrap_iters=0)
    results = {key.removesuffix(",none"): value for key, value in evaluation["results"][title].items()}
    expected = score(model, benchmarks, name)
    assert {key: results[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert 0 < next(iter(expected.values())) < 1


def test_the_entry_point_names_the_class():
    from mm1.evals.adapters.lmms_eval import HarnessModel, manifest

    assert manifest().model_id == "mm1"
    assert manifest().simple_class_path == f"{HarnessModel.__module__}.{HarnessModel.__qualname__}"
