"""Waits of a training run on a cluster, with the reason for each: the supervisor, its requests, and the program of a node.

The waits that a site may want to change are fields of :class:`~mm1_components.ranks.launcher.Launcher`; those of the trainer
are in its configuration (section ``train``), those of every client of the Kubernetes API in :mod:`mm1_components.kube.api`. All
values are seconds.
"""

from __future__ import annotations

# -- the Kubernetes API ---------------------------------------------------------------------------------------------------

LOG_READ_S = 60
"""Silence in the log stream of a pod; then the stream is opened again, because a lost connection looks the same."""
API_AWAY_AT_THE_END_S = 60.0
"""The same while a supervisor ends: its pod is killed after 120 s (SUPERVISOR_GRACE_S)."""

# -- the supervisor -------------------------------------------------------------------------------------------------------

POLL_S = 1.0
"""Between two looks at the JobSet."""
GONE_S = 90.0
"""A deleted JobSet still exists; the ranks save a checkpoint meanwhile. The supervisor's own pod is killed after 120 s."""
QUIET_S = 10.0
"""A suspended JobSet has no reason from Kueue; Kueue needs a moment to write one."""
LOG_AGAIN_S = 1.0
"""Until the log of a pod is opened again."""
LOG_REST_S = 10.0
"""For the last lines of a pod that has ended."""

# -- a node ---------------------------------------------------------------------------------------------------------------

RESOLVE_S = 300.0
"""The name of node 0 does not resolve: its pod may still be pending, or pulls an image of 10 GB."""
RENDEZVOUS_S = 600
"""Nodes have not met: the others may still be pending or pulling. Then the gang restarts, which gives its GPUs to runs that
fit, and counts towards the JobSet's `restarts`. With Kueue no part of a gang starts before all of it has quota."""
STOP_MARGIN_S = 15
"""Between SIGKILL for the ranks and SIGKILL for the pod, for the node's report."""
