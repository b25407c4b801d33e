"""The parts that all given sources are read in."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mm1_components.wrapper.raw_data import SOURCES, SourceLocations, Sources, addresses_of, options_of, preset_of, root_of

if TYPE_CHECKING:
    from mm1.manifests import FilteredPart, IngestPlan, PlannedSource

log = logging.getLogger(__name__)


def plan_sources(inputs: Sources, part_bytes: int, work: Path) -> IngestPlan:
    """Plan the parts of all given sources."""
    from mm1.data.prepare.plan import plan_batches, plan_source

    planned, parts = {}, []
    for source in addresses_of(inputs):
        planned[source], some = plan_source(
            source, root_of(inputs, source, work / source), options_of(inputs, source), part_bytes
        )
        parts += some
        _log_plan(source, planned[source], len(some))
    return plan_batches(planned, parts)


def log_presets(preset: str, inputs: Sources | SourceLocations) -> None:
    """Log the filter preset of each source."""
    for source, address in addresses_of(inputs).items():
        log.info("%s: filter preset %s", source, preset_of(preset, address))


def _log_plan(source: str, planned: PlannedSource, num_parts: int) -> None:
    from mm1.data.prepare.sources.formats import EXPECTED

    log.info("%s: %d files, %.1f MB, %d parts", source, planned.num_files, planned.num_bytes / 1e6, num_parts)
    for reason, count in planned.left_out.items():
        level = logging.INFO if reason in EXPECTED else logging.WARNING
        log.log(level, "%s: not read: %s, %d times, for example %s", source, reason, count, planned.examples[reason][0])


def in_order(part: FilteredPart) -> tuple[int, int]:
    """Sort key of parts: sources in their usual order, then numbers."""
    return SOURCES.index(part.source), part.number
