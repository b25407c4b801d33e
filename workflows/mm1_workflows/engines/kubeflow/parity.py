"""Comparison of a Kubeflow pipeline with the Argo workflow that it was compiled from, using two independent readers."""

from __future__ import annotations

from mm1_workflows.argo.document import Document
from mm1_workflows.engines.kubeflow import read_argo, read_ir
from mm1_workflows.engines.kubeflow.facts import differences as _differences


def differences(document: Document, ir: str) -> list[str]:
    """Return the differences between an Argo object and a compiled pipeline, with Argo's side first.

    Declared losses (:mod:`mm1_workflows.engines.kubeflow.losses`) do not count as differences.
    """
    return _differences(read_argo.read(document), read_ir.read(ir))
