"""Pages of the documentation that messages point to."""

from __future__ import annotations

from pathlib import Path

FAILURES = "docs/how-to/failures.md"
"""Page about each outcome class."""
KUBEFLOW = "docs/how-to/kubeflow.md"
PLAN = "docs/reference/plan.md"
TITLES = {FAILURES: "When a run fails", KUBEFLOW: "Run on Kubeflow Pipelines", PLAN: "Planning a run"}
CHECKOUT = Path(__file__).parents[3]


def page(path: str, section: str = "") -> str:
    """Return the file of a page, or its title if MM1 is installed from a wheel, which does not contain the documentation.

    Args:
        path: one of :data:`TITLES`.
        section: a heading of the page.
    """
    anchor = f"#{section.replace(' ', '-')}" if section else ""
    if Path(path).is_file():
        return path + anchor
    if (CHECKOUT / path).is_file():
        return f"{CHECKOUT / path}{anchor}"
    return f"see {TITLES[path]!r}{f', {section!r},' if section else ''} in the documentation of MM1"
