"""API versions, labels and annotations of a training run's Kubernetes objects."""

from __future__ import annotations

JOBSET_GROUP = "jobset.x-k8s.io"
JOBSET = f"{JOBSET_GROUP}/v1alpha2"
KUEUE = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
"""Kueue's API versions, newest first."""
ARGO = "argoproj.io/v1alpha1"
BATCH = "batch/v1"
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason of a Job that failed because of its deadline."""

RUN_LABEL, TASK_LABEL, ROLE_LABEL = "mm1.dev/run", "mm1.dev/task", "mm1.dev/role"
RANK_ROLE, SUPERVISOR_ROLE = "rank", "supervisor"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
"""Label with the WorkloadPriorityClass by which Kueue orders and preempts."""
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
"""Label of Kueue's workloads with the uid of their JobSet."""
JOBSET_NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"
HOST_LABEL = "kubernetes.io/hostname"

ATTEMPT_ANNOTATION, MICRO_BATCH_ANNOTATION = "mm1.dev/attempt", "mm1.dev/micro-batch"
KEY_ANNOTATION, AVOID_ANNOTATION = "mm1.dev/key", "mm1.dev/avoid"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"

WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
NODE_NAME_ANNOTATION = "workflows.argoproj.io/node-name"
"""Of pods that Argo starts: the name of the node; that of the n-th retry ends with ``(n)``."""

MAIN_CONTAINER = "main"
