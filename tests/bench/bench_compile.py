"""How long a fan-out of 500 tasks takes to compile: ``python tests/bench/bench_compile.py [TASKS]``.

The peer is what Hera alone does with the same file (load, build, its own YAML), measured in turns in this process, so that what
else the machine does meets both. The bound of the project is 2 s for 500 tasks (Argo YAML).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

FAN_OUT = """
from hera.workflows import DAG, Parameter, Workflow
from mm1_workflows.authoring import steps

arguments = [Parameter(name="data"), Parameter(name="seed", value="0")]
with Workflow(generate_name="fan-", entrypoint="fan", arguments=arguments) as w:
    with DAG(name="fan"):
        first = steps.data_mix(data=w.get_parameter("data"), seed=w.get_parameter("seed"))
        for number in range({tasks}):
            steps.data_mix(name=f"mix-{{number}}", data=first.get_parameter("manifest"), seed=str(number))
"""
ROUNDS = 5
BOUND_S = 2.0


def main() -> None:
    """Measure and print."""
    from mm1_workflows.authoring.python_file import executed
    from mm1_workflows.engines.yaml import compiled

    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fan_out.py"
        file.write_text(FAN_OUT.format(tasks=tasks))

        def hera_alone() -> None:
            with executed(file) as module:
                module.w.to_yaml()

        ours: list[float] = []
        peers: list[float] = []
        compiled(str(file))  # imports are not what is measured
        for _ in range(ROUNDS):
            ours.append(_seconds(lambda: compiled(str(file))))
            peers.append(_seconds(hera_alone))
    mine, peer = statistics.median(ours), statistics.median(peers)
    Console().print(
        f"{tasks} tasks to Argo YAML, median of {ROUNDS}: {mine:.2f} s (bound {BOUND_S:g} s at 500); Hera alone {peer:.2f} s; "
        f"ratio {mine / peer:.2f}"
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
