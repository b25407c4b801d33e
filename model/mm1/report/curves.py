"""Loss curves: from a checkpoint's history (parquet) to figures."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from mm1.errors import Mm1Error
from mm1.manifests import Checkpoint
from mm1.report.charts import loss_figure, source_slot
from mm1.report.collect import RunStory, StoredManifest
from mm1.report.config import ReportConfig
from mm1.report.measures import measured_rows, measures, smoothed, thinned
from mm1.report.times import Times, times

log = logging.getLogger(__name__)

PER_SOURCE = ("loss_", "loss/", "loss.")
VALIDATION = "validation/"
Validations = dict[str, tuple[np.ndarray, np.ndarray]]
"""Source -> steps and validation losses, each (V,)."""
NOT_A_SOURCE = {"balance", "z", "router", "aux", "scale", "total"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training stage, as shown on the page."""

    title: str
    task: str
    digest: str
    checkpoint: Checkpoint
    figure: Markup | None
    first: dict[str, float]
    """Source -> mean loss over the first steps."""
    last: dict[str, float]
    """Source -> mean loss over the last steps."""
    validation: dict[str, float]
    """Source -> mean loss of its held-out samples at the last validation."""
    slots: dict[str, int]
    """Source -> colour."""
    note: str = ""
    measures: Markup | None = None
    """Plots of gradient norm, padding, speed and other metrics."""
    times: Times | None = None
    """Where its time went."""
    files: dict[str, str] = field(default_factory=dict)
    """Name -> address of a file, such as a profile."""


def stages(story: RunStory, config: ReportConfig) -> list[Stage]:
    """Describe all training stages of a run, earliest first."""
    checkpoints = list(story.of(Checkpoint))
    checkpoints.sort(key=lambda pair: _depth(story, pair[0].digest))
    return [_stage(story, stored, checkpoint, config) for stored, checkpoint in checkpoints]


def _depth(story: RunStory, digest: str) -> int:
    stored = story.manifests.get(digest)
    parents = stored.manifest.parents if stored and stored.manifest else ()
    return 1 + max((_depth(story, parent) for parent in parents), default=0)


def _stage(story: RunStory, stored: StoredManifest, checkpoint: Checkpoint, config: ReportConfig) -> Stage:
    title = {
        "text": "Text base",
        "vision": "Vision tower",
        "pretrain": "Pre-training",
        "sft": "Instruction tuning",
        "imported": "Imported model",
    }
    figure, around, first, last, note = None, None, {}, {}, ""
    validation: Validations = {}
    if checkpoint.history is not None:
        try:
            table = pq.read_table(io.BytesIO(stored.store.get_bytes(checkpoint.history)))
            columns = _columns(table)
            steps, losses, rate = history_columns(table)
            first, last = ({name: _mean(values[part]) for name, values in losses.items()} for part in _ends(steps))
            name = f"{checkpoint.stage} {stored.digest[:6]}"
            validation = validations(columns)
            figure = _figure(steps, losses, rate, validation, config, name)
            around = measures(columns, measured_rows(story, stored.producer), config, name)
        except (Mm1Error, pa.ArrowException, KeyError, ValueError) as error:
            log.warning("history of checkpoint %s: %s", stored.digest[:12], error)
            note = f"The history cannot be read: {error}"
    elif checkpoint.stage != "imported":
        note = "This checkpoint has no history."
    return Stage(
        title=title.get(checkpoint.stage, checkpoint.stage),
        task=stored.producer,
        digest=stored.digest,
        checkpoint=checkpoint,
        figure=figure,
        first=first,
        last=last,
        validation={name: float(values[-1]) for name, (_, values) in validation.items()},
        slots={name: source_slot(name, list(last)) for name in last},
        note=note,
        measures=around,
        times=times(_facts(story, stored.producer)),
        files=_files(_facts(story, stored.producer)),
    )


def _facts(story: RunStory, task: str) -> dict[str, Any]:
    return next((record.facts for record in story.tasks if record.task == task), {})


def _files(facts: dict[str, Any]) -> dict[str, str]:
    files = facts.get("files")
    return {str(name): str(where) for name, where in files.items()} if isinstance(files, dict) else {}


def history_columns(table: pa.Table) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Extract steps, losses by source, and learning rate, each (T,), from a history; only ``loss`` if there are none by source.

    Raises:
        KeyError: the column ``step`` or all losses are missing.
    """
    columns = _columns(table)
    losses = {}
    for name, values in columns.items():
        source = next((name.removeprefix(prefix) for prefix in PER_SOURCE if name.startswith(prefix)), "")
        if source and source not in NOT_A_SOURCE and np.isfinite(values).any():
            losses[source] = values
    return columns["step"], losses or {"loss": columns["loss"]}, columns.get("lr")


def validations(columns: dict[str, np.ndarray]) -> Validations:
    """Extract the validations of each source from the columns of a history."""
    result = {}
    for name, values in columns.items():
        if name.startswith(VALIDATION) and (known := np.isfinite(values)).any():
            result[name.removeprefix(VALIDATION)] = columns["step"][known], values[known]
    return result


def _figure(
    steps: np.ndarray,
    losses: dict[str, np.ndarray],
    rate: np.ndarray | None,
    validation: Validations,
    config: ReportConfig,
    name: str,
) -> Markup | None:
    if steps.size < 2:
        return None
    width = max(1.0, config.smoothing_share * steps.size)
    thin = thinned(steps.size, config.curve_points)
    curves = {source: (values[thin], smoothed(values, width)[thin]) for source, values in losses.items()}
    return loss_figure(steps[thin], curves, rate[thin] if rate is not None else None, name=name, validation=validation)


def _ends(steps: np.ndarray) -> tuple[slice, slice]:
    """Return slices of the first and the last twentieth of the steps, at least one step each."""
    share = max(1, steps.size // 20)
    return slice(0, share), slice(steps.size - share, None)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: _floats(table, name) for name in table.column_names if _numeric(table, name)}


def _numeric(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=float)
