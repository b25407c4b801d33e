"""The runs that verify a card: its training step again, undisturbed, and once more with a stop in between.

Each is a process of the step with a store of its own; data and initial checkpoint are read from the user's store::

    undisturbed:  step ----------------------------------> card.yaml --\
    stopped:      step --SIGTERM after step k--> exit 87                manifests equal?
                  step again, same store --------------> card.yaml ----/
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm1.config.resolve import suggest
from mm1.errors import BY_OUTCOME, ConfigurationError, Mm1Error, Outcome
from mm1.lineage.card import Card, ResumeProof, StepCall, read_card
from mm1.manifests import manifest_key
from mm1.store.base import Store
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.registry import declaration

POLL_S = 0.02
LOG_LINES = 15
CARD = "card.yaml"


class CardRuns:
    """Runs the steps of a card.

    Args:
        card: the card.
        store: store of the data and the initial checkpoint.
        folder: scratch folder.

    Raises:
        ConfigurationError: it calls a step or names an input that there is not, or its last step does not train.
    """

    def __init__(self, card: Card, store: Store, folder: Path) -> None:
        self.card, self.store, self.folder = card, store, folder
        for call in card.made_by:
            _check(call)
        if CARD not in _check(card.run).artifacts:
            raise ConfigurationError(f"run.step: expected a step that trains, got {card.run.step!r}")

    def missing(self) -> list[StepCall]:
        """Return the steps whose manifests the training needs and the store lacks, earliest first.

        Raises:
            ConfigurationError: the store lacks one that no step of the card makes.
        """
        needed, result = set(self.card.run.needs), list[StepCall]()
        for call in reversed(self.card.made_by):  # each reads only what those before it made
            if call.manifest in needed and not self.store.exists(manifest_key(call.manifest)):
                result.insert(0, call)
                needed = needed - {call.manifest} | set(call.needs)
        for digest in sorted(needed):
            if not self.store.exists(manifest_key(digest)):
                raise ConfigurationError(
                    f"store {self.store.uri} lacks {manifest_key(digest)}, and the card does not name the step that makes it: "
                    "copy it into the store, or set --store"
                )
        return result

    def make(self, call: StepCall) -> None:
        """Run a step that makes what the training needs, in the user's store.

        Raises:
            ConfigurationError: it makes another manifest than the card names.
            Mm1Error: it failed.
        """
        folder = self._folder(f"made-{len(list(self.folder.iterdir()))}")  # not its task: a card may come from anywhere
        self._finish(self._start(call, self.store.uri, folder), folder, call.task)
        made = (folder / "manifest").read_text().rsplit("/", 1)[-1].removesuffix(".json")
        if made != call.manifest:
            raise ConfigurationError(
                f"{call.command(self.store.uri)} made {made[:12]} instead of {call.manifest[:12]}: its raw data or the code "
                "differ from those of the card"
            )

    def undisturbed(self) -> Card:
        """Run the training, and return its card."""
        folder = self._folder("undisturbed")
        return self._train(folder)

    def stopped(self, after: int, undisturbed: Card) -> ResumeProof:
        """Run the training, stop it with SIGTERM after a step, resume it, and compare it with the undisturbed run.

        Raises:
            ConfigurationError: it ended before it was stopped.
            Mm1Error: it failed.
        """
        folder = self._folder("stopped")
        process = self._start(self.card.run, str(folder / "store"), folder)
        with _killed_with_this(process):
            for done in _progress(process, folder / "progress"):
                if done >= after:
                    process.send_signal(signal.SIGTERM)
                    break
            process.wait()
        if process.returncode == Outcome.DONE:
            raise ConfigurationError(
                f"the training ended before it could be stopped after step {after}: set a smaller --stop-after, or --no-resume"
            )
        if process.returncode != Outcome.PREEMPTED:
            self._fail(process.returncode, folder, "stopped training")
        stopped_after = _saved_step(folder / "log.txt")
        card = self._train(folder)
        return ResumeProof(
            stopped_after=stopped_after, equal=card.results.manifest == undisturbed.results.manifest, commit=card.code.commit
        )

    def _train(self, folder: Path) -> Card:
        self._finish(self._start(self.card.run, str(folder / "store"), folder), folder, f"{folder.name} training")
        return read_card(folder / CARD)

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def _start(self, call: StepCall, store: str, folder: Path) -> subprocess.Popen[bytes]:
        options = ["--store", store, "--run", "verify", "--task", call.task, "--work", str(folder)]
        options += ["--out.manifest", str(folder / "manifest"), "--progress", str(folder / "progress")]
        if call is self.card.run:
            options += [f"--artifact.{CARD}", str(folder / CARD)]
        command = [sys.executable, "-m", f"mm1_components.{call.step}", *call.arguments(self.store.uri), *options]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _finish(self, process: subprocess.Popen[bytes], folder: Path, title: str) -> None:
        with _killed_with_this(process):
            code = process.wait()
        if code != Outcome.DONE:
            self._fail(code, folder, title)

    def _fail(self, code: int, folder: Path, title: str) -> None:
        lines = (folder / "log.txt").read_text(errors="replace").splitlines()[-LOG_LINES:]
        sys.stderr.write("\n".join([*lines, ""]))
        outcome = Outcome.from_exit_code(code)
        raise BY_OUTCOME.get(outcome, Mm1Error)(f"{title}: the step failed ({outcome.label}), see above")


def _check(call: StepCall) -> Step[Any, Any]:
    """Return the declaration of a call's step, after a comparison of the names of its inputs."""
    step = declaration(call.step)
    fields = step.inputs.model_fields
    if unknown := sorted(set(call.inputs) - set(fields)):
        hint = suggest(unknown[0], list(fields))
        raise ConfigurationError(
            f"the card is not of this version of MM1: step {call.step} has no input {unknown[0]!r}; {hint}"
        )
    if missing := [name for name, field in fields.items() if field.is_required() and name not in call.inputs]:
        raise ConfigurationError(f"inputs of {call.task}: {missing[0]} is required by the step {call.step}")
    return step


@contextlib.contextmanager
def _killed_with_this(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process and its children if waiting for it is interrupted."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def _saved_step(log: Path) -> int:
    """Return the step after which the trainer stopped, from its message in the log."""
    steps = re.findall(r"stopped after step (\d+) of", log.read_text(errors="replace"))
    return int(steps[-1]) if steps else 0


def _progress(process: subprocess.Popen[bytes], path: Path) -> Iterator[int]:
    """Yield the steps done as the progress file changes, until the process ends."""
    last = -1
    while process.poll() is None:
        if path.is_file() and (done := int(path.read_text().partition("/")[0] or 0)) != last:
            last = done
            yield done
        time.sleep(POLL_S)
