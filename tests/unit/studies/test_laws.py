"""The analyses of laws, from published cells with a known truth, through the step study_report."""

import json
import math

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.manifests import StudyPlan, load
from mm1.store.local import LocalStore
from mm1.studies.analyses import analyse
from mm1.studies.cells import read_cells, study_data
from mm1.studies.config import Study
from mm1.studies.fit import INTERCEPT, SLOPE, LawResult
from mm1.studies.ladder import LadderResult
from mm1.studies.sizes import rate_of, size_of
from tests.support.trained_cells import publish_studies

SHAPE = "model.decoder.hidden_size={0} model.decoder.ffn_size={1} model.decoder.num_heads=1 model.decoder.num_kv_heads=1"
WIDTHS = (16, 32, 48, 64, 96, 128)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def shape(width):
    return {"text_base.overrides": SHAPE.format(width, 2 * width)}


def content(analysis, levels, **more):
    return {
        "title": "A law",
        "paper": {"section": "3.3", "says": "It is a law."},
        "analysis": analysis,
        "factor": "size",
        "levels": levels,
        "scores": {"loss": {"mean": ["loss/captions"], "unit": "nats"}},
    } | more


def section_of(store, study, truth):
    published = publish_studies(store, {"law": study}, truth)
    plan = load(published.plan, StudyPlan)
    (data,) = study_data(plan, "0" * 64, read_cells(plan, published.trained, published.reports))
    section = analyse(data)
    json.dumps(section.results)
    return section


def rates(factors):
    """Levels on a grid of rates around the paper's law."""
    return {
        f"{width} x {factor}": {**shape(width), "pretrain.overrides": f"optim.lr={factor * 0.004 * (48 / width) ** 0.8:.6g}"}
        for width in WIDTHS[1:4]
        for factor in factors
    }


def law_truth(study):
    parsed = Study.model_validate(study)

    def truth(level, seed, term):
        best = SLOPE * math.log(size_of(parsed, level)) + INTERCEPT
        return 1 + 0.1 * (math.log(rate_of(parsed, level)) - best) ** 2 + 1e-4 * seed

    return truth


def test_a_learning_rate_study_gives_the_law(store):
    study = content("learning_rate", rates((0.25, 0.5, 1, 2, 4)))
    section = section_of(store, study, law_truth(study))
    (result,) = (LawResult.model_validate(law) for law in section.results["laws"])
    assert result.law.slope == pytest.approx(SLOPE, abs=1e-3)
    assert result.law.intercept == pytest.approx(INTERCEPT, abs=1e-2)
    assert [block.title for block in section.blocks] == ["Learning-rate law by loss", "Best rates by loss"]
    assert all("<svg" in block.figure for block in section.blocks)


def test_a_grid_that_ends_too_early_gives_the_rate_to_add(store):
    study = content("learning_rate", rates((4, 8, 16)))
    section = section_of(store, study, law_truth(study))
    assert "at the end of its grid: add a level with" in section.results["laws"][0]["refused"]
    assert "No law" in section.blocks[0].text


def scaling_truth(study):
    parsed = Study.model_validate(study)
    return lambda level, seed, term: 0.5 + (size_of(parsed, level) / 1e4) ** -0.4 + 0.001 * (seed - 1)


def test_a_target_is_predicted_and_scored_by_a_later_study(store):
    smaller, largest = WIDTHS[:5], WIDTHS[5]
    first = content("scaling", {f"{width}": shape(width) for width in smaller}, target=shape(largest))
    later = content("scaling", {f"{width}": shape(width) for width in WIDTHS})
    before, after = (
        LadderResult.model_validate(section_of(store, study, scaling_truth(study)).results["ladders"][0])
        for study in (first, later)
    )
    assert before.prediction == after.prediction and before.inputs == after.inputs
    assert before.verdict == "not trained yet"
    assert abs(after.error) < 0.01 and after.verdict.startswith("inside the interval")
    assert after.level == str(largest)


def test_too_few_sizes_are_refused(store):
    study = content("scaling", {f"{width}": shape(width) for width in WIDTHS[:3]})
    (block,) = section_of(store, study, scaling_truth(study)).blocks
    assert "expected at least 4 below" in block.text


def test_the_command_prints_the_law_and_writes_its_page(store, tmp_path, capsys):
    from mm1.studies.results import compute
    from mm1_workflows.cli.commands.lr_fit import Command

    study = content("learning_rate", rates((0.25, 0.5, 1, 2, 4)))
    published = publish_studies(store, {"law": study}, law_truth(study))
    plan = load(published.plan, StudyPlan)
    data = study_data(plan, "0" * 64, read_cells(plan, published.trained, published.reports))
    (tmp_path / "studies.json").write_text(compute(data, "0" * 64, {}, len(plan.cells), {}).results.json_text())
    assert Command(str(tmp_path / "studies.json"), plot=tmp_path / "law.html")() == 0
    printed = capsys.readouterr().out
    assert "-0.4214" in printed and "slope" in printed
    assert (tmp_path / "law.html").read_text().count("<svg") == 2
    with pytest.raises(ConfigurationError, match="no such file"):
        Command(str(tmp_path / "missing.json"))()

    tree = json.loads((tmp_path / "studies.json").read_text())
    tree["studies"][0]["section"]["laws"][0]["law"]["slope"] = "steep"
    (tmp_path / "damaged.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"study law are damaged: law\.slope: expected a number, got 'steep'"):
        Command(str(tmp_path / "damaged.json"))()


@pytest.mark.parametrize(
    ("text", "says"), [('{"studies": 3}', "plan: is required"), ("{", "Expecting"), ("[1]", "expected a map")]
)
def test_a_damaged_file_is_named_with_its_field(tmp_path, text, says):
    from mm1_workflows.cli.commands.lr_fit import Command

    (tmp_path / "studies.json").write_text(text)
    with pytest.raises(DataError, match=rf"studies\.json: expected studies\.json of a run.*{says}"):
        Command(str(tmp_path / "studies.json"))()
