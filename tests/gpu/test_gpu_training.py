"""Steps of the family's recipes on one GPU, through the engine; 80 GB are enough for each."""

import pytest

ONE_GPU = ("train.global_batch=2", "train.micro_batch=1", "train.zero_stage=1", "train.expert_parallel=1")


def run(checks, recipe, *overrides):
    from mm1.config.resolve import resolve
    from mm1.recipes import registry

    config = resolve(registry.get(recipe), [*ONE_GPU, *overrides])
    return checks.check_training(config, "cuda", documents=5, steps=3)


def test_real_steps_of_the_1b_recipe(checks):
    result = run(checks, "mm1_1b")
    assert (result.tokens, result.images) == (2 * 4096, 2 * 16)


def test_real_steps_with_experts(checks):
    result = run(checks, "mm1_1b", "model.decoder.num_experts=4", "model.decoder.sparse_every=6")
    assert 1 <= result.router["load_max"] <= 4


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_steps_at_each_stage(checks, stage):
    small = ("model.decoder.num_layers=2", "model.vision.num_layers=2", f"train.zero_stage={stage}")
    run(checks, "mm1_1b", *small)


def test_steps_with_adafactor(checks):
    run(checks, "mm1_1b", "model.decoder.num_layers=2", "optim.name=adafactor", "optim.lr=1e-2", "train.zero_stage=0")
