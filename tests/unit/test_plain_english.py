"""Phrases and names that must not come back (CONTRIBUTING, Plain English)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COVERED = ("README.md", "CONTRIBUTING.md", "docs", "charts", "examples", "model", "components", "workflows")
"""Files and folders that are plain English."""
SUFFIXES = (".md", ".py", ".yaml", ".tpl", ".txt", ".j2")
GENERATED = ("workflows/compiled", "charts/mm1/files")

PHRASES = {
    r"\balike\b": "the same, equally",
    r"\b(is|are|was|were) asked for\b": "expected X, got Y",
    r"\b(is|are|was|were) wanted\b": "expected X, got Y",
    r"\bbeside (it|them|this|that)\b|\ba thread beside\b": "next to, also, in the background",
    r"\bfor want of\b": "because of a lack of, or the cause itself",
    r"\bhow manieth\b": "every n-th",
    r"\bin the place of\b": "instead of",
    r"\bis no (number|integer|folder|file|path|whole number|address)\b": "is not a ...; expected X, got Y",
    r"\bleft aside\b": "ignored",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bno untruth\b": "is accurate",
    r"\bof one's own\b": "your own",
    r"\boptimiser": "optimizer, as PyTorch spells it",
    r"\bput(s|ting)? right\b": "fix",
    r"\bput(s|ting)? up with\b": "tolerate, allow",
    r"\b(say|says|tell|tells) (nothing|something) of\b": "state the fact",
    r"\bso many at most\b": "limit",
    r"\bwithout a word\b": "silently",
}
"""Pattern, in any case -> better words."""
GAP = r"[\s#*]+"
"""Between two words, also at the end of a line of a comment."""

NAMES = ("found", "words", "shown", "one", "place", "wanted", "ours", "theirs", "former", "here", "there", "said", "told")
"""Local names that do not say what a thing is."""
MEANT = {"model/mm1/data/prepare": {"words"}, "model/mm1/evals/metrics": {"words"}, "model/mm1/world": {"place"}}
"""Names that say what a thing is there: words of a text, places in a picture."""
BETTER_NAMES = "match, matches, message, text, table, item, path, index, expected, previous"


def covered() -> list[Path]:
    """All files of :data:`COVERED`."""
    files = [path for name in COVERED for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))]
    return sorted(path for path in files if path.suffix in SUFFIXES and not str(path.relative_to(ROOT)).startswith(GENERATED))


@pytest.mark.parametrize("path", covered(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_of_the_list(path):
    faults = [f"{path.relative_to(ROOT)}:{line}: {text!r}: write {better!r}" for line, text, better in phrases(path)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", [path for path in covered() if path.suffix == ".py"], ids=lambda path: path.name)
def test_no_name_of_the_list(path):
    faults = [f"{path.relative_to(ROOT)}:{line}: {name}: name what it is ({BETTER_NAMES})" for line, name in names(path)]
    assert not faults, "\n".join(faults)


def phrases(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, phrase and better words of each fault."""
    text = path.read_text()
    for pattern, better in PHRASES.items():
        for match in re.finditer(pattern.replace(" ", GAP), text, re.I):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), better


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each local variable, parameter and loop variable of the list."""
    folder = str(path.relative_to(ROOT).parent) if path.is_relative_to(ROOT) else ""
    refused = set(NAMES).difference(*(names for prefix, names in MEANT.items() if folder.startswith(prefix)))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in refused:
            yield node.lineno, node.id
        if isinstance(node, ast.arg) and node.arg in refused:
            yield node.lineno, node.arg


def test_faults_are_reported_with_line_and_better_words(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Fine.\nAn integer is\nwanted; mend it.\n")
    assert sorted((line, text) for line, text, _ in phrases(page)) == [(2, "is wanted"), (3, "mend")]
    code = tmp_path / "code.py"
    code.write_text("def read(path, one):\n    found = [place for place in path]\n    return found\n")
    assert sorted(names(code)) == [(1, "one"), (2, "found"), (2, "place")]
