"""The commands ``mm1`` and ``hera``."""

from mm1_workflows.cli.app import hera, main

__all__ = ["hera", "main"]
