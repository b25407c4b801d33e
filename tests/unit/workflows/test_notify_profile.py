"""The webhook of a profile: only the step that notifies gets its address, from a Secret, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1_workflows.authoring import profiles
from mm1_workflows.authoring.load import load
from mm1_workflows.engines import yaml as compiler
from mm1_workflows.rules import policy

ROOT = Path(__file__).parents[3]
WORKFLOW = str(ROOT / "workflows/evaluate_model.py")


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text("notify_secret: mm1-notify\nenvironment: {TEAM: vision}\n")
    return str(path)


def variables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        body["name"]: {item["name"]: item for item in body["container"].get("env") or []}
        for body in document["spec"]["templates"]
        if "container" in body
    }


def test_only_the_report_gets_the_address(profile: str) -> None:
    document = load(WORKFLOW, profile).document
    by_template = variables(document)
    report = by_template.pop("step-report")
    assert report["MM1_NOTIFY_URL"]["valueFrom"]["secretKeyRef"] == {"name": "mm1-notify", "key": "url", "optional": True}
    assert report["MM1_NOTIFY_LINK"]["valueFrom"]["secretKeyRef"]["key"] == "link"
    assert all(set(names) == {"TEAM"} for names in by_template.values())
    assert "P014" not in {finding.rule for finding in policy.check(document, profiles.read(profile))}, "no secret in the file"


def test_without_a_secret_there_is_no_variable() -> None:
    assert all(not names for names in variables(load(WORKFLOW).document).values())


def test_kubeflow_gets_it_too(profile: str) -> None:
    text = compiler.compiled(WORKFLOW, engine="kubeflow", profile=profile)
    platform = next(document for document in yaml.safe_load_all(text) if "platforms" in document)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    having = {
        name
        for name, executor in executors.items()
        for secret in executor.get("secretAsEnv", [])
        if secret["secretName"] == "mm1-notify"
    }
    assert having == {"exec-report"} or (len(having) == 1 and "report" in next(iter(having)))
