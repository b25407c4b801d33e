"""Files that show where the ranks stood when a collective did not finish: last collectives and Python stacks of each rank.

    <job's folder>/flight-recorder/rank-0.json          last collectives (torch's flight recorder), oldest first
                                   stacks-rank-0.txt    stacks of all threads
                                   nccl-rank-0          written by NCCL's watchdog itself, for torch's `torchfrtrace`

With gloo the waiting rank gets an exception: it asks all ranks for their files through the key-value store, and learns which
ranks wait with it. With NCCL the watchdog aborts the process; ``faulthandler`` then writes the stacks. Whoever started the
ranks moves the files to the store (:mod:`mm1_components.ranks.torchrun`). SIGUSR1 makes a rank write its stacks.
"""

from __future__ import annotations

import faulthandler
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

from torch._C import _distributed_c10d as c10d

from mm1.errors import NetworkError, typed
from mm1.train.progress import Progress
from mm1.train.ranks import DUMP_KEY, dump_hooks, key_value_store
from mm1.train.run_files import FLIGHT_FOLDER

MAX_ENTRIES = 200
"""Number of collectives that a file keeps."""
TIMEOUT_SIGNS = re.compile(r"timed out|timeout", re.IGNORECASE)
REPORT_S = 6.0
"""Seconds that a rank waits for the files and reports of the others; more than one sign of life apart."""
WAITING_KEY = "mm1/waiting"


class FlightRecorder:
    """Writes the files of this rank.

    Args:
        folder: of the job.
        rank: this process.
        world_size: number of processes.
        timeout_s: time limit of a collective, for the message.
    """

    def __init__(self, folder: Path, rank: int, world_size: int, timeout_s: float) -> None:
        self.folder = folder / FLIGHT_FOLDER
        self.rank, self.world_size, self.timeout_s = rank, world_size, timeout_s
        self.progress: Progress | None = None
        """Progress of the run, once it is built."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stacks = (self.folder / f"stacks-rank-{rank}.txt").open("w")
        faulthandler.enable(self._stacks)
        faulthandler.register(signal.SIGUSR1, self._stacks)
        dump_hooks.append(self.dump)

    def dump(self) -> None:
        """Write last collectives and stacks."""
        faulthandler.dump_traceback(self._stacks)
        step, collectives = self.progress.step if self.progress else None, self.collectives()[-MAX_ENTRIES:]
        record = {"rank": self.rank, "step": step, "collectives": collectives}
        (self.folder / f"rank-{self.rank}.json").write_text(json.dumps(record, indent=1))

    def collectives(self) -> list[dict[str, Any]]:
        """Return the recorded collectives of this process, oldest first; of NCCL if there are any, else of gloo."""
        for name in ("_dump_nccl_trace_json", "_dump_fr_trace_json"):
            read = getattr(c10d, name, None)
            if read is not None and (entries := json.loads(read()).get("entries")):
                return list(entries)
        return []

    def explain(self, error: RuntimeError) -> NetworkError | None:
        """Explain a collective that did not finish: which one, where, and who did not arrive. None for other errors."""
        if not isinstance(typed(error), NetworkError):
            return None
        if not TIMEOUT_SIGNS.search(str(error)):  # another rank is gone
            self.dump()
            return None
        missing = self._missing()
        self.dump()
        when = f"after step {self.progress.step}" if self.progress else "while the run was built"
        arrived = f"ranks that did not arrive: {', '.join(map(str, missing))}" if missing else "all ranks wait in collectives"
        return NetworkError(
            f"a collective did not finish within {self.timeout_s:g} s (train.collective_timeout_s) {when}: "
            f"{_description(self.collectives())}; {arrived}"
        )

    def _missing(self) -> list[int]:
        """Ask all ranks for their files, and return those that do not report to wait in a collective too."""
        store, started = key_value_store(), time.monotonic()
        try:
            store.append(WAITING_KEY, f"{self.rank}\n")  # type: ignore[attr-defined]
            store.set(DUMP_KEY, "")
            while True:
                missing = sorted(set(range(self.world_size)) - {*map(int, store.get(WAITING_KEY).split())})
                if not missing or time.monotonic() - started > REPORT_S:
                    return missing
                time.sleep(0.1)
        except RuntimeError:  # the store is gone too
            return []


def _description(entries: list[dict[str, Any]]) -> str:
    """Describe the collective that is waited for: NCCL's first unfinished one, gloo's last one."""
    waiting = [entry for entry in entries if not entry["retired"] and entry["state"] != "completed"]
    if not entries:
        return "torch recorded none"
    entry = waiting[0] if waiting else entries[-1]
    sizes = ", ".join(f"{kind} {size}" for kind, size in zip(entry["input_dtypes"], entry["input_sizes"], strict=False))
    number, group = entry["collective_seq_id"], entry["process_group"][1] or "default"
    return f"{entry['profiling_name']} number {number} of group {group} ({sizes})"
