"""Command line for writing the toy world: ``python -m mm1.world --part all --out FOLDER --seed 0``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mm1.errors import Mm1Error
from mm1.world.config import WorldConfig
from mm1.world.write import PARTS, write_part


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the parts; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mm1.world", description="Write the toy world in standard data formats.")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all", help="which part to write (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="output folder; each part is a subfolder")
    parser.add_argument("--seed", type=int, default=0, help="non-negative seed (default: 0)")
    parser.add_argument("--small", action="store_true", help="write only a few dozen samples per part")
    parsed = parser.parse_args(arguments)
    if parsed.seed < 0:
        parser.error("--seed must not be negative")
    config = WorldConfig.small(parsed.seed) if parsed.small else WorldConfig(seed=parsed.seed)
    try:
        for part in PARTS if parsed.part == "all" else (parsed.part,):
            sys.stdout.write(f"{part}: {write_part(part, parsed.out / part, config)}\n")
    except Mm1Error as error:
        sys.stderr.write(f"{error}\n")
        return int(error.outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())
