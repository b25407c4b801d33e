"""The command ``hera``, for ``python -m``."""

import sys

from mm1_workflows.cli import hera

sys.exit(hera())
