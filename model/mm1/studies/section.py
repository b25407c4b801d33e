"""The outcome of an analysis of a study, for ``studies.json`` and the page. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mm1.studies.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a section of the page: text, then a table, then a figure; empty ones are omitted."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """The outcome of an analysis."""

    results: dict[str, Any]
    """For ``studies.json``."""
    verdicts: tuple[Verdict, ...] = ()
    """Further verdicts, listed after those on the claims."""
    blocks: tuple[Block, ...] = ()
    """For the page, in order."""
