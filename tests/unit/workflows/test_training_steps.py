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
    (text,) = [word.removeprefix("--launcher=") for word in training.args if word.startswith("--launcher=")]
    assert document["spec"]["activeDeadlineSeconds"] == training.timeout_s == json.loads(text)["timeout_s"] == 1234
    longest_forecast_days = 57  # mm1_30b on 64 H100 (`mm1 plan`)
    assert profiles.default().run_seconds > longest_forecast_days * 86_400


def test_on_one_machine_it_is_not_told_of_the_cluster(template: Template, tmp_path: Path) -> None:
    argv = argv_of(template, tmp_path, lambda reference: reference)
    assert not any(word.startswith("--launcher") for word in argv)
    assert [word for word in argv if word.startswith("--nodes=")] == ["--nodes=inputs.parameters.nodes"]


def test_only_the_pool_is_left_out_of_the_cache_key() -> None:
    assert placement_fields(pretrain.Inputs) == placement_fields(sft.Inputs) == ["pool"]
