"""Writes the parts of the toy world: the only door through which the rest of the house uses this room.

Data flow: configuration -> scenes and words (:mod:`~mm1.world.scene`, :mod:`~mm1.world.language`) -> pages, pairs,
documents, conversations, questions -> pixels (:mod:`~mm1.world.render`) -> files in the formats of img2dataset,
OBELICS, LLaVA, VQAv2 and COCO. A part is written into a temporary folder beside its place and renamed when it is
complete.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mm1.errors import ConfigurationError
from mm1.world import benchmarks, captions, instructions, interleaved, texts
from mm1.world.config import WorldConfig

_LOG = logging.getLogger(__name__)

_WRITERS: dict[str, Callable[[Path, WorldConfig], dict[str, int]]] = {
    "captions": captions.write,
    "interleaved": interleaved.write,
    "text": texts.write,
    "instructions": instructions.write,
    "benchmarks": benchmarks.write,
}

PARTS = tuple(_WRITERS)
"""The parts of the world; each is a folder of files in a real format."""


def write_part(part: str, folder: Path, config: WorldConfig) -> Path:
    """Writes one part of the world into ``folder``, which must not exist or be empty.

    Besides the files of the part's format the folder holds ``world.json``, for people: the configuration and the counts.

    Args:
        part: One of :data:`PARTS`.
        folder: Where the part's files go; parent folders are made.
        config: Seed and sizes.

    Returns:
        ``folder``.

    Raises:
        ConfigurationError: ``part`` is unknown, or ``folder`` already holds something.
    """
    if part not in _WRITERS:
        raise ConfigurationError(f"unknown part {part!r} of the toy world: choose one of {', '.join(PARTS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} already holds something: name a new or empty folder for the {part} part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        counts = _WRITERS[part](building, config)
        record = {"part": part, "config": config.model_dump(mode="json"), "counts": counts}
        (building / "world.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        building.chmod(0o755)  # mkdtemp makes private folders; this one is to be shared
        building.replace(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _LOG.info("wrote %s to %s: %s", part, folder, counts)
    return folder
