"""Public entry point of the toy world: writes its parts.

Data flow: configuration -> scenes and words (:mod:`~mm1.world.scene`, :mod:`~mm1.world.language`) -> pages, pairs,
documents, conversations, questions -> pixels (:mod:`~mm1.world.render`) -> files in the formats of img2dataset,
OBELICS, LLaVA, VQAv2 and COCO. A part is written to a temporary folder next to its destination and renamed when
complete.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from mm1.errors import ConfigurationError
from mm1.world import benchmarks, captions, grounding, instructions, interleaved, ocr, texts
from mm1.world.config import WorldConfig

_LOG = logging.getLogger(__name__)

_WRITERS: dict[str, Callable[[Path, WorldConfig], dict[str, int]]] = {
    "captions": captions.write,
    "web_captions": captions.write_web,
    "synthetic": captions.write_synthetic,
    "interleaved": interleaved.write,
    "text": texts.write,
    "instructions": instructions.write,
    "benchmarks": benchmarks.write,
    "ocr": ocr.write_pairs,
    "reading": ocr.write_conversations,
    "grounding": grounding.write,
    "marks": instructions.write_marks,
}

PARTS = tuple(_WRITERS)
"""The parts of the world; each is a folder of files in a standard format."""


def write_part(part: str, folder: Path, config: WorldConfig) -> Path:
    """Write one part of the world to ``folder``, which must be empty or must not exist.

    In addition to the files of the part's format, the folder contains ``world.json`` with the configuration and the counts.

    Args:
        part: One of :data:`PARTS`.
        folder: Output folder; parent folders are created.
        config: Seed and sizes.

    Returns:
        ``folder``.

    Raises:
        ConfigurationError: ``part`` is unknown, or ``folder`` is not empty.
    """
    if part not in _WRITERS:
        raise ConfigurationError(f"unknown part {part!r} of the toy world: choose one of {', '.join(PARTS)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty: choose a new or empty folder for the {part} part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    building.mkdir()  # the umask decides its mode
    try:
        counts = _WRITERS[part](building, config)
        record = {"part": part, "config": config.model_dump(mode="json"), "counts": counts}
        (building / "world.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        building.replace(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _LOG.info("wrote %s to %s: %s", part, folder, counts)
    return folder
