"""The report of a run as a page."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mm1.manifests import Checkpoint, EvalReport, RawData, ReportPage, load, publish
from mm1.report.collect import collect
from mm1.report.config import ReportConfig
from mm1.report.page import render, render_run
from mm1.store.base import Store, blob_key
from mm1.store.local import LocalStore
from tests.support.report_fixture import build_run

SECTIONS = ["tasks", "mixture", "samples", "training", "scores", "tuning", "answers", "served", "lineage", "provenance"]
VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&amp;"


class Page(HTMLParser):
    """Reads a page; complains about tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    build_run(store, "full-7", cached=("ingest",))
    html, _ = render_run(store, "full-7", title="A full run")
    return store, html


def test_page_has_every_section_and_is_valid(full: tuple[Store, str]) -> None:
    page = Page(full[1])
    assert [value for value in page.attributes("id") if value in SECTIONS] == SECTIONS
    links = {value.removeprefix("#") for value in page.attributes("href") if value.startswith("#")}
    ids = page.attributes("id")
    assert len(ids) == len(set(ids)), "an id stands twice, so one figure would draw with another's parts"
    assert links <= set(ids)
    assert {value.removeprefix("#") for value in page.attributes("xlink:href")} <= set(ids)


def test_page_says_what_the_run_was(full: tuple[Store, str]) -> None:
    text = Page(full[1]).text
    for words in (
        "A full run",
        "gate passed",
        "ingest ↺ cached",
        "wrong image 0.34",  # the control beside the caption score
        "0.36 → 0.98",  # what examples bring
        "caption too short",
        "mm1_tiny_sft",
        "+0.75 (+25.9 SE)",  # base against tuned
        "content f1 0.93, 0 shots",
        "max logit difference",
        "AMD EPYC 7B13",
        "gradient norm",
        "router entropy, 1 = balanced",
        "memory of rank 0, GB",
        "trace.json.gz: file://",
    ):
        assert words in text, words


def test_page_loads_nothing_and_every_image_decodes(full: tuple[Store, str]) -> None:
    html = full[1]
    page = Page(html)
    assert len(html.encode()) < 3_000_000
    assert "default-src 'none'" in html
    assert not re.search(r"https?://", html)
    assert not re.search(r"url\((?!#)|@import", html)
    assert "fill: #ffffff" not in html, "a figure has a ground of its own, which glares on a dark page"
    images = page.attributes("src")
    assert len(images) > 40
    for uri in images:
        head, _, data = uri.partition(";base64,")
        assert head.startswith("data:image/")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()


def test_text_from_data_is_escaped(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    build_run(store, "hostile", hostile=HOSTILE)
    page = Page(render_run(store, "hostile", title=HOSTILE, status=HOSTILE)[0])
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "link", "base", "form"})
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert all(src.startswith("data:image/") for src in page.attributes("src"))
    assert page.text.count("<script>alert('x')</script>") > 10


def test_failed_run_says_what_failed_and_why(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    build_run(store, "broken", fail_at="pretrain")
    page = Page(render_run(store, "broken", status="Failed")[0])
    assert "✗ pretrain failed" in page.text
    assert "diverged, exit code 82, 2 attempts" in page.text
    assert "loss is not finite at step 212" in page.text
    assert "lower learning rate" in page.text
    assert "scores" not in page.attributes("id")


def test_failure_without_a_record_is_told_by_the_engine(tmp_path: Path) -> None:
    text = Page(render_run(LocalStore(tmp_path), "nothing", status="Error")[0]).text
    assert "no records of a run with this name" in text
    assert "Status according to the engine: Error" in text


def test_killed_task_counts_as_not_ended(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write_json(
        "runs/killed/sft.json", {"task": "sft", "step": "sft", "state": "running", "started": "2026-11-24T13:05:00Z"}
    )
    text = Page(render_run(store, "killed")[0]).text
    assert "sft did not finish" in text
    assert "run the same command again to resume" in text


def test_own_task_is_left_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write_json("runs/r/report.json", {"task": "report", "step": "report", "state": "running"})
    assert "did not finish" not in Page(render_run(store, "r", leave_out="report")[0]).text


def test_what_is_lost_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    build_run(store, "r")
    story = collect(store, "r")
    store.write("runs/r/gate.json", b"{")
    evaluated = next(stored.digest for stored in story.manifests.values() if stored.producer == "evaluate-sft")
    store.delete(f"manifests/{evaluated}.json")
    base = next(report for stored, report in story.of(EvalReport) if stored.producer == "evaluate-base")
    store.delete(blob_key(base.examples))
    store.write(blob_key(next(model.history for _, model in story.of(Checkpoint) if model.history)), b"no parquet")
    raw = next(raw for _, raw in story.of(RawData))
    store.delete(blob_key(raw.sources["captions"].shards[0].tar))
    page = Page(render_run(store, "r")[0])
    for words in (
        "run record runs/r/gate.json cannot be read",
        f"manifest {evaluated[:12]} cannot be read",
        "examples of evaluation",
        "The history cannot be read",
        "skipped, damaged: shard",
        "this is",  # samples of the source that is whole
        "vague accuracy",  # scores of the report that is whole
    ):
        assert words in page.text, words
    assert {"tasks", "mixture", "samples", "training", "scores", "lineage"} <= set(page.attributes("id"))


def test_inputs_from_another_store_are_followed(tmp_path: Path) -> None:
    far, near = LocalStore(tmp_path / "far"), LocalStore(tmp_path / "near")
    build_run(far, "first")
    record = far.read_json("runs/first/sft.json")
    checkpoint = record["outputs"]["manifest"]
    near.write_json(
        "runs/second/evaluate.json", record | {"task": "evaluate", "inputs": {"checkpoint": checkpoint}, "outputs": {}}
    )
    story = collect(near, "second")
    kinds = {type(stored.manifest).__name__ for stored in story.manifests.values()}
    assert kinds == {"Checkpoint", "DataMix", "RawData"}
    assert "Instruction tuning" in Page(render_run(near, "second")[0]).text


def test_edges_follow_manifests_and_decisions(full: tuple[Store, str]) -> None:
    edges = {(edge.source, edge.target): edge.by_value for edge in collect(full[0], "full-7").edges}
    assert edges["text-base", "pretrain"] is False
    assert edges["evaluate-base", "gate"] is False, "one text holds several addresses"
    assert edges["gate", "deploy"] is True, "the decision is passed as a value"
    assert ("pretrain", "text-base") not in edges
    assert ("ingest", "pretrain") not in edges


def test_budget_of_image_bytes_is_kept(full: tuple[Store, str]) -> None:
    html = render(collect(full[0], "full-7"), title="t", status="", config=ReportConfig(image_budget_bytes=20_000))
    uris = Page(html).attributes("src")
    assert 0 < sum(len(uri) for uri in uris) * 3 / 4 <= 20_000 + 100 * len(uris)
    assert "omitted to keep the page small" in html


def test_manifest_names_what_the_page_is_about(full: tuple[Store, str]) -> None:
    store, html = full
    again, manifest = render_run(store, "full-7", title="A full run")
    assert again == html, "the same run gives the same page"
    assert store.get_bytes(manifest.page).decode() == html
    assert len(load(publish(store, manifest), ReportPage).parents) == 11
