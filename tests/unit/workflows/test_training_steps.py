"""Training steps in their two places: supervised on a cluster, in place on one machine, and one cache key for both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm1_components import pretrain, sft
from mm1_components.ranks.launcher import Launcher
from mm1_components.wrapper.arguments import placement_fields
from mm1_workflows.argo.graph import Template
from mm1_workflows.authoring import profiles
from mm1_workflows.authoring.load import load
from mm1_workflows.engines.local.process import argv_of
from mm1_workflows.rules.reading import read_workflow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def template() -> Template:
    """The template of the pre-training in the chain."""
    return read_workflow(load(str(ROOT / "workflows/full.py")).document).tasks["pretrain"].template


def launcher_of(template: Template) -> Launcher:
    """How its ranks are started."""
    (text,) = [word.removeprefix("--launcher=") for word in template.args if word.startswith("--launcher=")]
    return Launcher.model_validate(json.loads(text))


def test_on_a_cluster_it_is_a_light_supervisor_that_knows_how_to_start_ranks(template: Template) -> None:
    profile = profiles.default()
    (text,) = [word.removeprefix("--launcher=") for word in template.args if word.startswith("--launcher=")]
    launcher = Launcher.model_validate(json.loads(text))
    assert template.image == profile.image("cpu") and template.pool == "cpu" and template.launches == "train-h100"
    assert launcher.images["trainer"] == profile.image("trainer") and launcher.account == profile.accounts.rank
    assert launcher.grace_s == pretrain.STEP.grace_s and "{{" not in text, "Argo would take two braces for a reference"


def test_one_limit_holds_for_the_run_the_training_step_and_its_jobset(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("run_seconds: 1234\n")
    document = load(str(ROOT / "workflows/pretrain.py"), str(tmp_path / "site.yaml")).document
    training = read_workflow(document).tasks["pretrain"].template
    assert document["spec"]["activeDeadlineSeconds"] == training.timeout_s == launcher_of(training).timeout_s == 1234


def test_by_default_a_training_has_no_limit_and_its_ranks_a_lease(template: Template) -> None:
    document = load(str(ROOT / "workflows/full.py")).document
    assert template.timeout_s is None and "activeDeadlineSeconds" not in document["spec"]
    light = [task.template for task in read_workflow(document).tasks.values() if not task.template.launches]
    assert all(other.timeout_s for other in light)
    launcher = launcher_of(template)
    assert launcher.timeout_s is None and launcher.retries == profiles.default().retries.supervisor
    assert launcher.deadline_s(100_000) == 100_000 + 3_600, "renewed while there is a supervisor"
    assert launcher.model_copy(update={"timeout_s": 1_000}).deadline_s(0) == 1_000


def test_lease_and_attempts_of_a_profile_reach_the_supervisor(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("lease_seconds: 120\nretries: {supervisor: 2}\n")
    document = load(str(ROOT / "workflows/pretrain.py"), str(tmp_path / "site.yaml")).document
    template = read_workflow(document).tasks["pretrain"].template
    launcher = launcher_of(template)
    assert launcher.lease_s == 120 and launcher.retries == template.retry.limit == 2


def test_on_one_machine_it_is_not_told_of_the_cluster(template: Template, tmp_path: Path) -> None:
    argv = argv_of(template, tmp_path, lambda reference: reference)
    assert not any(word.startswith("--launcher") for word in argv)
    assert [word for word in argv if word.startswith("--nodes=")] == ["--nodes=inputs.parameters.nodes"]


def test_only_pool_and_budget_are_left_out_of_the_cache_key() -> None:
    assert placement_fields(pretrain.Inputs) == placement_fields(sft.Inputs) == ["pool", "device_hours"]
