"""Entry points of the commands ``mm1`` and ``hera``.

``hera`` has Hera's commands and ``submit``; ``mm1`` has all commands of this project (:mod:`mm1_workflows.cli.root`).
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cappa
from rich.console import Console

from mm1.errors import ConfigurationError, Mm1Error, Outcome, redact, typed
from mm1.monitoring import logs
from mm1.monitoring.logs import LogSettings
from mm1_workflows.authoring import shadowing
from mm1_workflows.cli import completion, root
from mm1_workflows.cli.command_errors import output_for
from mm1_workflows.cli.pages import FAILURES, page
from mm1_workflows.cli.pipes import ReaderLeft, outliving_readers


def main(argv: list[str] | None = None) -> int:
    """Run ``mm1``."""
    arguments = root.completed(sys.argv[1:] if argv is None else argv)
    return _invoke(root.mm1, arguments, "mm1", "{}")


def hera(argv: list[str] | None = None) -> int:
    """Run ``hera``."""
    arguments = sys.argv[1:] if argv is None else argv
    return _invoke(lambda argv: root.hera(), arguments, "hera", "{} (with submit from mm1)")


def _invoke(commands: Callable[[Sequence[str]], type[Any]], argv: list[str], distribution: str, version: str) -> int:
    with outliving_readers():
        if argv[:1] == [completion.REQUEST]:
            completion.respond(commands, root.NAMES if distribution == "mm1" else ())
            return 0
        if script := completion.script(argv, distribution):
            sys.stdout.write(script)
            return 0
        logs.configure(sys.stderr, LogSettings(), text_format="%(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        text = version.format(_version(distribution, argv))
        try:
            result = cappa.invoke(commands(argv), argv=argv, version=text, output=output_for(argv))
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except ReaderLeft:
            return 128 + signal.SIGPIPE
        except Exception as error:
            if known := typed(error):
                return _complain(known)
            if explanation := shadowing.explain(error):
                return _complain(ConfigurationError(explanation))
            raise  # a bug: show its traceback
        return result if isinstance(result, int) else 0


def _version(distribution: str, argv: list[str]) -> str:
    """Return the installed version; the lookup takes 80 ms and only happens on request."""
    if not {"-v", "--version"} & set(argv):
        return "installed"
    import importlib.metadata

    return importlib.metadata.version(distribution)


def _complain(error: Mm1Error) -> int:
    console = Console(stderr=True)
    console.print("[bold red]error[/bold red]", end=" ")
    console.print(redact(str(error)), markup=False, highlight=False, soft_wrap=True)
    outcome = error.outcome
    if outcome is not Outcome.UNHANDLED:
        code, label = int(outcome), outcome.label
        explained = page(FAILURES, f"{code} {label}")
        console.print(f"{label}, exit code {code}: {explained}", style="dim", markup=False, highlight=False, soft_wrap=True)
    return int(outcome)
