"""``mm1 stop``: end a run on a cluster so that nothing of it is left but the workflow itself, which says what happened.

Argo ends the pods (SIGTERM, then the grace period), the supervisors remove their JobSets. What is still there afterwards is
removed here; Argo Server shows neither pods nor JobSets, and the command says so.
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


@command(name="stop", help="End a run on a cluster; its pods and JobSets are removed.")
@dataclass
class Command(ClusterOptions):
    """``mm1 stop``."""

    name: RunArg
    now: Annotated[bool, Arg(long=True, help="Without its exit task (the report).")] = False
    timeout: Annotated[int, count_option("How long its pods may take to end.", least=0, value_name="SECONDS")] = 300

    def __call__(self) -> int:
        """Stop a run, wait for its end, and remove what it leaves."""
        output = console()
        transport = connect(self)
        patience = Patience(tell=lambda text: say(output, text))
        name = self.name
        workflow = patience.ask(lambda: transport.get(name))
        if finished(workflow):
            say(output, f"{name} is over already")
        else:
            patience.ask(lambda: transport.shut_down(name, "Terminate" if self.now else "Stop"))
            farewell = not self.now and "onExit" in workflow["spec"]
            say(output, f"{name} is being stopped" + ("; its exit task still runs" if farewell else ""))
            _wait(lambda: finished(patience.ask(lambda: transport.get(name))), self.timeout, f"{name} has not ended", patience)
        if not isinstance(transport, KubernetesTransport):
            rest = f"`kubectl get pods -l {WORKFLOW_LABEL}={name}`"
            say(output, f"{name} is stopped; Argo Server does not show pods: see with {rest} whether any are left")
            return 0
        _clear(transport, name, self.timeout, patience)
        say(output, f"{name} is stopped, nothing is left of its pods and JobSets; the workflow and its records stay")
        return 0


def _clear(transport: KubernetesTransport, name: str, timeout_s: float, patience: Patience) -> None:
    """Wait for the pods to end (supervisors remove their JobSets while they do), then remove what is left."""
    _wait(lambda: not _living(transport, name, patience), timeout_s, f"pods of {name} have not ended", patience)
    for jobset in _jobsets(transport, name, patience):
        _remove(transport, JOBSET, "jobsets", jobset, patience)
    for pod in _pods(transport, name, patience):
        _remove(transport, "v1", "pods", pod["metadata"]["name"], patience)
    gone = lambda: not _pods(transport, name, patience) and not _jobsets(transport, name, patience)  # noqa: E731
    _wait(gone, timeout_s, f"pods or JobSets of {name} are still there", patience)


def _remove(transport: KubernetesTransport, group_version: str, plural: str, name: str, patience: Patience) -> None:
    patience.ask(lambda: transport.remove(group_version, plural, name))


def _pods(transport: KubernetesTransport, name: str, patience: Patience) -> list[dict]:
    def read() -> list[dict]:
        ours = transport.objects("v1", "pods", f"{WORKFLOW_LABEL}={name}")
        return ours + transport.objects("v1", "pods", f"{RUN_LABEL}={name}")

    return patience.ask(read)


def _living(transport: KubernetesTransport, name: str, patience: Patience) -> bool:
    """Whether step pods still run (ranks end with their JobSet)."""
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
        raise NetworkError(f"{complaint} after {seconds:.0f} s: does the workflow controller run? Run the same command again")
