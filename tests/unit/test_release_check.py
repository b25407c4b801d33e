"""The checks before a release that need no build: versions agree, and one that differs is named."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / ".ci/release_check.py"


@pytest.fixture
def release():
    spec = importlib.util.spec_from_file_location("release_check", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_versions_of_this_tree_agree(release):
    assert list(release.versions()) == []


def test_what_differs_is_named(release, monkeypatch, tmp_path):
    monkeypatch.setattr(release, "VERSION", "9.9")
    problems = list(release.versions())
    assert len(problems) == 4 and all("expected '9.9' as in pyproject.toml, got '" in problem for problem in problems)
    assert any("image trainer" in problem for problem in problems) and any("appVersion" in problem for problem in problems)
    monkeypatch.setattr(release, "run", lambda *command: "")
    assert list(release.tag()) == ["pyproject.toml: expected a version such as 1.2.3 or 1.2.3-rc.1, got '9.9'"]


@pytest.mark.parametrize(
    ("heading", "problems"),
    [("## 1.2.0 (2027-01-31)", 0), ("## [1.2.0] - 2027-01-31", 0), ("## 1.2.0", 0), ("## Unreleased", 1), ("## 1.1.0", 1)],
)
def test_the_newest_heading_of_the_changelog_is_the_version(release, monkeypatch, tmp_path, heading, problems):
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n### Added\n\n## 1.2.0\n")
    monkeypatch.setattr(release, "VERSION", "1.2.0")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    assert len(list(release.changelog())) == problems
