"""YAML files by which lm-evaluation-harness and lmms-eval find our tasks.

    python -m mm1.evals.adapters.write_tasks FOLDER --benchmarks B --tasks vqa@0,4 captions@0 [--harness lmms_eval]

writes ``FOLDER/mm1_vqa_0shot.yaml`` and so on, for ``--include_path FOLDER``. The harness then draws no demonstrations itself:
they are in the prompts, as in `mm1 eval`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mm1.errors import ConfigurationError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.tasks.groups import expand
from mm1.evals.tasks.names import parse_name
from mm1.evals.tasks.registry import find_task

HARNESSES = ("lm_eval", "lmms_eval")


def write_tasks(
    folder: Path, harness: str, benchmarks: Path, tasks: Sequence[str], *, split: str = "test", items: int = 0, seed: int = 0
) -> list[Path]:
    """Write one file per task and number of shots.

    Args:
        folder: the folder to write to; it is created.
        harness: lm_eval or lmms_eval.
        benchmarks: folder of benchmark files.
        tasks: names of tasks or groups; ``name@0,4`` sets the shots, 0 by default.
        split: subfolder of tasks in this project's layout.
        items: items per task, sampled as in `mm1 eval`; 0 = all.
        seed: seed of items and demonstrations.

    Raises:
        ConfigurationError: the harness is unknown, a name is not a task's, or the benchmarks are missing.
    """
    if harness not in HARNESSES:
        raise ConfigurationError(f"harness: expected {' or '.join(HARNESSES)}, got {harness!r}")
    if not benchmarks.is_dir():
        raise ConfigurationError(f"benchmarks: no folder {benchmarks}")
    names = [parse_name(task) for task in expand(tasks)]
    files = BenchmarkFolder(benchmarks, split)
    titles = [find_task(str(name), files).name + (f"_{name.split}" if name.split else "") for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, label in zip(names, titles, strict=True):
        base = str(Path(name.base).resolve()) if name.base.endswith(".py") else name.base
        base += f":{name.split}" if name.split else ""
        for shots in name.shots or (0,):
            title = f"mm1_{label}_{shots}shot"
            fields = {"benchmarks": str(benchmarks.resolve()), "name": base, "split": split, "shots": shots, "seed": seed}
            fields |= {"items": items} if items else {}
            # JSON strings are YAML strings.
            lines = [f"task: {title}", f"class: !function mm1.evals.adapters.{harness}.HarnessTask"]
            lines += [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
            path = folder / f"{title}.yaml"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files of the command line."""
    parser = argparse.ArgumentParser(prog="python -m mm1.evals.adapters.write_tasks", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--harness", choices=HARNESSES, default=HARNESSES[0])
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of benchmark files")
    parser.add_argument("--tasks", nargs="+", required=True, help="names; name@0,4 sets the shots")
    parser.add_argument("--split", default="test", help="subfolder of tasks in this project's layout")
    parser.add_argument("--items", type=int, default=0, help="items per task; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="seed of items and demonstrations")
    options = parser.parse_args(arguments)
    numbers = {"items": options.items, "seed": options.seed}
    try:
        write_tasks(options.folder, options.harness, options.benchmarks, options.tasks, split=options.split, **numbers)
    except (ConfigurationError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
