"""The commands ``mm1`` and ``hera``.

``hera`` is upstream's command tree with ``submit`` added; ``mm1`` has all our verbs. This module stays thin: declarations are
in :mod:`mm1_workflows.commands.tree`, each command's work in its own module, imported only when it runs.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import sys
from typing import Any

import cappa
from rich.console import Console
from rich.logging import RichHandler

from mm1.errors import Mm1Error, from_os_error
from mm1_workflows.commands import tree


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``mm1``."""
    return _invoke(tree.Mm1, argv, importlib.metadata.version("mm1"))


def hera(argv: list[str] | None = None) -> int:
    """Entry point of ``hera``: upstream's commands and ``submit``."""
    return _invoke(_hera_tree(), argv, f"{importlib.metadata.version('hera')} (with submit from mm1)")


def _hera_tree() -> type[Any]:
    try:
        from hera._cli.base import Generate
    except ImportError:
        # upstream's command tree is private and may move: `submit` works without it
        return tree.HeraSubmitOnly
    return tree.hera_with(Generate)


def _invoke(commands: type[Any], argv: list[str] | None, version: str) -> int:
    errors = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_path=False, show_time=False, markup=False)],
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        result = cappa.invoke(commands, argv=argv, version=version)
    except Mm1Error as error:
        return _complain(errors, str(error), int(error.outcome))
    except BrokenPipeError:  # `mm1 runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        typed = from_os_error(error)
        return _complain(errors, str(typed), int(typed.outcome))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return result if isinstance(result, int) else 0


def _complain(console: Console, message: str, code: int) -> int:
    console.print("[bold red]error[/bold red]", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
