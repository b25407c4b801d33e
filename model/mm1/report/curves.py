"""Loss curves: from a checkpoint's history (parquet) to figures."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from mm1.errors import Mm1Error
from mm1.manifests import Checkpoint
from mm1.report.charts import loss_figure, source_slot
from mm1.report.collect import Found, RunStory
from mm1.report.config import ReportConfig

log = logging.getLogger(__name__)

PER_SOURCE = ("loss_", "loss/", "loss.")
NOT_A_SOURCE = {"balance", "z", "router", "aux", "scale", "total"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training stage as the page shows it."""

    title: str
    task: str
    digest: str
    checkpoint: Checkpoint
    figure: Markup | None
    first: dict[str, float]
    """Source -> mean loss over the first steps."""
    last: dict[str, float]
    """Source -> mean loss over the last steps."""
    slots: dict[str, int]
    """Source -> colour."""
    note: str = ""


def stages(story: RunStory, config: ReportConfig) -> list[Stage]:
    """All training stages of a run, earliest first."""
    found = list(story.of(Checkpoint))
    found.sort(key=lambda pair: _depth(story, pair[0].digest))
    return [_stage(where, checkpoint, config) for where, checkpoint in found]


def _depth(story: RunStory, digest: str) -> int:
    found = story.found.get(digest)
    parents = found.manifest.parents if found and found.manifest else ()
    return 1 + max((_depth(story, parent) for parent in parents), default=0)


def _stage(found: Found, checkpoint: Checkpoint, config: ReportConfig) -> Stage:
    title = {"text": "Text base", "pretrain": "Pre-training", "sft": "Instruction tuning", "imported": "Imported model"}
    figure, first, last, note = None, {}, {}, ""
    if checkpoint.history is not None:
        try:
            table = pq.read_table(io.BytesIO(found.store.get_bytes(checkpoint.history)))
            steps, losses, rate = history_columns(table)
            first, last = ({name: _mean(values[part]) for name, values in losses.items()} for part in _ends(steps))
            figure = _figure(steps, losses, rate, config, f"{checkpoint.stage} {found.digest[:6]}")
        except (Mm1Error, pa.ArrowException, KeyError, ValueError) as error:
            log.warning("history of checkpoint %s: %s", found.digest[:12], error)
            note = f"The history could not be read: {error}"
    elif checkpoint.stage != "imported":
        note = "This checkpoint has no history."
    return Stage(
        title=title.get(checkpoint.stage, checkpoint.stage),
        task=found.producer,
        digest=found.digest,
        checkpoint=checkpoint,
        figure=figure,
        first=first,
        last=last,
        slots={name: source_slot(name, list(last)) for name in last},
        note=note,
    )


def history_columns(table: pa.Table) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Steps (T,), losses by source (T,), learning rate (T,) of a history; ``loss`` alone where no source is told apart.

    Raises:
        KeyError: there is no column ``step``, or no loss.
    """
    columns = {name: _floats(table, name) for name in table.column_names if _numeric(table, name)}
    losses = {}
    for name, values in columns.items():
        source = next((name.removeprefix(prefix) for prefix in PER_SOURCE if name.startswith(prefix)), "")
        if source and source not in NOT_A_SOURCE and np.isfinite(values).any():
            losses[source] = values
    return columns["step"], losses or {"loss": columns["loss"]}, columns.get("lr")


def smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Centred mean with Gaussian weights that passes over gaps; same shape as ``values``.

    Args:
        values: (T,), NaN where there is nothing.
        width: standard deviation of the weights, in steps.
    """
    reach = max(1, round(3 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), weights, mode="full")[reach:-reach]
    weight = np.convolve(known.astype(float), weights, mode="full")[reach:-reach]
    return np.divide(total, weight, out=np.full(values.shape, np.nan), where=weight > 1e-9)


def _figure(
    steps: np.ndarray, losses: dict[str, np.ndarray], rate: np.ndarray | None, config: ReportConfig, name: str
) -> Markup | None:
    if steps.size < 2:
        return None
    width = max(1.0, config.smoothing_share * steps.size)
    thin = np.unique(np.linspace(0, steps.size - 1, min(config.curve_points, steps.size)).round().astype(int))
    curves = {source: (values[thin], smoothed(values, width)[thin]) for source, values in losses.items()}
    return loss_figure(steps[thin], curves, rate[thin] if rate is not None else None, name=name)


def _ends(steps: np.ndarray) -> tuple[slice, slice]:
    """The first and the last twentieth of the steps, at least one."""
    share = max(1, steps.size // 20)
    return slice(0, share), slice(steps.size - share, None)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _numeric(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=float)
