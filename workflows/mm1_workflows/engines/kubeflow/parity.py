"""Whether a Kubeflow pipeline says the same as the Argo workflow that it was made from: two readers, one comparison."""

from __future__ import annotations

from mm1_workflows.argo.document import Document
from mm1_workflows.engines.kubeflow import read_argo, read_ir
from mm1_workflows.engines.kubeflow.facts import differences as _differences


def differences(document: Document, ir: str) -> list[str]:
    """What differs between an Argo object and a compiled pipeline, Argo's side first; empty when nothing does.

    Declared losses (:mod:`mm1_workflows.engines.kubeflow.losses`) are no difference.
    """
    return _differences(read_argo.read(document), read_ir.read(ir))
