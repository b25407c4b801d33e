"""Run a Python file of a page: ``python -m tests.support.python_block FILE``; model code that it loads is cached next to it."""

import runpy
import sys
from pathlib import Path

from transformers import dynamic_module_utils

dynamic_module_utils.HF_MODULES_CACHE = str(Path(sys.argv[1]).resolve().parent / "modules")
runpy.run_path(sys.argv[1], run_name="__main__")
