"""A finished study_report, made once for the tests of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mm1.store.open import open_store
from tests.support.report_figures import Benchmarks
from tests.support.trained_cells import publish_studies, report_studies, two_levels

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def reported(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder with a store and the artifacts of run `letters`: two studies, a failed cell, hostile text, images."""
    return made_once("study-report", _make)


def _make(folder: Path) -> None:
    from mm1.world.config import WorldConfig
    from mm1.world.write import write_part

    benchmarks = write_part("benchmarks", folder / "world", WorldConfig.small())
    images = [path.read_bytes() for path in sorted((Benchmarks(benchmarks / "test").folder / "images").iterdir())[:20]]
    effects = [
        {"says": "B is better than A.", "score": "few-shot", "better": "B", "than": "A", "effect": 0.1},
        {"says": "C is better than B.", "score": "few-shot", "better": "C", "than": "B", "effect": 0.1},
    ]
    levels = {"B": {}, "A": {"mix.weights": "captions=1"}, "C": {}}
    studies = {
        "letters": two_levels(claims=effects, levels=levels),
        "losses": two_levels(
            title=f"Losses {HOSTILE}",
            scores={"loss": {"mean": ["loss/captions"], "unit": "nats"}},
            claims=[effects[0] | {"score": "loss", "effect": 0.05}],
            limits="Small | models.",
        ),
    }
    store = open_store(str(folder / "store"))
    published = publish_studies(store, studies, _truth, images=images, failed=["letters-C-1"])
    report_studies(store, published, "letters", folder, benchmarks)


def _truth(level: str, seed: int, term: str) -> float:
    if term.startswith("loss"):
        return {"A": 0.5, "B": 0.45}[level] + 0.002 * seed * (level == "A")
    return {"A": 0.2, "B": 0.8, "C": 0.9}[level]
