"""The code blocks of README, CONTRIBUTING and the pages of docs, and the commands in them.

A comment above a block says what its commands need that a small run on one machine does not have, and is not rendered::

    <!-- needs: cluster -->
    ```bash
    mm1 submit template/mm1-full -n mm1 --watch
    ```
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NEEDS = {
    "cluster": "Kubernetes, with the chart or Kubeflow",
    "data": "files, folders or addresses that the reader brings",
    "gpu": "a GPU",
    "images": "an engine that builds images, or a test bed",
    "minutes": "a training or another long job",
    "server": "a process that stays, or one that another terminal talks to",
}
"""Reasons for only parsing the commands of a block."""
PROGRAMS = ("mm1", "hera", "make", "python", "cp")
_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>[a-z ]+) -->\n\s*)?^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_ELLIPSIS = ("…", "...")


@dataclass(frozen=True)
class Command:
    """One command of a block."""

    where: str
    """Page and line, for messages."""
    program: str
    """One of :data:`PROGRAMS`."""
    words: tuple[str, ...]
    """Its arguments, without redirections and ellipses; ``$(cat FILE)`` is ``$(<FILE)``."""

    def __str__(self) -> str:
        return f"{self.where}: {shlex.join((self.program, *self.words))}"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Number of its first line of text, from 1."""
    language: str
    needs: tuple[str, ...]
    text: str

    def commands(self) -> Iterator[Command]:
        """The commands of a shell block that this project can check."""
        number = self.line
        for line in re.split(r"(?<!\\)\n", self.text):
            words = _words(line)
            while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):  # its environment
                words = words[1:]
            if words and (program := Path(words[0]).name) in PROGRAMS:
                where = f"{self.page.relative_to(ROOT)}:{number}"
                yield Command(where, program, tuple(word for word in words[1:] if word not in _ELLIPSIS))
            number += line.count("\n") + 1


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            tuple((match["needs"] or "").split()),
            textwrap.dedent(match["text"]),
        )
        for match in _BLOCK.finditer(text)
    ]


def _words(line: str) -> list[str]:
    """The first command of a line, without its redirections."""
    joined = re.sub(r"\$\(cat (\S+?)\)", r"$(<\1)", line.replace("\\\n", " ").strip())
    lexer = shlex.shlex(joined, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word.startswith((";", "|", "&", ">")):
                break
            words.append(word)
    except ValueError:  # a quotation over several lines, as of curl's JSON
        return []
    return words
