r"""Weights & Biases in a separate process, which reads ``metrics.jsonl`` and logs its rows. Torch-free.

::

    trainer, rank 0 --> metrics.jsonl --(read as it grows)--> python -m mm1.train.callbacks.wandb --> wandb/ in the job's folder
          \-- standard input; its end is that of the run --/                                     \-- online: its server, too

Starting wandb takes about two seconds of processor time and a row half a millisecond. In a separate process of low priority,
neither slows down training, and no failure of wandb can end a run. The process has its own environment, which puts caches and
temporary files into the job's folder and disables wandb's error reports.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm1.errors import Mm1Error
from mm1.store.base import Store, digest_of
from mm1.train import run_files
from mm1.train.callback import Callback

if TYPE_CHECKING:
    from mm1.train.progress import Progress
    from mm1.train.step import StepResult

log = logging.getLogger(__name__)

PROJECT = "mm1"
POLL_S = 2.0
ROW_EVERY_S = 1.0
"""Rows that follow faster are skipped: each costs a millisecond of a core, and no chart needs so many."""
NICENESS = 10
END_S = {"offline": 20.0, "online": 60.0}
"""Seconds that the end of a run waits for its remaining rows."""


def run_id(key: str) -> str:
    """Return the wandb id of a piece of work; it does not change on a resume."""
    return digest_of(key.encode())[:16]


class Wandb(Callback):
    """Starts the process, ends it, and stores the offline files.

    Args:
        mode: offline or online.
        folder: of the job; all files go to ``wandb/`` in it.
        store: store for the offline files.
        key: name of the work; the run's id is derived from it.
        config: of the run, for its page.
        metrics: file with the rows.
    """

    def __init__(self, mode: str, folder: Path, store: Store, key: str, *, config: dict[str, Any], metrics: Path) -> None:
        self.mode, self.folder = mode, folder / "wandb"
        self.store, self.key = store, key
        self.config, self.metrics = config, metrics
        self.process: subprocess.Popen[bytes] | None = None

    def on_start(self, progress: Progress) -> None:
        """Start the process."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        settings = {
            "id": run_id(self.key),
            "name": f"{self.config.get('recipe', 'run')}-{run_id(self.key)[:6]}",
            "mode": self.mode,
            "folder": str(self.folder.parent),
            "metrics": str(self.metrics),
            "after": progress.step,
            "config": self.config,
        }
        path = self.folder / "settings.json"
        path.write_text(json.dumps(settings))
        with (self.folder / "log.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(path)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(self.folder, offline=self.mode == "offline"),
            )
        target = f"files in {self.folder}, later in the store (see metrics.json)" if self.mode == "offline" else "online"
        log.info("Weights & Biases: run %s, %s", settings["id"], target)

    def on_step(self, progress: Progress, result: StepResult, rate_factor: float) -> None:
        """Log a warning, once, if the process has exited."""
        if self.process is not None and self.process.poll() is not None:
            self._give_up("its process exited early")

    def on_end(self, progress: Progress) -> None:
        """Wait until the process has logged the last rows, and store its files."""
        if (process := self.process) is None:
            return
        assert process.stdin is not None, "a pipe"
        process.stdin.close()
        try:
            if process.wait(END_S[self.mode]):
                self._give_up("its process failed")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._give_up(f"its process did not exit within {END_S[self.mode]:.0f} s")
        self.process = None
        if self.mode == "offline":
            self._keep()

    def _give_up(self, reason: str) -> None:
        self.process = None
        lines = (self.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        last = f": {lines[-1][:300]}" if lines else ""
        log.warning("Weights & Biases is missing rows of this run, %s%s; metrics.jsonl has all of them", reason, last)

    def _keep(self) -> None:
        for path in sorted(self.folder.glob("offline-run-*/*.wandb")):
            try:
                run_files.put_file(self.store, self.key, f"wandb/{path.parent.name}.wandb", path)
            except (Mm1Error, OSError) as error:
                log.warning("cannot store %s: %s", path.name, error)


def _environment(folder: Path, *, offline: bool) -> dict[str, str]:
    """Environment of the process: no files outside the folder, no error reports; offline no credentials either."""
    inherited = {name: value for name, value in os.environ.items() if not (offline and name.startswith("WANDB_"))}
    folders = {f"WANDB_{kind}_DIR": str(folder / "tmp") for kind in ("CACHE", "DATA", "ARTIFACT")}
    if offline:
        folders["WANDB_CONFIG_DIR"] = str(folder / "tmp")
    return {**inherited, **folders, "TMPDIR": str(folder / "tmp"), "WANDB_ERROR_REPORTING": "false", "GOMAXPROCS": "1"}


# -- the process ---------------------------------------------------------------------------------------------------


def follow(path: Path, after: int, ended: threading.Event) -> Iterator[dict[str, Any]]:
    """Follow the rows after a step in a growing file, until it has ended.

    Rows that come too fast are skipped, except the last one and those with validation losses.
    """
    rest, logged, row = "", float("-inf"), None
    with path.open() as file:
        while True:
            last = ended.is_set()  # checked before reading: all that was written before it was set is read
            rest += file.read()
            *lines, rest = rest.split("\n")
            for row in map(json.loads, lines):
                due = row["time"] - logged >= ROW_EVERY_S or any(name.startswith("validation/") for name in row)
                if row["step"] > after and due:
                    after, logged = row["step"], row["time"]
                    yield row
            if last:
                if row is not None and row["step"] > after:
                    yield row
                return
            ended.wait(POLL_S)


def main() -> None:
    """Log the rows of a run until standard input ends."""
    settings = json.loads(Path(sys.argv[1]).read_bytes())
    os.nice(NICENESS)
    ended = threading.Event()
    threading.Thread(target=_wait, args=(ended, END_S[settings["mode"]]), daemon=True).start()
    import wandb

    run = wandb.init(
        project=PROJECT,
        id=settings["id"],
        name=settings["name"],
        resume="allow" if settings["mode"] == "online" else None,  # offline the same id is enough
        dir=settings["folder"],
        config=settings["config"],
        settings=wandb.Settings(
            mode=settings["mode"],
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        ),
    )
    for row in follow(Path(settings["metrics"]), settings["after"], ended):
        run.log(row, step=row["step"])
    run.finish()


def _wait(ended: threading.Event, patience_s: float) -> None:
    """Wait for the trainer to exit, and limit the time that this process outlives it."""
    while os.read(0, 1):  # not through sys.stdin, whose lock would block the interpreter's exit
        pass
    ended.set()
    threading.Event().wait(patience_s)
    os._exit(1)


if __name__ == "__main__":
    main()
