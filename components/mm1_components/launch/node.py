r"""The program of one node of a training run on a cluster: ``python -m mm1_components.launch.node``.

::

    --job JSON -> name of node 0 resolves -> torchrun (this node's number: JOB_COMPLETION_INDEX) -> exit code = outcome
                                                \-> lines to standard output, which the supervisor reads
    node 0: result to the store at launch/<key>/result.json; all nodes: outcome and message to /dev/termination-log
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from mm1.errors import ConfigurationError, Mm1Error, NetworkError, Outcome, Preempted, from_os_error
from mm1.store.open import open_store
from mm1.train.config import TrainJob, TrainResult
from mm1_components.torchrun import run_ranks
from mm1_components.training import publish_decoder

log = logging.getLogger("mm1")

TERMINATION_LOG = Path("/dev/termination-log")
MESSAGE_BYTES = 3_000
RESOLVE_S = 300.0


def result_key(key: str) -> str:
    """Name of the object in the store that holds the result of a piece of work."""
    return f"launch/{key}/result.json"


def main() -> None:
    """Train as one node, and leave through the outcome's exit code."""
    parser = argparse.ArgumentParser(prog="python -m mm1_components.launch.node", description="One node of a training run.")
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="nodes of the run")
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="ranks of each node")
    parser.add_argument("--master", required=True, metavar="HOST:PORT", help="where node 0 is")
    parser.add_argument("--grace-s", type=int, required=True, metavar="S", help="seconds from SIGTERM to the end by force")
    parser.add_argument("--job", required=True, metavar="JSON", help="resolved job")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(int(_end(arguments)))


def _end(arguments: argparse.Namespace) -> Outcome:
    message = ""
    try:
        run(arguments)
        outcome = Outcome.DONE
    except Mm1Error as error:
        outcome, message = error.outcome, str(error)
    except ValidationError as error:
        outcome, message = Outcome.CONFIGURATION, str(error)
    except OSError as error:
        typed = from_os_error(error)
        outcome, message = typed.outcome, str(typed)
    except Exception as error:  # noqa: BLE001 - the last line of defence: shown with its trace, exit 1
        outcome, message = Outcome.UNHANDLED, f"{type(error).__name__}: {error}"
        log.error("%s", traceback.format_exc())
    if outcome is not Outcome.DONE:
        log.error("node %s failed (%s, exit %d): %s", _index(), outcome.name.lower(), outcome, message)
    _leave_message(outcome, message)
    return outcome


def run(arguments: argparse.Namespace) -> None:
    """Find the other nodes, train, leave the result."""
    job = TrainJob.model_validate_json(arguments.job)
    index = _index()
    with tempfile.TemporaryDirectory(prefix="mm1-node-") as folder:
        job = job.model_copy(update={"folder": folder})
        if job.decoder:
            result: TrainResult | None = publish_decoder(job) if index == 0 else None
        else:
            rendezvous = _rendezvous(arguments.master, arguments.nodes, index)
            result = run_ranks(job, arguments.processes, _echo, arguments.grace_s, rendezvous)
    if result is not None:
        open_store(job.store).write_json(result_key(job.key), result.model_dump(mode="json"))


def _rendezvous(master: str, nodes: int, index: int) -> list[str]:
    """Torchrun's options about the gang, once the first node's name resolves."""
    host, _, port = master.rpartition(":")
    if nodes == 1:
        host = "127.0.0.1"
    _wait_for_name(host)
    return [
        *("--nnodes", str(nodes), "--node-rank", str(index)),
        *("--master-addr", host, "--master-port", port, "--rdzv-conf", "timeout=600"),
    ]


def _wait_for_name(host: str) -> None:
    """Names of a JobSet's pods appear some time after the pods.

    Raises:
        NetworkError: it does not within five minutes.
    """
    started = time.monotonic()
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except socket.gaierror as error:
            if time.monotonic() - started > RESOLVE_S:
                raise NetworkError(
                    f"the name of the first node, {host}, does not resolve ({error}): is cluster DNS well?"
                ) from None
            time.sleep(0.5)


def _index() -> int:
    text = os.environ.get("JOB_COMPLETION_INDEX", "0")  # what an Indexed Job says about its pod; not configuration
    if not text.isdigit():
        raise ConfigurationError(f"JOB_COMPLETION_INDEX={text!r} is not a number")
    return int(text)


def _echo(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _leave_message(outcome: Outcome, message: str) -> None:
    """Where Kubernetes picks up a container's last word: it stays with the pod's status."""
    if outcome is not Outcome.DONE and TERMINATION_LOG.exists():
        TERMINATION_LOG.write_text(json.dumps({"outcome": int(outcome), "message": message[:MESSAGE_BYTES]}))


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the grace period is known
    raise Preempted("stopped; the last checkpoint is saved, and the same work goes on from it")


if __name__ == "__main__":
    main()
