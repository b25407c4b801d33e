"""Reading a workflow's graph from a document, after a check that all engines support it."""

from __future__ import annotations

from mm1_workflows.argo.document import Document, name_of
from mm1_workflows.argo.graph import Graph, graph_of
from mm1_workflows.rules import subset
from mm1_workflows.rules.finding import PolicyError


def read_workflow(document: Document) -> Graph:
    """Return the graph of a built workflow.

    Args:
        document: the Argo object as plain data (``Workflow.to_dict()``, or a YAML file).

    Raises:
        ConfigurationError: it is not a well-formed Argo object.
        PolicyError: it is outside the subset that all engines support.
    """
    findings = subset.check(document)
    if findings:
        raise PolicyError(name_of(document), findings)
    return graph_of(document)
