"""The collector of a profile: every step has its address, unless the site sets the variable itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.errors import ConfigurationError
from mm1_components.wrapper.traces import ENDPOINTS
from mm1_workflows.authoring import profiles
from mm1_workflows.authoring.load import load

WORKFLOW = str(Path(__file__).parents[3] / "workflows/evaluate_model.py")


def addresses(folder: Path, text: str) -> list[dict[str, str]]:
    profile = folder / "site.yaml"
    profile.write_text(text)
    templates = load(WORKFLOW, str(profile)).document["spec"]["templates"]
    containers = [body["container"] for body in templates if "container" in body]
    return [{item["name"]: item["value"] for item in container.get("env") or []} for container in containers]


def test_every_step_has_the_address(tmp_path: Path) -> None:
    variables = addresses(tmp_path, "traces: http://collector:4318\nenvironment: {TEAM: vision}\n")
    assert len(variables) > 2
    assert all(names == {ENDPOINTS[0]: "http://collector:4318", "TEAM": "vision"} for names in variables)


def test_the_variable_of_a_site_goes_before(tmp_path: Path) -> None:
    text = f"traces: http://collector:4318\nenvironment: {{{ENDPOINTS[0]}: https://other}}\n"
    assert all(names == {ENDPOINTS[0]: "https://other"} for names in addresses(tmp_path, text))


@pytest.mark.parametrize("address", ["collector:4318", "grpc://collector:4317", "http://user:secret@collector"])
def test_an_address_that_is_not_http_or_has_a_password_is_refused(tmp_path: Path, address: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"traces: {address}\n")
    with pytest.raises(ConfigurationError, match="traces"):
        profiles.read(str(path))
