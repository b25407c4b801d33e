"""Damaged images through all uses of the decoder: nothing but DataError may come out.

    .venv/bin/python tests/bench/fuzz_images.py --images 100000

Prints how many were decoded and refused, the slowest one and every exception of another type; exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mm1.data.images import decode, decode_image, decode_small, open_image, thumbnail
from mm1.errors import DataError
from tests.support.damaged_images import mutations

USES = {
    "loader": lambda data: decode(data, 32),
    "server": decode_image,
    "ingest": lambda data: thumbnail(decode_small(open_image(data, max_pixels=10_000_000))),
}


def main() -> int:
    """Decode damaged images and count the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    outcomes: Counter[str] = Counter()
    untyped: Counter[str] = Counter()
    slowest, started = (0.0, ""), time.perf_counter()
    for number, (name, data) in enumerate(mutations(options.images, options.seed)):
        for use, run in USES.items():
            began = time.perf_counter()
            try:
                run(data)
                outcomes[f"{use}: decoded"] += 1
            except DataError:
                outcomes[f"{use}: refused"] += 1
            except Exception as error:  # noqa: BLE001 - these are what the fuzzing looks for
                place = traceback.extract_tb(error.__traceback__)[-1]
                untyped[f"{use}, {name}: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"] += 1
            slowest = max(slowest, (time.perf_counter() - began, f"number {number}, {name}, {use}"))
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome} {count:,}")
    for error, count in untyped.most_common(30):
        print(f"NOT A DataError, {count} times: {error}")
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{options.images:,} images in {time.perf_counter() - started:.0f} s, {sum(untyped.values())} untyped errors")
    print(f"slowest {slowest[0]:.2f} s ({slowest[1]}), peak memory {memory_mb:,.0f} MB")
    return 1 if untyped else 0


if __name__ == "__main__":
    sys.exit(main())
