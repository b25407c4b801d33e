"""cappa, imported without the parsers of Markdown and of source code that only its help pages need.

cappa imports ``rich.markdown`` (and with it markdown-it and pygments) when it is imported, a quarter of the time of
``hera submit --dry-run=client`` beyond hera itself. While it is imported it gets a stand-in that loads the real class when a
help page is drawn; afterwards ``rich.markdown`` is the real module for everybody. Without the trick everything works, later.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "rich.markdown"


class Markdown:
    """Stands for ``rich.markdown.Markdown`` until it is drawn."""

    def __init__(
        self,
        markup: str,
        code_theme: str = "monokai",
        justify: Any = None,
        style: Any = "none",
        hyperlinks: bool = True,
        inline_code_lexer: str | None = None,
        inline_code_theme: str | None = None,
    ) -> None:
        self.markup, self.code_theme, self.justify, self.style = markup, code_theme, justify, style
        self.hyperlinks, self.inline_code_lexer, self.inline_code_theme = hyperlinks, inline_code_lexer, inline_code_theme

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """What the real one draws."""
        from rich.markdown import Markdown as RichMarkdown

        return RichMarkdown(**vars(self)).__rich_console__(console, options)


def _import() -> ModuleType:
    if "cappa" in sys.modules or NAME in sys.modules:
        return importlib.import_module("cappa")
    stand_in = ModuleType(NAME)
    stand_in.Markdown = Markdown  # type: ignore[attr-defined] # a module made by hand
    sys.modules[NAME] = stand_in
    try:
        return importlib.import_module("cappa")
    finally:
        del sys.modules[NAME]


cappa: Any = _import()
"""The package."""
