"""The steps ingest and data_mix, run in this process through the wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mm1.errors import Outcome
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute


def run(step: Any, folder: Path, **inputs: Any) -> tuple[Outcome, str]:
    """Run a step with a store in a folder; its outcome and the address of its manifest, empty on failure."""
    out = folder / f"{step.name}.out"
    out.unlink(missing_ok=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    places = ["--store", str(folder / "store"), "--out.manifest", str(out), "--artifact.summary.md", str(folder / "summary.md")]
    outcome = execute(step, build_parser(step).parse_args([*options, *places]))
    return outcome, out.read_text() if out.exists() else ""
