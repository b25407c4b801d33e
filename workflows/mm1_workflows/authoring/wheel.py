"""Build step that adds the pipelines, the chart's values and the studies, which are outside the packages, to the wheel.

Registered as `build_py` in pyproject.toml; setuptools loads only this file.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py  # type: ignore[import-untyped]

PIPELINES = "mm1_workflows/pipelines"
STUDIES = "mm1/studies/library"


class BuildWithPipelines(build_py):
    """Build command that copies the pipelines with ``charts/mm1/values.yaml``, and ``studies/``, into the packages."""

    def run(self) -> None:
        """Build the packages, then add the files; an editable installation reads them from the checkout."""
        super().run()
        if not self.editable_mode:
            self._add([*sorted(Path("workflows").glob("*.py")), Path("charts/mm1/values.yaml")], PIPELINES)
            self._add(sorted(Path("studies").glob("*.yaml")), STUDIES)
            self._add(sorted(Path("studies/bases").glob("*.yaml")), f"{STUDIES}/bases")

    def _add(self, paths: list[Path], folder: str) -> None:
        target = Path(self.build_lib) / folder
        target.mkdir(parents=True, exist_ok=True)
        for path in paths:
            self.copy_file(str(path), str(target / path.name))
