"""``mm1 stop``: stop a run on a cluster and delete its pods and JobSets; the workflow object is kept.

Argo terminates the pods (SIGTERM, then the grace period), and the supervisors delete their JobSets. This command deletes the
remaining ones. Argo Server does not provide pods and JobSets; in this case the command prints how to check them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.errors import NetworkError
from mm1_components.ranks.jobset.names import JOBSET, RUN_LABEL
from mm1_workflows.argo.document import WORKFLOW_LABEL
from mm1_workflows.cli.options import ClusterOptions, RunArg, count_option
from mm1_workflows.cli.output import console, say
from mm1_workflows.cluster.following.nodes import finished
from mm1_workflows.cluster.following.patience import Patience
from mm1_workflows.cluster.transport.connect import connect
from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport

POLL_S = 1.0


@command(name="stop", help="Stop a run on a cluster and delete its pods and JobSets.")
@dataclass
class Command(ClusterOptions):
    """``mm1 stop``."""

    name: RunArg
    now: Annotated[bool, Arg(long=True, help="Do not run its exit task (the report).")] = False
    timeout: Annotated[int, count_option("Seconds to wait for its pods to end.", least=0, value_name="SECONDS")] = 300

    def __call__(self) -> int:
        """Stop a run, wait for its end, and delete its remaining objects."""
        output = console()
        transport = connect(self)
        patience = Patience(tell=lambda text: say(output, text))
        name = self.name
        workflow = patience.ask(lambda: transport.get(name))
        if finished(workflow):
            say(output, f"{name} has already ended")
        else:
            patience.ask(lambda: transport.shut_down(name, "Terminate" if self.now else "Stop"))
            runs_exit_task = not self.now and "onExit" in workflow["spec"]
            say(output, f"stopping {name}" + ("; its exit task still runs" if runs_exit_task else ""))
            _wait(lambda: finished(patience.ask(lambda: transport.get(name))), self.timeout, f"{name} has not ended", patience)
        if not isinstance(transport, KubernetesTransport):
            list_pods = f"`kubectl get pods -l {WORKFLOW_LABEL}={name}`"
            say(output, f"stopped {name}; Argo Server does not provide pods: check for remaining ones with {list_pods}")
            return 0
        _clear(transport, name, self.timeout, patience)
        say(output, f"stopped {name} and deleted its pods and JobSets; the workflow and its records are kept")
        return 0


def _clear(transport: KubernetesTransport, name: str, timeout_s: float, patience: Patience) -> None:
    """Wait for the pods to end (supervisors delete their JobSets meanwhile), then delete the remaining objects."""
    _wait(lambda: not _living(transport, name, patience), timeout_s, f"pods of {name} have not ended", patience)
    for jobset in _jobsets(transport, name, patience):
        _remove(transport, JOBSET, "jobsets", jobset, patience)
    for pod in _pods(transport, name, patience):
        _remove(transport, "v1", "pods", pod["metadata"]["name"], patience)
    gone = lambda: not _pods(transport, name, patience) and not _jobsets(transport, name, patience)  # noqa: E731
    _wait(gone, timeout_s, f"pods or JobSets of {name} still exist", patience)


def _remove(transport: KubernetesTransport, group_version: str, plural: str, name: str, patience: Patience) -> None:
    patience.ask(lambda: transport.remove(group_version, plural, name))


def _pods(transport: KubernetesTransport, name: str, patience: Patience) -> list[dict]:
    def read() -> list[dict]:
        step_pods = transport.objects("v1", "pods", f"{WORKFLOW_LABEL}={name}")
        return step_pods + transport.objects("v1", "pods", f"{RUN_LABEL}={name}")

    return patience.ask(read)


def _living(transport: KubernetesTransport, name: str, patience: Patience) -> bool:
    """Whether step pods are still running (ranks end with their JobSet)."""
    pods = patience.ask(lambda: transport.objects("v1", "pods", f"{WORKFLOW_LABEL}={name}"))
    return any(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods)


def _jobsets(transport: KubernetesTransport, name: str, patience: Patience) -> list[str]:
    jobsets = patience.ask(lambda: transport.objects(JOBSET, "jobsets", f"{RUN_LABEL}={name}"))
    return [jobset["metadata"]["name"] for jobset in jobsets]


def _try(done: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(POLL_S)
    return True


def _wait(done: Callable[[], bool], seconds: float, complaint: str, patience: Patience) -> None:
    if not _try(done, seconds):
        raise NetworkError(
            f"{complaint} after {seconds:.0f} s: check that the workflow controller is running, and run the same command again"
        )
