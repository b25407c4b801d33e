"""``python -m mm1_workflows.cli``."""

import sys

from mm1_workflows.cli import main

if __name__ == "__main__":
    sys.exit(main())
