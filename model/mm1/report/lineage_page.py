"""A page with only the lineage of manifests: ``mm1 lineage --html``."""

from __future__ import annotations

from collections.abc import Sequence

from mm1.lineage.graph import Lineage, describe
from mm1.report.diagrams import lineage_graph
from mm1.report.page import environment


def render_lineage(digests: Sequence[str], lineage: Lineage) -> str:
    """Render the page.

    Args:
        digests: the manifests of interest.
        lineage: these manifests and all their ancestors.
    """
    views = {
        "title": f"Lineage of {', '.join(digest[:12] for digest in digests)}",
        "lineage": lineage_graph(lineage),
        "manifests": [(digest, type(manifest).__name__, describe(manifest)) for digest, manifest in lineage.items()],
    }
    return environment().get_template("lineage_page.html.j2").render(views)
