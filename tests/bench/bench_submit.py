"""How long ``hera submit --dry-run=client`` takes: ``python tests/bench/bench_submit.py [ROUNDS]``.

The peer is a bare ``python -c 'import hera.workflows'``, measured in turns with it, each in a process of its own. The bound of
the project is 1.5 times the peer, and no torch. Byte code is kept in a folder of its own, as any installation has it.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 7
BOUND = 1.5
PEER = [sys.executable, "-c", "import hera.workflows"]
CALL = "import sys; from mm1_workflows.cli import hera; code = hera({arguments!r}); {then}sys.exit(code)"
SUBMIT = ["submit", "--dry-run=client", "workflows/pretrain.py"]
NO_TORCH = "assert 'torch' not in sys.modules, 'torch was imported'; "


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor time of a command, s."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    ours = [sys.executable, "-c", CALL.format(arguments=SUBMIT, then="")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        measure([sys.executable, "-c", CALL.format(arguments=SUBMIT, then=NO_TORCH)], environment)
        pairs = [(measure(PEER, environment), measure(ours, environment)) for _ in range(rounds)]
    shown = Console(highlight=False)
    for number, kind in enumerate(("wall", "processor")):
        peer = statistics.median(one[number] for one, _ in pairs)
        mine = statistics.median(one[number] for _, one in pairs)
        shown.print(f"{kind:<10} import hera.workflows {peer:.2f} s, submit {mine:.2f} s: {mine / peer:.2f}x (bound {BOUND}x)")
    shown.print("torch was not imported")


if __name__ == "__main__":
    main()
