"""What a step costs beyond its own work: on this machine, and on a cluster when KUBECONFIG names one.

``python tests/bench/bench_steps.py``. The pipeline is five steps that do nothing, one after the other. Here: wall time of the
run, less the start of the command line, less the same five processes started by hand in the same turn. On the cluster (the
namespace MM1_CLUSTER_NAMESPACE, prepared as for the cluster tests): time from the start of the workflow to its end, over five.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
IDLE = str(ROOT / "tests/support/cluster_workflows/idle.py")
STEPS, RUNS = 5, 5


def wall(*argv: str) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(argv, check=True, capture_output=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})
    return time.perf_counter() - started


def on_this_machine() -> list[float]:
    """Seconds per step that the local runner adds, of each run."""
    mm1 = (sys.executable, "-m", "mm1_workflows.cli", "run", IDLE)
    found = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            step = (sys.executable, "-m", "tests.support.toy_steps", "--seconds=0", "--no-cache", f"--store={folder}/by-hand")
            start = wall(*mm1, "--list")
            run = wall(*mm1, "--store", f"{folder}/store", "--folder", f"{folder}/runs", "--no-cache")
            by_hand = sum(wall(*step) for _ in range(STEPS))
            found.append((run - start - by_hand) / STEPS)
    return found


def on_the_cluster() -> list[float]:
    """Seconds per step on Argo, pod start and wrapper included, of each run."""
    from tests.support.cluster import Cluster, start

    namespace, tool = os.environ["MM1_CLUSTER_NAMESPACE"], shlex.split(os.environ.get("MM1_CLUSTER_UP", ""))
    cluster = Cluster(namespace, start(), tool, store=f"s3://data/{namespace}")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        profile = cluster.variant(Path(folder) / "toys.yaml", lambda content: None)
        for number in range(RUNS):
            cluster.store = f"s3://data/{namespace}/idle-{time.time_ns()}-{number}"
            status = cluster.finished(cluster.submit(IDLE, profile=profile))["status"]
            begin, end = (datetime.fromisoformat(status[name]) for name in ("startedAt", "finishedAt"))
            found.append((end - begin).total_seconds() / STEPS)
    return found


def say(where: str, found: list[float], wanted_s: float) -> None:
    """One line of results."""
    runs = ", ".join(f"{value:.2f}" for value in found)
    print(f"{where}: {statistics.median(found):.2f} s a step (median of {len(found)}: {runs}); wanted at most {wanted_s:g} s")


if __name__ == "__main__":
    say("local runner", on_this_machine(), 0.5)
    if os.environ.get("MM1_CLUSTER_NAMESPACE"):
        say("Argo", on_the_cluster(), 10)
    else:
        print("Argo: not measured, MM1_CLUSTER_NAMESPACE names no prepared namespace")
