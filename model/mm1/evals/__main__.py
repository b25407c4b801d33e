"""One process of an evaluation, ``python -m mm1.evals --job job.json --shard 0/4``, which keeps its replies in a folder."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from mm1.errors import Ending, Outcome
from mm1.machine import die_with_parent
from mm1.monitoring import logs
from mm1.monitoring.logs import LogSettings

log = logging.getLogger("mm1.evals")


def main() -> None:
    """Answer a share of a job, and exit with the outcome's exit code."""
    parser = argparse.ArgumentParser(prog="python -m mm1.evals", description="One process of an evaluation.")
    parser.add_argument("--job", type=Path, required=True, metavar="PATH", help="job, JSON")
    parser.add_argument("--shard", required=True, metavar="I/N", help="share of the prompts to answer")
    arguments = parser.parse_args()
    die_with_parent()
    logs.configure(sys.stderr, LogSettings(), text_format="%(message)s", level=logging.WARNING)
    from mm1.evals.asking import Share
    from mm1.evals.job import EvalJob, RunningJob
    from mm1.evals.shards import error_file

    share = Share.parse(arguments.shard)
    try:
        job = EvalJob.model_validate_json(arguments.job.read_bytes())
    except (OSError, ValidationError) as error:
        sys.exit(f"{arguments.job} is not a job: {error}")
    try:
        RunningJob(job).answer(share, lambda done, total: None)
    except Exception as error:  # noqa: BLE001 - the last line of defence: recorded for the process that started this one
        ending = Ending.of(error, f"shard {share.index}")
        if ending.outcome is Outcome.UNHANDLED:
            log.error("%s", traceback.format_exc())
        error_file(arguments.job, share.index).write_text(ending.to_json())
        sys.stderr.flush()
        os._exit(int(ending.outcome))


if __name__ == "__main__":
    main()
