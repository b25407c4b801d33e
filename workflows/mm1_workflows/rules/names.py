"""Names as Kubernetes takes them, judged before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mm1_workflows.argo.document import Document, spec_of
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
MAX_LABEL = 63
"""Characters of a label's value: pods carry the name of their workflow in a label."""
MAX_CRON_NAME = 52
"""The controller adds a dash and the time of the run, ten digits, to the name of a CronWorkflow."""
RANDOM_SUFFIX = 5
"""Characters that the API server adds to `generateName`."""
RULE = "lower-case letters, digits and '-', and begin and end with a letter or digit"


def valid_names(document: Document, profile: Profile) -> Iterator[Finding]:
    """P020."""
    for where, complaint in name_complaints(document):
        yield Finding("P020", where, complaint)


def name_complaints(document: Document) -> Iterator[tuple[str, str]]:
    """What Kubernetes or Argo would refuse of the names in a workflow: where and complaint."""
    metadata = document.get("metadata") or {}
    name, stem = metadata.get("name"), metadata.get("generateName")
    if name is not None:
        limit = MAX_CRON_NAME if document.get("kind") == "CronWorkflow" else MAX_LABEL
        yield from (("metadata.name", complaint) for complaint in _object_name(str(name), limit))
    elif stem is not None:
        # the suffix makes a valid end of any stem
        for complaint in _object_name(f"{stem}x", MAX_LABEL - RANDOM_SUFFIX + 1):
            yield "metadata.generateName", complaint.replace(f"'{stem}x'", repr(stem))
    for body in spec_of(document).get("templates") or []:
        own = str(body.get("name", ""))
        if not DNS_LABEL.fullmatch(own):
            yield f"template {own}", f"pods are named after templates, so the name must consist of {RULE}"
        elif len(own) > MAX_LABEL:
            yield f"template {own}", f"the name has {len(own)} characters, at most {MAX_LABEL} are allowed"


def _object_name(name: str, limit: int) -> Iterator[str]:
    if not DNS_SUBDOMAIN.fullmatch(name):
        yield f"{name!r} is no DNS-1123 name: it must consist of {RULE}"
    if len(name) > limit:
        yield f"{name!r} has {len(name)} characters, at most {limit} are allowed here"
