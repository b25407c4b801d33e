"""The step study_report: manifest, studies.json, page, lessons."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest

from mm1.errors import ConfigurationError
from mm1.lineage.records import read_run
from mm1.manifests import StudyReport, load
from mm1.store.open import find_store
from mm1.studies import figures
from mm1.studies.config import Score
from mm1.studies.curves import LevelScore
from mm1.studies.figures import color_of, marker_of
from mm1.studies.lessons import command, lessons_markdown
from mm1.studies.lessons_file import Lessons, read_lessons
from mm1.studies.results import Results, ScoreTable
from mm1_components.study_report import check_numbers, parse_addresses
from mm1_workflows import cli
from tests.unit.studies.conftest import HOSTILE

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def results(reported: Path) -> Results:
    return Results.model_validate_json((reported / "studies.json").read_bytes())


def test_the_manifest_has_the_results_the_page_and_the_failed_cells(reported):
    record = read_run(find_store(str(reported / "store")), "letters").tasks["study_report"]
    report = load(record.manifest, StudyReport)
    store = find_store(str(reported / "store"))
    assert store.get_bytes(report.results) == (reported / "studies.json").read_bytes()
    assert store.get_bytes(report.page) == (reported / "report.html").read_bytes()
    assert report.failed == ("letters-C-1",)
    assert record.outputs["num_shown"] == 2
    assert record.outputs["num_claims"] == 3


def test_levels_keep_the_order_of_the_file(results):
    letters = results.studies[0]
    assert list(letters.levels) == ["B", "A", "C"]
    assert list(letters.scores[0].levels) == ["B", "A", "C"]


def test_scores_have_errors_and_the_value_of_each_seed(results):
    scores = results.studies[0].scores[0].levels
    assert scores["B"].mean == pytest.approx(0.8, abs=0.02)
    assert 0 < scores["B"].stderr < 0.1
    assert list(scores["B"].by_seed) == [0, 1, 2]
    assert list(scores["C"].by_seed) == [0, 2]  # shown, but not judged
    assert [verdict.outcome for verdict in results.verdicts] == ["shown", "incomplete", "shown"]


def test_scores_by_shots_and_losses_by_step_are_averaged_over_seeds(results):
    letters, losses = results.studies
    (panel,) = letters.shots
    assert (panel.task, list(panel.levels["B"])) == ("vague", [4, 8])
    curve = losses.curves["captions"]["A"]
    assert curve.steps[0] == 1
    assert curve.steps[-1] == 200
    assert all(low <= mean <= high for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True))
    assert curve.mean[-1] == pytest.approx(0.5, abs=0.05)


def test_cost_is_from_checkpoints_and_run_records(results):
    cost = results.studies[0].costs["A"]
    assert (cost.steps, cost.tokens, cost.seconds, cost.flops) == (200, 396_800, 61.0, None)


def test_items_are_those_that_levels_answered_differently(results):
    items = results.studies[0].items
    assert items
    assert all(item.better_value != item.than_value for item in items)
    assert all(item.prompt.count("<image>") == len(item.images) for item in items)


def test_the_page_is_self_contained_and_escapes_text(reported):
    html = (reported / "report.html").read_text()
    assert HOSTILE not in html
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert html.count("data:image/") >= 4
    for text in (
        "B is better than A.",
        "incomplete",
        "letters-C-1: diverged: loss is not finite",
        "62.2",
        "1 min 01 s",
        "Written before the run",
    ):
        assert text in html


def test_the_page_is_well_formed(reported):
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.ids = [], []

        def handle_starttag(self, tag, attributes):
            self.ids += [value for name, value in attributes if name == "id"]
            if tag not in ("meta", "img", "br", "path", "use", "rect", "line", "circle"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            if tag not in ("path", "use", "rect", "line", "circle"):
                assert self.open.pop() == tag

    tags = Tags()
    tags.feed((reported / "report.html").read_text())
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))


def test_the_summary_names_each_verdict_and_its_command(reported):
    summary = (reported / "summary.md").read_text()
    assert "2 shown, 1 incomplete." in summary
    assert "| B is better than A. | 3.2 | +0.594" in summary
    assert "`make ablate STUDY=letters.yaml`" in summary, "a study of one's own is a file"


def test_twenty_levels_can_be_told_apart():
    levels = [f"level {number}" for number in range(20)]
    assert len({(color_of(level, levels), marker_of(level, levels)) for level in levels}) == 20


@pytest.mark.parametrize(("number", "length"), [(1, 80), (3, 30), (8, 9), (20, 80)])
def test_labels_of_levels_stay_in_the_figure(number, length):
    levels = {
        f"{index:02} {'experts of equal size ' * 4}"[:length]: LevelScore(mean=0.5, stderr=0.1, by_seed={0: 0.5})
        for index in range(number)
    }
    drawn = []
    with mock.patch.object(figures, "inline_svg", lambda figure, title: drawn.append(figure)):
        figures.score_figure(ScoreTable(name="s", score=Score(mean=("vqa/0/accuracy",)), levels=levels), "x")
    (figure,) = drawn
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert min(box.y0 for box in boxes) >= -2 and max(box.x1 for box in boxes) <= figure.bbox.width + 2
    assert all(left.x0 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("text", ["", "{}", '"a"', "[1]", "a b"])
def test_lists_that_are_not_lists_are_refused(text):
    with pytest.raises(ConfigurationError, match="trained: expected a JSON list of addresses"):
        parse_addresses("trained", text)


def test_lists_must_have_an_address_for_each_cell():
    with pytest.raises(ConfigurationError, match="reports: expected 2 addresses, one for each cell of the plan, got 1"):
        check_numbers(2, ["a", ""], ["a"])


def test_lessons_are_printed_and_written(reported, tmp_path, capsys):
    assert cli.main(["lessons", "letters", "--store", str(reported / "store"), "--write", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "B is better than A." in printed
    assert "no result of letters-C-1: diverged: loss is not finite" in printed
    text = (tmp_path / "lessons.md").read_text()
    assert re.search(r"- Run `letters`, 20\d\d-\d\d-\d\d: 15 trainings on .* Studies taken from it: letters, losses\.", text)
    assert "| letter | few-shot | paper: 8 shots |" in text
    assert "Limits: Small \\| models." in text
    assert "<script>" not in text
    assert lessons_markdown(read_lessons(tmp_path / "lessons.json")) == text
    assert not any(study.curves for study in read_lessons(tmp_path / "lessons.json").studies)


def test_a_study_of_several_runs_is_taken_from_the_last_one(reported, tmp_path, capsys):
    assert cli.main(["lessons", "letters", "--store", str(reported / "store"), "--write", str(tmp_path)]) == 0
    (run,) = read_lessons(tmp_path / "lessons.json").runs
    study = run.results.studies[0]
    other = study.model_copy(update={"name": "other", "failed": ("other-1",)})
    earlier = run.results.model_copy(update={"studies": (study, other), "failed": {"letters-C-1": "early", "other-1": ""}})
    provenance = run.provenance.model_copy(update={"run": "earlier"})
    before = Lessons(runs=(run.model_copy(update={"results": earlier, "provenance": provenance}),))
    (tmp_path / "before.json").write_text(before.json_text())
    arguments = [str(tmp_path / "before.json"), "letters", "--store", str(reported / "store"), "--write", str(tmp_path)]
    assert cli.main(["lessons", *arguments]) == 0
    after = read_lessons(tmp_path / "lessons.json")
    assert [(part.provenance.run, [each.name for each in part.results.studies]) for part in after.runs] == [
        ("earlier", ["other"]),
        ("letters", ["letters", "losses"]),
    ]
    assert set(after.failed) == {"other-1", "letters-C-1"}
    assert after.failed["letters-C-1"].startswith("diverged")


def test_the_command_of_a_study_has_its_seeds(results):
    own = results.studies[0].model_copy(update={"name": "shots"})
    assert command(own.model_copy(update={"seeds": (0, 1, 2)})) == "make ablate STUDY=shots"
    assert command(own.model_copy(update={"seeds": (3, 4)})) == "make ablate STUDY=shots PARAMS=\"-p seeds='3 4'\""


def test_a_run_without_studies_has_no_lessons(reported, capsys):
    assert cli.main(["lessons", "nothing", "--store", str(reported / "store")]) == 80
    assert "has no run 'nothing'" in capsys.readouterr().err


def test_a_damaged_file_of_lessons_is_refused(tmp_path, capsys):
    (tmp_path / "lessons.json").write_text("{}")
    assert cli.main(["lessons", str(tmp_path / "lessons.json")]) == 81
    assert "mm1 lessons RUN --write" in capsys.readouterr().err


@pytest.mark.skipif(not (DOCS / "lessons.json").is_file(), reason="no run was committed")
def test_the_committed_lessons_are_those_of_the_committed_results():
    assert (DOCS / "lessons.md").read_text() == lessons_markdown(read_lessons(DOCS / "lessons.json")), (
        "run `mm1 lessons docs/lessons.json --write docs`"
    )
