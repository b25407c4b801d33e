"""The paper's sizes, counted on models without memory (the meta device)."""

import re
from pathlib import Path

import pytest
import torch

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.recipes import registry
from mm1.train.model import model_config
from mm1.train.optim import num_decoder_parameters
from mm1.train.schedule import learning_rate_law
from mm1_components.ranks.stage import resolve_run

FAMILY = ("mm1_1b", "mm1_3b", "mm1_7b", "mm1_30b", "mm1_3b_moe", "mm1_7b_moe")


def empty_model(name: str) -> MM1ForConditionalGeneration:
    config = registry.get(name)
    with torch.device("meta"):
        return MM1ForConditionalGeneration(model_config(config.model, config.sequence))


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "billions"),
    [("mm1_1b", 1.2), ("mm1_3b", 3), ("mm1_7b", 7), ("mm1_30b", 30), ("mm1_3b_moe", 64), ("mm1_7b_moe", 47)],
)
def test_sizes_are_those_of_the_paper(name, billions):
    model = empty_model(name)
    encoder, connector = count(model.model.vision_tower), count(model.model.connector)
    assert count(model) - encoder - connector == pytest.approx(billions * 1e9, rel=0.1)
    assert encoder == pytest.approx(0.632e9, rel=0.02)
    assert 0.02e9 < connector < 0.07e9


@pytest.mark.parametrize(("dense", "sparse"), [("mm1_3b", "mm1_3b_moe"), ("mm1_7b", "mm1_7b_moe")])
def test_a_mixture_of_experts_is_trained_like_its_dense_twin(dense, sparse):
    assert num_decoder_parameters(empty_model(dense)) == num_decoder_parameters(empty_model(sparse))
    one, other = registry.get(dense), registry.get(sparse)
    assert (one.optim, one.schedule, one.sequence) == (other.optim, other.schedule, other.sequence)
    assert (one.train.steps, one.train.global_batch) == (other.train.steps, other.train.global_batch)


@pytest.mark.parametrize(("name", "printed"), [("mm1_3b", "6e-05"), ("mm1_7b", "4e-05"), ("mm1_30b", "2e-05")])
def test_the_law_gives_the_printed_learning_rates(name, printed):
    assert registry.get(name).optim.lr == "law"
    assert f"{learning_rate_law(num_decoder_parameters(empty_model(name))):.0e}" == printed


@pytest.mark.parametrize("name", FAMILY)
def test_numbers_of_the_papers_pre_training(name):
    config = registry.get(name)
    assert config.train.steps * config.train.global_batch * config.sequence.length == pytest.approx(420e9, rel=0.01)
    assert (config.sequence.max_images, config.sequence.image_size_px, config.sequence.image_tokens) == (16, 378, 144)
    assert (config.schedule.warmup_steps, config.schedule.final_share, config.optim.weight_decay) == (2000, 0.1, 0.1)
    assert (config.train.frozen, config.model.vision.patch_size_px) == ((), 14)


def test_numbers_of_the_papers_fine_tuning():
    config = registry.get("mm1_sft")
    assert (config.train.steps, config.train.global_batch, config.sequence.length) == (10_000, 256, 2048)
    assert (config.optim.name, config.optim.lr, config.schedule.final_share, config.train.frozen) == ("adafactor", 1e-5, 0, ())


def test_numbers_of_mm1_5s_fine_tuning():
    """MM1.5 (arXiv 2409.20566) 3.1 and 4; the sequence length and the end of the decay are ours."""
    config = registry.get("mm1_5_sft")
    assert (config.stage, config.train.steps, config.train.global_batch, config.train.frozen) == ("sft", 23_000, 256, ())
    assert (config.optim.name, config.optim.lr, config.schedule.final_share) == ("adafactor", 2e-5, 0)


def test_numbers_of_the_papers_continual_pre_training():
    """MM1.5 (arXiv 2409.20566); the image size is ours, that of one of its tiles."""
    config = registry.get("mm1_continual")
    assert (config.stage, config.train.steps, config.train.global_batch, config.train.frozen) == ("pretrain", 30_000, 256, ())
    assert (config.optim.name, config.optim.lr) == ("adafactor", 1e-5)
    assert (config.schedule.shape, config.schedule.final_share) == ("cosine", 0)
    patches = config.sequence.image_size_px / registry.get("mm1_3b").model.vision.patch_size_px
    assert (config.sequence.image_size_px, patches) == (1344 / 2, 48)
    assert config.sequence.image_tokens == registry.get("mm1_3b").sequence.image_tokens


def test_a_model_whose_shapes_stand_elsewhere_is_refused():
    with pytest.raises(ConfigurationError, match=r"model\.decoder\.vocab_size, and sequence"):
        model_config(registry.get("mm1_tiny").model, None)
    with pytest.raises(ConfigurationError, match="cannot be divided into"):
        config = resolve(registry.get("mm1_1b"), ["model.vision.patch_size_px=16"])
        model_config(config.model, config.sequence)


def test_a_text_base_of_the_family_is_its_recipe_with_two_overrides():
    page = (Path(__file__).parents[3] / "docs/reference/recipes.md").read_text(encoding="utf-8")
    (overrides,) = re.findall(r'text_overrides="(stage=text .*)"', page)
    config = resolve_run("mm1_3b", overrides.replace('\\"', '"'), seed=0)
    assert (config.stage, config.train.frozen) == ("text", ("vision_tower", "connector"))
    assert config.model == registry.get("mm1_3b").model
