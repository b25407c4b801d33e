"""Ranks that are stuck are ended, with their stacks written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mm1_components.ranks import torchrun
from mm1_components.ranks.stuck import StuckWatch
from mm1_components.ranks.torchrun import Guard
from tests.support.tiny_runs import small_run

RANK = """
import faulthandler, json, signal, sys, time
faulthandler.register(signal.SIGUSR1, open(sys.argv[1], "w"))
print(json.dumps({"mm1": "progress", "step": 3, "steps": 9, "step_s": 0.1}), flush=True)
def wait_for_nothing():
    time.sleep(60)
wait_for_nothing()
"""
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def test_ranks_without_a_step_are_ended_with_their_stacks(tmp_path: Path) -> None:
    stacks = tmp_path / "stacks.txt"
    command = [sys.executable, "-c", LAUNCHER, "import mm1.machine; mm1.machine.die_with_parent()" + RANK, str(stacks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    hours = iter(range(0, 10**6, 3600))
    lines: list[str] = []
    with Guard(process, StuckWatch(small_run("mm1_tiny"), clock=lambda: float(next(hours))), poll_s=0.01) as guard:
        torchrun._follow(process, guard.around(lines.append), 5)
    assert guard.reason.startswith("stuck after step 3: no step has ended for")
    assert [json.loads(line)["step"] for line in lines] == [3]
    assert "wait_for_nothing" in stacks.read_text()
