"""The report: one self-contained HTML page about a run.

::

    store, run -> collect -> RunStory -> views (overview, diagrams, mixtures, samples, curves, scores, answers)
               -> Jinja2 -> HTML

Jinja2 escapes all text from data; images are ``data:`` URIs and plots are inline SVG. The page's Content-Security-Policy
forbids all requests, so it opens the same way from a file, an artifact store or an e-mail.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mm1.errors import Mm1Error
from mm1.lineage.graph import describe
from mm1.lineage.records import TaskRecord
from mm1.lineage.text import duration
from mm1.manifests import Deployment, ExportedModel, GateDecision, ReportPage
from mm1.report import answers, curves, diagrams, mixtures, overview, samples, scores
from mm1.report.album import Album, Picture
from mm1.report.charts import source_slot
from mm1.report.collect import RunStory, collect
from mm1.report.config import ReportConfig
from mm1.report.widths import fit
from mm1.store.base import Store

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class ChatView:
    """A deployment, with the question that the served model answered."""

    digest: str
    deployment: Deployment
    picture: Picture | None
    exported: ExportedModel | None
    mark: str
    """Whether the answer is the expected one; empty if none is known."""


def render_run(
    store: Store, run: str, *, title: str = "", status: str = "", leave_out: str = "", config: ReportConfig | None = None
) -> tuple[str, ReportPage]:
    """Create the report of a run.

    Args:
        store: the store with the run's records; the page is written to it.
        run: the run's name.
        title: heading; the run's name by default.
        status: the run's status according to the engine (``Succeeded``, ``Failed``), for failures without a record.
        leave_out: a task to ignore (the report's own).
        config: limits of the page.

    Returns:
        The HTML and its manifest (the page is in the store, the manifest is not published yet).
    """
    story = collect(store, run, leave_out=leave_out)
    html = render(story, title=title or run, status=status, config=config or ReportConfig())
    parents = tuple(sorted(digest for digest, stored in story.manifests.items() if stored.producer and stored.manifest))
    return html, ReportPage(title=title or run, page=store.put_bytes(html.encode()), parents=parents)


def render(story: RunStory, *, title: str, status: str, config: ReportConfig) -> str:
    """Render the page of a collected run."""
    album = Album(config=config)
    trained = curves.stages(story, config)
    reports = scores.evaluations(story)
    versus = scores.comparison(story, reports)
    examples = {report.digest: answers.read_answers(story, report) for report in reports}
    sample_views = samples.source_samples(story, album, config)
    chats = [_chat(story, digest, deployment, album) for digest, deployment in _deployments(story)]
    views: dict[str, Any] = {
        "title": title,
        "status": status,
        "story": story,
        "show_tokens": config.show_tokens,
        "verdict": overview.verdict(story, status),
        "cards": overview.cards(story, trained, reports, versus),
        "failures": overview.failures(story),
        "started": overview.started(story),
        "bars": overview.timeline(story),
        "task_graph": diagrams.task_graph(story),
        "mixtures": mixtures.mixtures(story),
        "filters": mixtures.filters(story),
        "trained": trained,
        "reports": reports,
        "versus": versus,
        "clear": scores.CLEAR,
        "pairs": (
            answers.pairs(versus, examples[versus.base.digest], examples[versus.tuned.digest], album, config) if versus else []
        ),
        "chats": chats,
        "decisions": [(stored.digest, decision) for stored, decision in story.of(GateDecision)],
        "examples": [(report, answers.choose(report, examples[report.digest], album, config)) for report in reports],
        "samples": sample_views,
        "lead": "One packed sequence per source, as produced by the mixture.",
        "slots": {source.name: source_slot(source.name, [other.name for other in sample_views]) for source in sample_views},
        "lineage": diagrams.lineage_graph({digest: stored.manifest for digest, stored in story.manifests.items()}),
    }
    return environment().get_template("page.html.j2").render(views)


def environment(*folders: Path) -> Environment:
    """Create the Jinja2 environment with autoescaping and the page's filters.

    Args:
        folders: further folders of templates.
    """
    loader = FileSystemLoader([TEMPLATES, *folders])
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {
        "short": overview.short,
        "signed": overview.signed,
        "duration": duration,
        "describe": describe,
        "pretty": lambda value: json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str),
        "plain": plain,
        "where": where,
        "fit": fit,
        "words": lambda text: str(text).replace("_", " "),
    }
    return jinja


def where(record: TaskRecord) -> dict[str, Any]:
    """Describe where and how a task ran."""
    host = {("host" if name == "name" else name): value for name, value in record.host.items()}
    times = {"started": record.started, "ended": record.ended, "attempts": record.attempts}
    return {"step": record.step} | times | host | {"cache key": record.cache_key[:16], "code": record.code[:16]}


def plain(value: Any) -> str:
    """Format a value of a record on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def _deployments(story: RunStory) -> list[tuple[str, Deployment]]:
    return [(stored.digest, deployment) for stored, deployment in story.of(Deployment)]


def _chat(story: RunStory, digest: str, deployment: Deployment, album: Album) -> ChatView:
    picture = None
    image = str(deployment.sample.get("image") or "")
    ref = next((ref for name, ref in deployment.images.items() if image in (ref.sha256, name)), None)
    if ref is not None:
        try:
            picture = album.picture(story.manifests[digest].store.get_bytes(ref))
        except Mm1Error as error:
            log.warning("image of the chat question omitted from the report: %s", error)
            picture = Picture(note="image not in the store")
    exported = story.get(deployment.exported, ExportedModel) if deployment.exported else None
    return ChatView(digest=digest, deployment=deployment, picture=picture, exported=exported, mark=_mark(deployment))


def _mark(deployment: Deployment) -> str:
    expected, answer = (" ".join(str(deployment.sample.get(name) or "").lower().split()) for name in ("expected", "answer"))
    return "" if not expected else "right" if expected == answer else "wrong"
