"""Parts of the report: smoothing, labels, pictures, tables."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mm1.data.load.open_mix import open_mix
from mm1.data.load.statistics import MixStatistics, Tally
from mm1.lineage.text import duration
from mm1.manifests import DataMix, Score, publish
from mm1.report.album import Album
from mm1.report.charts import spread_out
from mm1.report.collect import collect
from mm1.report.config import ReportConfig
from mm1.report.curves import history_columns, stages
from mm1.report.measures import measured_rows, measures, smoothed
from mm1.report.mixtures import MEANINGS, mixtures
from mm1.report.overview import short, signed
from mm1.report.page import render
from mm1.report.samples import sequence_of, source_samples
from mm1.report.scores import comparison, distance, evaluations
from mm1.report.times import times
from mm1.store.base import Store
from mm1.store.local import LocalStore
from mm1_components.report import STEP
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.mixtures import build_mix
from tests.support.report_fixture import build_run
from tests.support.stored_runs import record

values = st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=60)


@given(values, st.floats(0.5, 8))
def test_smoothing_stays_within_the_values_and_bridges_gaps(points: list[float | None], width: float) -> None:
    raw = np.array([np.nan if point is None else point for point in points])
    smooth = smoothed(raw, width)
    known = raw[np.isfinite(raw)]
    assert smooth.shape == raw.shape
    if known.size:
        assert np.nanmin(smooth) >= known.min() - 1e-9 and np.nanmax(smooth) <= known.max() + 1e-9
        assert np.isfinite(smooth[np.isfinite(raw)]).all()
    else:
        assert np.isnan(smooth).all()


def test_smoothing_does_not_lag() -> None:
    line = np.arange(200.0)
    assert np.allclose(smoothed(line, 4.0)[20:-20], line[20:-20])


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 10), min_size=1, max_size=6), st.floats(0.01, 2))
def test_labels_keep_their_order_and_distance(wishes: dict[str, float], least: float) -> None:
    placed = spread_out(wishes, least)
    order = sorted(placed, key=lambda name: placed[name])
    assert all(placed[b] - placed[a] >= least - 1e-9 for a, b in pairwise(order))
    assert all(wishes[a] <= wishes[b] for a, b in pairwise(order))


def test_history_columns_are_told_apart() -> None:
    columns = {"step": [1, 2], "lr": [0.1, 0.2], "loss": [3.0, 2.0], "loss_text": [1.0, None], "loss_balance": [1.0, 1.0]}
    steps, losses, rate = history_columns(pa.table(columns))
    assert steps.tolist() == [1, 2] and rate is not None
    assert list(losses) == ["text"]
    assert list(history_columns(pa.table({"step": [1], "loss": [2.0]}))[1]) == ["loss"]
    with pytest.raises(KeyError):
        history_columns(pa.table({"loss": [1.0]}))


def test_large_pictures_shrink_and_broken_ones_are_named() -> None:
    album = Album(config=ReportConfig(image_px=64))
    buffer = io.BytesIO()
    Image.new("RGB", (640, 320), "red").save(buffer, "PNG")
    large = album.picture(buffer.getvalue())
    assert (large.width, large.height) == (640, 320) and len(large.uri) < 2000
    broken = album.picture(buffer.getvalue()[:40])
    assert not broken.uri and broken.note == "unreadable image"
    assert album.picture(b"GIF").note == "unreadable image"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    build_run(store, "r", fail_at="gate")
    return store


@settings(max_examples=8, deadline=None)
@given(length=st.integers(14, 70))
def test_shown_stretches_are_those_of_the_plan(store: Store, length: int) -> None:
    """Documents longer than a sequence are cut; the page shows exactly the part that is in the sequence."""
    mix = next(mix for _, mix in collect(store, "r").of(DataMix) if len(mix.sources) == 3)
    short_mix = mix.model_copy(update={"sequence_length": length, "max_images": 3})
    record = store.read_json("runs/r/mix.json")
    store.write_json("runs/cut/mix.json", record | {"outputs": {"manifest": publish(store, short_mix)}})
    shown = {item.name: item for item in source_samples(collect(store, "cut"), Album(config=ReportConfig()), ReportConfig())}
    for name in ("captions", "interleaved", "text"):
        item = shown[name]
        assert not item.note
        assert 0 < item.tokens <= length and item.num_images <= 3
        assert sum(bit.picture is not None for document in item.documents for bit in document.bits) == item.num_images
        assert sum(width for width, _, _ in item.strip) == pytest.approx(100 * item.tokens / length, abs=0.1)
        for _, spans, source in item.strip:
            assert source == name
            assert sum(span.percent for span in spans) == pytest.approx(100, abs=0.1)
    page = shown["interleaved"].documents[0]
    assert not (page.begins and page.ends), "eight images do not fit into a sequence of three"


def test_documents_of_a_shared_sequence_name_their_source(store: Store, tmp_path: Path) -> None:
    raw, mix = build_mix(store, tmp_path, weights={"captions": 0.5, "text": 0.5}, sequence_length=256, max_images=16)
    opened = open_mix(store, mix.model_copy(update={"one_source": False}), raw)
    pieces = next(planned for planned in (opened.plan[i].spans for i in range(50)) if len({p.source for p in planned}) > 1)
    item = sequence_of(opened, pieces, "all", Album(config=ReportConfig()), ReportConfig(), "mix")
    assert {source for _, _, source in item.strip} == {"captions", "text"}
    assert [document.source for document in item.documents] == [source for _, _, source in item.strip][: len(item.documents)]


def score(value: float, stderr: float) -> Score:
    return Score(task="t", split="test", metric="accuracy", shots=0, value=value, stderr=stderr, num_items=10)


def test_distance_is_in_standard_errors_of_the_difference() -> None:
    assert distance(score(0.5, 0.03), score(0.4, 0.04)) == pytest.approx(2.0)
    assert distance(score(0.5, 0.0), score(0.5, 0.0)) == 0
    assert distance(score(0.4, 0.0), score(0.5, 0.0)) == -np.inf


def test_base_is_the_model_that_was_tuned(store: Store) -> None:
    story = collect(store, "r")
    reports = evaluations(story)
    assert [report.task for report in reports] == ["evaluate-base", "evaluate-sft"]
    versus = comparison(story, reports)
    assert versus is not None and versus.changes[0].after.task == "instruct"
    assert comparison(story, reports[1:]) is None, "nothing to compare with"
    held_out = [(gap.task, gap.shots) for gap in reports[0].gaps]
    assert held_out == [("captions", 0), ("vqa", 0), ("vqa", 4)]
    assert not [row for row in reports[0].rows if row.task.endswith("_heldout")], "held-out combinations stand apart"


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, "0.4 s"), (59.6, "1 min 00 s"), (400, "6 min 40 s"), (11_100, "3 h 05 min"), (None, "–")]
)
def test_durations_read_like_a_person_says_them(value: float | None, text: str) -> None:
    assert duration(value) == text


def test_numbers_read_like_a_person_says_them() -> None:
    assert [short(value) for value in (12, 502_656, 1_430_000, 3.1e9)] == ["12", "503k", "1.43M", "3.1B"]
    assert signed(-0.05) == "−0.05" and signed(2, 1) == "+2.0"


def test_step_leaves_page_and_manifest(store: Store, tmp_path: Path) -> None:
    page = tmp_path / "out" / "report.html"
    argv = ["--store", store.uri, "--run", "r", "--task", "report", "--status", "Failed"]
    argv += ["--artifact.report.html", str(page), "--out.manifest", str(tmp_path / "out" / "manifest")]
    assert execute(STEP, build_parser(STEP).parse_args(argv)) == 0
    html = page.read_text()
    assert "gate failed" in html and "report did not finish" not in html
    record = store.read_json("runs/r/report.json")
    assert record["cache_hit"] is False and record["facts"]["page_bytes"] == len(html.encode())
    assert (tmp_path / "out" / "manifest").read_text() == record["outputs"]["manifest"]


def test_validation_losses_are_points_and_figures(store: Store) -> None:
    story = collect(store, "r")
    for stage in stages(story, ReportConfig()):
        assert set(stage.validation) == set(stage.last), stage.title
        assert stage.figure is not None and stage.figure.count("<use") >= 5 * len(stage.validation)
    page = render(story, title="", status="", config=ReportConfig())
    assert "held out captions" in page and "points are held-out samples" in page


def test_the_time_of_a_training_is_a_bar_with_what_delayed_it(store: Store) -> None:
    page = render(collect(store, "r"), title="", status="", config=ReportConfig())
    for text in ("backward <b>50.0 %</b>", "goodput <b>91.4 %</b>", "start-up <b>8.5 s</b>", "steps done again <b>1.5 s</b>"):
        assert text in page, text
    assert page.count("rank 3, 14% slower than the median rank") == 1 and "between starts" not in page
    assert times({}) is None and times({"phases_s": {}}) is None, "records of earlier versions"


def test_measures_are_drawn_from_history_and_rows(tmp_path: Path) -> None:
    steps = np.arange(1.0, 41.0)
    history = {"step": steps, "grad_norm": steps, "tokens": steps * 0 + 90, "positions": steps * 0 + 100}
    rows = [{"step": step, "tokens_per_s": 9e3, "memory_bytes": 8e8, "mfu": 0.3} for step in range(1, 41)]
    figure = measures(history, rows, ReportConfig(), "x")
    for title in ("gradient norm", "padding, %", "tokens/s", "MFU, %", "memory of rank 0, GB"):
        assert title in figure
    assert "router" not in figure
    moe = measures({"step": steps, "router/dropped": steps * 0, "router/entropy": steps / 40}, [], ReportConfig(), "x")
    assert "dropped by routers" in moe and "router entropy" in moe and "tokens/s" not in moe
    clip = measures({"step": steps, "retrieval": steps / 40, "retrieval/captions": steps / 80}, [], ReportConfig(), "x")
    assert "captions found in the batch, %" in clip and "held-out captions found, %" in clip
    assert measures({"step": steps}, [{"step": 1, "tokens_per_s": 1.0}], ReportConfig(), "x") is None, "nothing to draw"


def test_rows_are_found_for_tasks_that_ran_and_cached_ones_and_faults_are_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    build_run(store, "r", cached=("pretrain",))
    story = collect(store, "r")
    assert [len(measured_rows(story, task)) for task in ("text-base", "pretrain", "sft", "gate")] == [600, 700, 150, 0]
    assert story.problems == []
    (ref,) = (record.artifacts["metrics.jsonl"] for record in story.tasks if record.task == "sft")
    store.write(f"blobs/{ref['sha256'][:2]}/{ref['sha256']}", b"x" * ref["num_bytes"])
    assert measured_rows(story, "sft") == []
    assert "metrics.jsonl of task sft cannot be read" in story.problems[0]


def test_every_statistic_of_a_mixture_is_explained() -> None:
    tally = Tally(sequences=1, tokens=8, labels=8, images=1, documents=1)
    figures = MixStatistics(8, total=tally, by_source={"text": tally}).figures() | {"text/long_documents": 0.0}
    assert {name.rpartition("/")[2] for name in figures} == set(MEANINGS)


def test_the_statistics_of_sources_are_rows_that_fit_a_narrow_screen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    _, mix = build_mix(store, tmp_path, weights={"captions": 0.5, "text": 0.5})
    figures = {f"{source.name}/{name}": 0.5 for source in mix.sources for name in ("documents_begun", "long_documents")}
    record(store, "r", "mix", mix.model_copy(update={"packing": {"fill": 0.9} | figures}))
    story = collect(store, "r")
    (view,) = mixtures(story)
    assert view.by_source["docs begun/seq."] and view.by_source["long docs"]
    html = render(story, title="r", status="", config=ReportConfig())
    table = html[html.index('<table class="facts">') :]
    table = table[: table.index("</table>")]
    assert [name for name in view.by_source if f">{name}</th>" not in table] == []
    assert all(f'title="{meaning}"' in table for meaning in view.by_source.values())
    assert table.count("<td") == 1 + table.count('<th scope="row"') * len(mix.sources)
