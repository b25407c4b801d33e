"""Build step that adds the pipelines and the chart's values, which are outside this package, to the wheel.

Registered as `build_py` in pyproject.toml; setuptools loads only this file.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py  # type: ignore[import-untyped]

PIPELINES = "mm1_workflows/pipelines"


class BuildWithPipelines(build_py):
    """Build command that copies ``workflows/*.py`` and ``charts/mm1/values.yaml`` to ``mm1_workflows/pipelines``."""

    def run(self) -> None:
        """Build the packages, then add the files; an editable installation reads them from the checkout."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / PIPELINES
            target.mkdir(parents=True, exist_ok=True)
            for path in [*sorted(Path("workflows").glob("*.py")), Path("charts/mm1/values.yaml")]:
                self.copy_file(str(path), str(target / path.name))
