r"""The program of one node of a training run on a cluster: ``python -m mm1_components.ranks.node``.

::

    --job JSON -> name of node 0 resolves -> torchrun (this node's number: JOB_COMPLETION_INDEX) -> exit code = outcome
                                                \-> lines to standard output, read by the supervisor
    node 0: result to the store at launch/<key>/result.json; all nodes: outcome and message to /dev/termination-log
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from types import FrameType

from mm1.errors import ConfigurationError, Ending, NetworkError, Outcome, Preempted
from mm1.monitoring import logs
from mm1.monitoring.logs import LogSettings
from mm1.store.open import open_store
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.launcher import result_key
from mm1_components.ranks.torchrun import run_ranks
from mm1_components.ranks.waits import RENDEZVOUS_S, RESOLVE_S

log = logging.getLogger("mm1")

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4_096
"""Maximum size that Kubernetes keeps; a truncated JSON object could not be parsed."""
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Environment variable with the index of the pod, set by the Indexed Job; not configuration."""


def main() -> None:
    """Train as one node and exit with the exit code of the outcome."""
    parser = argparse.ArgumentParser(prog="python -m mm1_components.ranks.node", description="One node of a training run.")
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="number of nodes")
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="ranks per node")
    parser.add_argument("--master", required=True, metavar="HOST:PORT", help="address of node 0")
    parser.add_argument("--grace-s", type=int, required=True, metavar="S", help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--job", required=True, metavar="JSON", help="the training job")
    arguments = parser.parse_args()
    logs.configure(sys.stdout, LogSettings())
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(int(_end(arguments)))


def _end(arguments: argparse.Namespace) -> Outcome:
    try:
        run(arguments)
        return Outcome.DONE
    except Exception as error:  # noqa: BLE001 - unexpected errors are logged with a traceback and exit code 1
        ending = Ending.of(error)
        if ending.outcome is Outcome.UNHANDLED:
            log.error("%s", traceback.format_exc())
        index = os.environ.get(INDEX_VARIABLE, "0")
        log.error("node %s failed (%s, exit code %d): %s", index, ending.outcome.label, ending.outcome, ending.message)
        if TERMINATION_LOG.exists():  # Kubernetes copies it into the pod's status
            TERMINATION_LOG.write_text(ending.to_json(TERMINATION_BYTES))
        return ending.outcome


def run(arguments: argparse.Namespace) -> None:
    """Join the other nodes, train, and write the result to the store."""
    job = TrainJob.model_validate_json(arguments.job)
    logs.configure(sys.stdout, job.logs)
    index = _index()
    with tempfile.TemporaryDirectory(prefix="mm1-node-") as folder:
        job = job.model_copy(update={"folder": folder})
        if job.decoder:
            from mm1.train.import_decoder import publish_decoder  # torch and transformers

            result: TrainResult | None = publish_decoder(job) if index == 0 else None
        else:
            rendezvous = _rendezvous(arguments.master, arguments.nodes, index)
            result = run_ranks(job, arguments.processes, partial(_echo, job.logs), arguments.grace_s, rendezvous)
    if result is not None:
        open_store(job.store).write_json(result_key(job.key), result.model_dump(mode="json"))


def _rendezvous(master: str, nodes: int, index: int) -> list[str]:
    """Return torchrun's rendezvous options, after waiting for the name of node 0 to resolve."""
    host, _, port = master.rpartition(":")
    if nodes == 1:
        host = "127.0.0.1"
    _wait_for_name(host)
    return [
        *("--nnodes", str(nodes), "--node-rank", str(index)),
        *("--master-addr", host, "--master-port", port, "--rdzv-conf", f"timeout={RENDEZVOUS_S}"),
    ]


def _wait_for_name(host: str) -> None:
    """Wait for the DNS name of a JobSet's pod, which is created some time after the pod.

    Raises:
        NetworkError: the name does not resolve within five minutes.
    """
    started = time.monotonic()
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except socket.gaierror as error:
            if time.monotonic() - started > RESOLVE_S:
                raise NetworkError(f"the name of node 0, {host}, does not resolve ({error}): check the cluster's DNS") from None
            time.sleep(0.5)


def _index() -> int:
    text = os.environ.get(INDEX_VARIABLE, "0")
    if not text.isdigit():
        raise ConfigurationError(f"{INDEX_VARIABLE}: expected an integer, got {text!r}")
    return int(text)


def _echo(settings: LogSettings, line: str) -> None:
    sys.stdout.write(settings.whole_line(line))
    sys.stdout.flush()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # further signals are ignored during the grace period
    raise Preempted("stopped; the last checkpoint is saved, and the same work resumes from it")


if __name__ == "__main__":
    main()
