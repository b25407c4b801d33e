"""What must run in the light image imports neither torch nor what needs it (checked where they cannot be imported)."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "deepspeed", "torchvision", "triton")
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}:
            raise ImportError(f'{{name}} is not in the light image')
sys.meta_path.insert(0, Blocker())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
ROOMS = (
    "coordinates",
    "errors",
    "machine",
    "config",
    "store",
    "manifests",
    "lineage",
    "world",
    "report",
    "studies",
    "monitoring",
)
NEEDS_TORCH = {"loader", "collate", "validation"}
"""Modules of `mm1.data` that the trainer alone imports."""


def modules_below(package: str, folder: Path) -> list[str]:
    names = [package, *(item.name for item in pkgutil.walk_packages([str(folder)], f"{package}."))]
    return [name for name in names if not name.endswith("__main__")]


def light_modules() -> list[str]:
    library = ROOT / "model" / "mm1"
    found = []
    for room in ROOMS:
        found += modules_below(f"mm1.{room}", library / room) if (library / room).is_dir() else [f"mm1.{room}"]
    found += [name for name in modules_below("mm1.data", library / "data") if name.split(".")[-1] not in NEEDS_TORCH]
    found += [f"mm1.{path.parent.name}.config" for path in sorted(library.glob("*/config.py"))]
    found += modules_below("mm1.train.config", library / "train" / "config")
    found += ["mm1.evals.gate"]
    found += modules_below("mm1_components", ROOT / "components" / "mm1_components")
    return sorted(set(found))


def test_light_modules_import_without_torch():
    beside_each_run = "mm1.train.callbacks.wandb"  # a process of its own
    run = subprocess.run([sys.executable, "-c", BLOCKER, *light_modules(), beside_each_run], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("command", [["--help"], ["recipes"], ["plan", "--help"]])
def test_command_line_runs_without_torch(command):
    start = "import sys; from mm1_workflows.cli import main; sys.argv = ['mm1', *sys.argv[2:]]; main()"
    code = BLOCKER.replace("sys.argv[1:]", "sys.argv[1:2]") + start
    run = subprocess.run([sys.executable, "-c", code, "mm1_workflows.cli", *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()
