"""A restricted pod, and its changes that the Pod Security Standard `restricted` allows and forbids."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], None]
RESTRICTED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "main", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
    "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "key", "secret": {"secretName": "key"}}],
}


def of_container(**context: Any) -> Change:
    return lambda pod: pod["containers"][0]["securityContext"].update(context)


def of_pod(**context: Any) -> Change:
    return lambda pod: pod["securityContext"].update(context)


def with_container(**fields: Any) -> Change:
    return lambda pod: pod["containers"][0].update(fields)


ALLOWED: list[Change] = [
    of_container(runAsNonRoot=True),
    of_container(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
    of_container(seccompProfile={"type": "Localhost", "localhostProfile": "a.json"}),
    of_pod(sysctls=[{"name": "net.ipv4.ping_group_range", "value": "0 1"}], runAsUser=1000),
    of_pod(appArmorProfile={"type": "RuntimeDefault"}, seLinuxOptions={"type": "container_t", "level": "s0"}),
]
"""Changes of RESTRICTED that the standard allows."""
FORBIDDEN: list[tuple[Change, str]] = [
    (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
    (lambda pod: pod.update(hostPID=True), "hostPID"),
    (lambda pod: pod.update(hostIPC=True), "hostIPC"),
    (lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume x of the type hostPath"),
    (lambda pod: pod["volumes"].append({"name": "x", "nfs": {"server": "a", "path": "/"}}), "volume x of the type nfs"),
    (lambda pod: pod.pop("securityContext"), "may run as root"),
    (of_pod(seccompProfile=None), "no seccomp profile"),
    (of_pod(seccompProfile={"type": "Unconfined"}), "seccompProfile to Unconfined"),
    (of_pod(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "sysctl kernel.msgmax"),
    (of_pod(runAsUser=0), "user 0"),
    (of_pod(appArmorProfile={"type": "Unconfined"}), "appArmorProfile"),
    (of_pod(seLinuxOptions={"user": "system_u"}), "SELinux"),
    (of_pod(windowsOptions={"hostProcess": True}), "process of its node"),
    (of_container(runAsNonRoot=False), "may run as root"),
    (of_container(runAsUser=0), "user 0"),
    (of_container(privileged=True), "privileged"),
    (of_container(allowPrivilegeEscalation=None), "allowPrivilegeEscalation"),
    (of_container(capabilities={}), "does not drop"),
    (of_container(capabilities={"drop": ["ALL"], "add": ["IPC_LOCK"]}), "adds the capabilities IPC_LOCK"),
    (of_container(seccompProfile={"type": "Unconfined"}), "seccompProfile to Unconfined"),
    (of_container(procMount="Unmasked"), "/proc"),
    (with_container(ports=[{"containerPort": 1, "hostPort": 1}]), "port of its node"),
    (with_container(livenessProbe={"httpGet": {"host": "other", "port": 80}}), "probe of another host"),
    (with_container(lifecycle={"preStop": {"tcpSocket": {"host": "other", "port": 80}}}), "probe of another host"),
    (lambda pod: pod.update(initContainers=[{"name": "init"}]), "allowPrivilegeEscalation"),
]
"""Changes that it forbids, with a part of the message."""


def changed(change: Change) -> dict[str, Any]:
    pod = copy.deepcopy(RESTRICTED)
    change(pod)
    return pod
