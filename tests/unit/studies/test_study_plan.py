"""Plans of studies: equal cells are one, shared beginnings come first, budgets, evaluations, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
from mm1.manifests import Cell, StudyPlan
from mm1.studies.config import Study
from mm1.studies.plan import JOINER, chains_named, plan_studies, waves
from mm1_components import study_plan
from mm1_components.chains.check import check_plan, declared_defaults
from mm1_components.study_plan import STEP
from mm1_components.wrapper.checks import check_errors

DEFAULTS = declared_defaults()
CHAIN = Path(__file__).parents[2] / "support" / "small_chain.yaml"
HELD_OUT = {"mix.holdout": "0.02", "pretrain.overrides": "train.validate_every=300"}


def study(levels: dict[str, dict[str, str]], seeds: tuple[int, ...] = (0,), **fields: Any) -> Study:
    return Study.model_validate(
        {
            "title": "A study",
            "base": str(CHAIN),
            "paper": {"section": "3", "says": "x"},
            "factor": "f",
            "levels": levels,
            "seeds": seeds,
            "scores": {"vqa": {"mean": ["vqa/0/accuracy"]}},
            **fields,
        }
    )


def inputs_of(cell: Cell, stage: str) -> dict[str, str]:
    return next(run.inputs for run in cell.stages if run.stage == stage)


def stages_of(cell: Cell) -> list[str]:
    return [run.stage for run in cell.stages]


def test_levels_and_seeds_are_cells_with_readable_names() -> None:
    plan = plan_studies({"mixture": study({"100/0": {"mix.weights": "captions=1"}, "mm1": {}}, seeds=(0, 7))}, DEFAULTS)
    assert [cell.name for cell in plan.cells] == ["mixture.100-0.s0", "mixture.100-0.s7", "mixture.mm1.s0", "mixture.mm1.s7"]
    assert inputs_of(plan.cells[1], "mix") | {"weights": ""} == inputs_of(plan.cells[3], "mix") | {"weights": ""}
    assert inputs_of(plan.cells[1], "mix")["seed"] == inputs_of(plan.cells[1], "pretrain")["seed"] == "7"
    assert "seed" not in inputs_of(plan.cells[1], "text_base")
    assert stages_of(plan.cells[0]) == ["data", "text_mix", "text_base", "mix", "pretrain", "evaluate"]
    check_plan(plan)


def test_equal_cells_of_several_studies_are_one_and_answer_both() -> None:
    first = study(
        {"a": {}, "b": {"mix.weights": "captions=1"}},
        scores={"s": {"mean": ["vague/4/accuracy"]}, "loss": {"mean": ["loss/captions"]}},
    )
    first = first.model_copy(update={"settings": HELD_OUT})
    second = study(
        {"4 tokens": {"mix.image_tokens": "4"}, "16": {"mix.image_tokens": "16"}},
        scores={"s": {"mean": ["novel/8/accuracy"], "minus": ["vague/0/accuracy"]}},
        settings={**HELD_OUT, "evaluate.tasks": "captions vqa@0", "evaluate.shots": "0 2"},
    )
    plan = plan_studies({"first": first, "second": second}, DEFAULTS)
    assert [cell.name for cell in plan.cells] == ["first.a.s0", "first.b.s0", "second.16.s0"], "4 tokens are the default"
    shared = plan.cells[0]
    assert [(use.study, use.level) for use in shared.uses] == [("first", "a"), ("second", "4 tokens")]
    tasks = set(inputs_of(shared, "evaluate")["tasks"].split())
    assert {"vague@0,4", "novel@8", "captions@0,2"} <= tasks
    assert inputs_of(shared, "evaluate")["items"] == "256"
    fewer = second.model_copy(update={"settings": second.settings | {"evaluate.items": "64"}})
    other = plan_studies({"second": fewer, "first": first}, DEFAULTS)
    assert len(other.cells) == 4, "another evaluation is another cell"


def test_a_study_of_losses_has_no_evaluation() -> None:
    fields = {"scores": {"loss": {"mean": ["loss/captions"]}}, "settings": {**HELD_OUT, "evaluate": "omit"}}
    (cell,) = plan_studies({"law": study({"a": {}}, **fields)}, DEFAULTS).cells
    assert stages_of(cell)[-1] == "pretrain"


SFT = {"sft_mix.weights": "sft", "sft.recipe": "mm1_tiny_sft"}


def test_shared_beginnings_come_before_what_continues_them() -> None:
    plan = plan_studies({"sft": study({"a": SFT, "b": SFT | {"sft.overrides": "train.steps=9"}}, seeds=(0, 1))}, DEFAULTS)
    assert [cell.name for cell in plan.shared] == ["text_base", "sft.a.s0.pretrain", "sft.a.s1.pretrain"]
    assert waves(plan) == (["text_base"], ["sft.a.s0.pretrain", "sft.a.s1.pretrain"])
    assert stages_of(plan.shared[1])[-1] == "pretrain" and len(plan.cells) == 4
    assert [run in plan.cells[0].stages for run in plan.shared[1].stages] == [True] * 5
    assert chains_named(plan, "text_base+sft.a.s0.pretrain") == list(plan.shared[:2])
    with pytest.raises(ConfigurationError, match=r"the plan has no cell 'sft\.a\.s0\.pretrian'; did you mean"):
        chains_named(plan, "sft.a.s0.pretrian")


def test_nothing_shared_still_gives_lists_that_are_not_empty() -> None:
    alone = {"text_mix": "omit", "text_base": "omit"}
    plan = plan_studies({"x": study({"a": alone})}, DEFAULTS)
    assert plan.shared == () and waves(plan) == (["x.a.s0"], ["x.a.s0"])
    assert waves(plan_studies({"x": study({"a": {}})}, DEFAULTS)) == (["text_base"], ["text_base"])


LEVELS = st.dictionaries(
    st.sampled_from("abcd"),
    st.fixed_dictionaries(
        {},
        optional={
            "mix.weights": st.sampled_from(["mm1", "captions=1"]),
            "text_base.overrides": st.sampled_from(["train.steps=5", "train.steps=6"]),
            "sft.recipe": st.just("mm1_tiny_sft"),
            "sft_mix.weights": st.just("sft"),
            "continual.recipe": st.just("mm1_tiny_continual"),
            "continual_mix.weights": st.just("mm1"),
        },
    ),
    min_size=1,
)


def _complete(level: dict[str, str]) -> dict[str, str]:
    """A level whose stages have both their mixture and their training."""
    pairs = (("sft", "sft_mix"), ("continual", "continual_mix"))
    wrong = {stage for pair in pairs if len({path.partition(".")[0] for path in level} & {*pair}) == 1 for stage in pair}
    return {path: value for path, value in level.items() if path.partition(".")[0] not in wrong}


@settings(max_examples=40, deadline=None)
@given(LEVELS, st.sets(st.integers(0, 2), min_size=1))
def test_no_training_starts_twice_side_by_side(levels: dict[str, dict[str, str]], seeds: set[int]) -> None:
    different = {name: _complete(level) | {"evaluate.items": str(ord(name))} for name, level in levels.items()}
    plan = plan_studies({"x": study(different, tuple(seeds))}, DEFAULTS)
    assert sum(len(cell.uses) for cell in plan.cells) == len(levels) * len(seeds)
    trained: set[str] = set()
    for wave in (*waves(plan), [cell.name for cell in plan.cells]):
        begun: list[set[str]] = []
        for item in wave:
            new: set[str] = set()
            for cell in chains_named(plan, item):
                for number, run in enumerate(cell.stages):
                    if run.step in ("pretrain", "sft"):
                        new.add(str(cell.stages[: number + 1]))
            begun.append(new - trained)
        twice = [one & other for number, one in enumerate(begun) for other in begun[:number]]
        assert not any(twice), (wave, twice)
        trained |= set().union(*begun)
    assert JOINER not in "".join(cell.name for cell in (*plan.cells, *plan.shared))


# -- budgets ---------------------------------------------------------------------------------------------------------------


def steps_of(plan: StudyPlan) -> dict[str, str]:
    return {cell.uses[0].level: inputs_of(cell, "pretrain")["overrides"].split()[-1] for cell in plan.cells}


def test_tokens_of_the_base_set_the_steps_of_every_level() -> None:
    levels = {"base": {}, "long": {"mix.sequence_length": "256"}, "wide": {"pretrain.overrides": "train.global_batch=64"}}
    plan = plan_studies({"x": study(levels, budget={"same": "tokens"})}, DEFAULTS)
    assert steps_of(plan) | {"base": ""} == {"base": "", "long": "train.steps=150", "wide": "train.steps=75"}
    check_plan(plan)


def test_flops_of_the_base_set_the_steps_of_every_level() -> None:
    levels = {"base": {}, "wide": {"pretrain.overrides": "train.global_batch=32"}, "large": {"mix.image_size": "64"}}
    levels["frozen"] = {"pretrain.overrides": "train.frozen=vision"}
    steps = steps_of(plan_studies({"x": study(levels, budget={"same": "flops"})}, DEFAULTS))
    assert steps["wide"] == "train.steps=150"
    assert 50 < int(steps["large"].partition("=")[2]) < 300, "four times as many patches"
    assert 300 < int(steps["frozen"].partition("=")[2]) < 600, "the tower has no backward pass"


@pytest.mark.parametrize("same", ["tokens", "flops"])
def test_a_level_has_the_budget_or_steps_of_its_own(same: str) -> None:
    levels = {"base": {}, "longer": {"pretrain.overrides": "train.steps=900"}}
    with pytest.raises(ConfigurationError, match=f"level longer: .* sets train.steps, which budget.same: {same} computes"):
        plan_studies({"x": study(levels, budget={"same": same})}, DEFAULTS)


# -- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"mix": "omit"}, "study x, level a: stage pretrain needs stage mix, which the chain does not have"),
        ({"mix.seed": "3"}, "study x, level a: mix.seed has no effect: it is the seed of each cell; set seeds instead"),
        ({"evaluate.tasks": "vqa@x"}, "study x, level a: task 'vqa@x': expected numbers of demonstrations"),
        (dict.fromkeys(("text_mix", "text_base", "mix", "pretrain", "evaluate"), "omit"), "the chain has no stage that trains"),
    ],
)
def test_chains_that_cannot_run_are_refused(level: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": study({"a": level})}, DEFAULTS)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (
            {"mix.wieghts": "mm1"},
            "study x, level a: mix.wieghts: step data_mix has no input 'wieghts'; did you mean 'weights'?",
        ),
        ({"mix.image_tokens": "four"}, "study x, level a: mix.image_tokens: expected an integer, got 'four'"),
        ({"pretrain.recipe": "mm1_tin"}, "study x, level a: pretrain: unknown recipe 'mm1_tin'; did you mean 'mm1_tiny'?"),
        ({"mix.image_size": "33"}, "study x, level a: pretrain: data: images of 33 pixels cannot be divided"),
        ({"evaluate.tasks": "vqua"}, "study x, level a: evaluate: "),
    ],
)
def test_settings_that_a_step_refuses_are_named_before_anything_starts(level: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_plan(plan_studies({"x": study({"a": level, "b": {"mix.image_tokens": "16"}})}, DEFAULTS))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix.sequence_length": "s"}, "study x, level a: mix.sequence_length: expected an integer, got 's'"),
        ({"mix.sequence_length": "0"}, "study x, level a: mix: length: expected at least 1, got 0"),
        ({"pretrain.overrides": "train.steps='3"}, "study x, level a: pretrain: overrides: .* no closing quotation; close it"),
        ({"pretrain.recipe": ""}, "study x, level a: pretrain: unknown recipe ''"),
    ],
)
def test_a_budget_of_settings_that_cannot_be_read(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": study({"a": settings}, budget={"same": "tokens"})}, DEFAULTS)


@pytest.mark.parametrize(
    ("levels", "seeds", "message"),
    [
        ({"a": {}, "b": {"mix.image_tokens": "4"}}, (0,), "level b: its settings are those of level 'a', so that both are one"),
        (
            {"a": {"evaluate.tasks": "vqa"}, "b": {"evaluate.tasks": "vague"}},
            (0, 1),
            "level b: its settings are those of level",
        ),
        ({"a": {"mix": "omit", "pretrain": "omit"}}, (0, 1), "level a: all seeds are one training, .*; set seeds: \\[0\\]"),
    ],
)
def test_cells_that_could_not_differ_are_refused(levels: dict[str, Any], seeds: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": study(levels, seeds)}, DEFAULTS)


@pytest.mark.parametrize(
    ("level", "stage", "last"),
    [
        ({"pretrain": "omit"}, "mix", "text_base"),
        ({"text_base": "omit"}, "text_mix", "pretrain"),
        (SFT | {"sft": "omit"}, "sft_mix", "pretrain"),
    ],
)
def test_a_stage_without_effect_is_refused(level: dict[str, str], stage: str, last: str) -> None:
    message = (
        f"stage {stage} has no effect, because stage {last}, the last that trains, does not depend on it: set {stage}: omit"
    )
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": study({"a": level})}, DEFAULTS)


@pytest.mark.parametrize(
    ("term", "settings", "message"),
    [
        ("vqa/0/acuracy", {}, "scores.s: vqa/0/acuracy: vqa has no metric 'acuracy'; did you mean 'accuracy'"),
        ("vqa/0/accuracy/shuffled", {"evaluate.controls": "false"}, "has no controls: set evaluate.controls: true"),
        ("vqa/0/accuracy", {"evaluate": "omit"}, "the chain has no stage evaluate"),
        ("loss/captions", {"mix.holdout": ""}, "mix holds out no samples of captions: set mix.holdout, for example 0.02"),
        ("loss/text", {"mix.weights": "captions=1"}, "mix.weights does not have the source 'text'; known: captions"),
        ("loss/text", {"pretrain.overrides": "train.validate_every=0"}, "stage pretrain does not validate: set pretrain.overr"),
        ("loss/text", {"mix.holdout": "x"}, "loss/text: mix: holdout: expected a share from 0 to 1"),
    ],
)
def test_values_that_no_cell_would_have_are_refused(term: str, settings: dict[str, str], message: str) -> None:
    made = study({"a": {}}, scores={"s": {"mean": [term]}}, settings=HELD_OUT | settings)
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": made}, DEFAULTS)


def test_the_loss_of_a_source_is_that_of_its_groups() -> None:
    groups = HELD_OUT | {"mix.weights": "captions/a=0.5,captions/b=0.5"}
    plan_studies(
        {"x": study({"a": {}}, scores={"s": {"mean": ["loss/captions", "loss/captions/b"]}}, settings=groups)}, DEFAULTS
    )
    with pytest.raises(ConfigurationError, match="does not have the source 'captions/c'"):
        plan_studies({"x": study({"a": {}}, scores={"s": {"mean": ["loss/captions/c"]}}, settings=groups)}, DEFAULTS)


def _grid(sizes: tuple[int, ...], rates: tuple[float, ...]) -> dict[str, dict[str, str]]:
    return {
        f"{size} {rate}": {"text_base.overrides": f"model.decoder.num_layers={size}", "pretrain.overrides": f"optim.lr={rate}"}
        for size in sizes
        for rate in rates
    }


@pytest.mark.parametrize(
    ("analysis", "levels", "message"),
    [
        ("learning_rate", _grid((1, 2), (0.1, 0.2, 0.3)), "study x: levels: expected at least 3 sizes, got 2"),
        ("learning_rate", _grid((1, 2, 3), (0.1, 0.2)), "study x: levels: expected at least 3 learning rates for the size "),
        (
            "learning_rate",
            {"a": {"pretrain.overrides": "optim.lr=1"}, "b": {"pretrain.overrides": "optim.lr=1.0"}},
            "study x: levels: 'a' and 'b' have the same size and learning rate; remove one",
        ),
        ("scaling", _grid((1, 2, 3), (0.1,)), "study x: levels: expected at least 4 sizes below the predicted one, got 2"),
        ("scaling", _grid((1, 2, 3, 4, 5), (0.1,)), "study x: scores: the analysis scaling predicts losses: add one"),
    ],
)
def test_levels_from_which_no_law_could_be_fitted_are_refused(analysis: str, levels: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_studies({"x": study(levels, analysis=analysis)}, DEFAULTS)


def test_names_of_cells_stay_short_and_different() -> None:
    levels = {f"{'long ' * 15}{name}": {"mix.image_tokens": tokens} for name, tokens in (("a", "4"), ("b", "16"), ("c", "1"))}
    plan = plan_studies({"x" * 300: study(levels, (0, 7))}, DEFAULTS)
    names = [cell.name for cell in plan.cells]
    assert len({*names}) == 6 and max(map(len, names)) < 100


def plan_errors(made: Study, **known: str) -> list[str]:
    text = yaml.safe_dump(made.model_dump(mode="json"), sort_keys=False)
    return [str(error) for error in check_errors(STEP, {"studies": text, "base": "", "seeds": "", **known})]


def test_files_that_do_not_exist_are_named_where_the_study_starts(tmp_path: Path) -> None:
    missing = {"data.captions": "/nowhere/captions", "evaluate.benchmarks": str(tmp_path / "none")}
    made = study({"a": missing, "b": {"data.captions": str(tmp_path)}})
    (error,) = plan_errors(made, store="/store", launcher="")
    assert error.startswith("study A-study, level a: data.captions: no such file or folder: '/nowhere/captions'")
    assert not plan_errors(made, store="s3://bucket/x"), "pods have other files"
    assert not plan_errors(made, launcher=""), "in the step itself"


def test_lists_of_results_have_to_fit_into_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_plan, "MAX_BYTES_ON_CLUSTER", 300)
    made = study({"a": {}}, tuple(range(4)))
    (error,) = plan_errors(made, store="s3://bucket/x")
    assert "studies: expected at most 3 trainings with the store s3://bucket/x, got 4, because lists of their" in error
    assert not plan_errors(made, store="s3://bucket/x", launcher="")
