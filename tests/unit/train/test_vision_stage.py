"""Stage vision: it trains the tower and nothing else, resumes with its temporary parts, and later stages start from it."""

from __future__ import annotations

import signal

import pytest
import torch

from mm1.checkpoint.read import load_model
from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError, Preempted
from mm1.manifests import Checkpoint, load
from mm1.recipes import registry
from mm1.train.build import build_run
from mm1.train.config import AimConfig, RunConfig
from mm1.train.model import Init, build_model
from mm1.train.model_origin import settle_parts
from mm1.train.vision.tower import TOWER
from tests.support.tiny_runs import holding_out, job_of, small_mix, small_run

OBJECTIVES = ("mm1_tiny_clip", "mm1_tiny_aim")
SHORT = ("train.steps=4", "train.checkpoint_every=2")


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """A mixture of captions with held-out pairs."""
    store, _, mix = small_mix(tmp_path_factory.mktemp("captions"), {"captions": 1.0})
    return store, *holding_out(store, mix, "captions=0.2")


def build(config, mixture, folder, key, **fields):
    store, data, _ = mixture
    return build_run(job_of(config, store, data, folder / key, f"{folder.name}-{key}").model_copy(update=fields), 0, 1)


def weights_of(run):
    return {name: parameter.detach().clone() for name, parameter in run.parts.model.named_parameters()}


@pytest.mark.parametrize("recipe", OBJECTIVES)
@pytest.mark.parametrize("overrides", [(), ("optim.name=adamw", "train.zero_stage=2", "train.dtype=bfloat16")])
def test_the_tower_is_trained_and_nothing_else(alone, captions, tmp_path, recipe, overrides):
    config = small_run(recipe, *SHORT, *overrides, "train.validate_every=4", "train.gradient_checkpointing=true")
    run = build(config, captions, tmp_path, "work")
    before = weights_of(run)
    checkpoint = load(run.go().manifest, Checkpoint)
    model, _ = load_model(captions[0], checkpoint, tmp_path / "loaded", next(iter(before.values())).dtype)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys(), "no temporary part is published"
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        name for name in after if name.startswith(TOWER)
    }
    assert checkpoint.stage == "vision" and checkpoint.num_parameters == sum(weight.numel() for weight in before.values())
    row = run.history.rows[-1]
    assert row["validation/captions"] > 0
    assert ("retrieval" in row, "retrieval/captions" in row) == (recipe == "mm1_tiny_clip",) * 2


@pytest.mark.parametrize("recipe", OBJECTIVES)
def test_a_run_that_is_stopped_ends_as_one_that_is_not(alone, captions, tmp_path, recipe):
    whole = load(build(small_run(recipe, *SHORT), captions, tmp_path, "whole").go().manifest, Checkpoint)
    stopped = build(small_run(recipe, *SHORT), captions, tmp_path, "stopped")
    stopped.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        stopped.go()
    resumed = build(small_run(recipe, *SHORT), captions, tmp_path, "stopped")
    assert resumed.progress.step == 1
    assert load(resumed.go().manifest, Checkpoint) == whole


def test_a_finished_run_is_continued_with_its_temporary_parts(alone, captions, tmp_path):
    steady = ("schedule.shape=constant", "schedule.warmup_steps=2", "train.checkpoint_every=2")
    config = small_run("mm1_tiny_clip", *steady, "train.keep_state=true", "train.steps=2")
    first = build(config, captions, tmp_path, "first").go().manifest
    longer = small_run("mm1_tiny_clip", *steady, "train.steps=4")
    resumed = build(longer, captions, tmp_path, "second", resume=first)
    resumed.go()
    expected = build(longer, captions, tmp_path, "whole")
    expected.go()
    assert [row["loss"] for row in resumed.history.rows] == [row["loss"] for row in expected.history.rows]
    for name, weight in weights_of(expected).items():
        assert torch.equal(weight, weights_of(resumed)[name]), name


@pytest.fixture
def chain(alone, captions, tmp_path):
    """A text base, and a tower that is trained next to its decoder."""
    base = build(small_run("mm1_tiny_lm", "train.steps=1"), captions, tmp_path, "base").go().manifest
    config = settle_parts(small_run("mm1_tiny_clip", "train.steps=2", "model.vision.image_mean=[0.1,0.2,0.3]"), "text", "", "")
    store, data, _ = captions
    job = job_of(small_run("mm1_tiny_clip"), store, data, tmp_path / "vision", f"{tmp_path.name}-vision")
    tower = build_run(job.model_copy(update={"config": config, "init": base}), 0, 1).go().manifest
    return base, tower


def weights_in(store, address, folder):
    return dict(load_model(store, load(address, Checkpoint), folder)[0].named_parameters())


def test_pretraining_keeps_tower_and_decoder_and_has_a_fresh_connector(alone, captions, chain, tmp_path):
    store, data, _ = captions
    base, tower = (weights_in(store, address, tmp_path / name) for name, address in zip(("b", "t"), chain, strict=True))
    runs = []
    for stage, init in zip(("text", "vision"), chain, strict=True):
        config = settle_parts(small_run("mm1_tiny"), stage, "", "")
        job = job_of(small_run("mm1_tiny"), store, data, tmp_path / f"after-{stage}", f"{tmp_path.name}-after-{stage}")
        runs.append(build_run(job.model_copy(update={"config": config, "init": init}), 0, 1))
    without, pretrain = map(weights_of, runs)
    for name, weight in pretrain.items():
        expected = tower if name.startswith(TOWER) else without if ".connector." in name else base
        assert torch.equal(weight, expected[name]), name
    assert [*runs[1].parts.processor.image_processor.image_mean] == [0.1, 0.2, 0.3]
    runs[1].go()
    assert not any(torch.equal(weight, pretrain[name]) for name, weight in weights_of(runs[1]).items())


def test_pretraining_may_have_other_images_and_tokens(alone, captions, chain, tmp_path):
    store, _, mix = captions
    larger = mix.model_copy(update={"image_size_px": 32, "image_tokens": 9})
    config = settle_parts(small_run("mm1_tiny"), "vision", "", "")
    init = Init(load(chain[1], Checkpoint), store)
    model, processor = build_model(config, larger, store, tmp_path / "scratch", init=init)
    assert model.config.image_size == (16, 16), "the tower interpolates its position embeddings"
    assert model.get_image_features(torch.zeros(1, 3, 32, 32)).shape[:2] == (1, 9)
    assert processor.image_processor.size["height"] == 32


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("mm1_tiny_clip", "optim.lr=law", "fitted for language models"),
        ("mm1_tiny_clip", "train.zero_stage=3", "stage vision needs train.zero_stage"),
        ("mm1_tiny_aim", "model.aim=null", "got none"),
        ("mm1_tiny_clip", "model.clip.text_heads=3", "text_heads=3 does not divide"),
    ],
)
def test_settings_that_do_not_fit_the_stage_are_refused(recipe, override, message):
    with pytest.raises(ConfigurationError, match=message):
        resolve(registry.get(recipe), [override, "optim.clip=0"])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("mm1_tiny_clip", "one of model.clip and model.aim, got clip and aim"),
        ("mm1_tiny", "model.aim has no effect in stage pretrain"),
    ],
)
def test_a_second_objective_or_one_in_another_stage_is_refused(recipe, message):
    config = registry.get(recipe)
    model = config.model.model_copy(update={"aim": AimConfig()})
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate({**dict(config), "model": model})
