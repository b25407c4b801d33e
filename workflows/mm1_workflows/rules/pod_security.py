"""The Pod Security Standard `restricted`, with what it takes over from `baseline`: the violations of a pod.

Follows https://kubernetes.io/docs/concepts/security/pod-security-standards/ for pods on Linux. Kubernetes checks the same in a
namespace that enforces the standard; this finds violations before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]
VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
PROFILES = ("RuntimeDefault", "Localhost")
CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
"""Capabilities that a container may add."""
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(pod: Fields) -> Iterator[str]:
    """Yield what a pod violates; nothing if it is restricted.

    Args:
        pod: its specification, as in ``spec`` of a Pod.
    """
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"sets {name}"
    for volume in pod.get("volumes") or []:
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"has the volume {volume.get('name')} of the type {', '.join(sorted(kinds))}"
    context: Fields = pod.get("securityContext") or {}
    yield from _violations_of_context(context)
    for sysctl in context.get("sysctls") or []:
        if sysctl.get("name") not in SYSCTLS:
            yield f"sets the sysctl {sysctl.get('name')}"
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind) or []:
            yield from _violations_of_container(container, context)


def _violations_of_container(container: Fields, pod: Fields) -> Iterator[str]:
    context: Fields = container.get("securityContext") or {}
    capabilities: Fields = context.get("capabilities") or {}
    yield from _violations_of_context(context)
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in (capabilities.get("drop") or []):
        yield "does not drop all capabilities"
    if added := set(capabilities.get("add") or []) - CAPABILITIES:
        yield f"adds the capabilities {', '.join(sorted(added))}"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if not (context.get("seccompProfile") or pod.get("seccompProfile")):
        yield "has no seccomp profile"
    if context.get("privileged"):
        yield "is privileged"
    if context.get("procMount", "Default") != "Default":
        yield f"mounts /proc as {context['procMount']}"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "uses a port of its node"
    handlers = [container.get(name) or {} for name in _HANDLERS] + list((container.get("lifecycle") or {}).values())
    if any((handler.get(kind) or {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
        yield "has a probe of another host"


def _violations_of_context(context: Fields) -> Iterator[str]:
    """Yield the violations of the fields that pods and containers share."""
    if context.get("runAsUser") == 0:
        yield "runs as user 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "is a process of its node"
    for name in ("seccompProfile", "appArmorProfile"):
        if (profile := context.get(name)) and profile.get("type") not in PROFILES:
            yield f"sets {name} to {profile.get('type')}"
    selinux: Fields = context.get("seLinuxOptions") or {}
    if selinux.get("user") or selinux.get("role") or selinux.get("type", "") not in SELINUX_TYPES:
        yield "changes its SELinux user, role or type"
