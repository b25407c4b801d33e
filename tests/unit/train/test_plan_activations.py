"""Forecast activations against what autograd saves on real models, tensor by tensor."""

import pytest
import torch

from mm1.errors import ConfigurationError
from mm1.modeling.configuration import CONNECTOR_TYPES
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.recipes import registry
from mm1.train.lora import with_adapters
from mm1.train.model import model_config
from mm1.train.optim import freeze
from mm1.train.plan.activations import MicroBatch, activation_bytes, fullest
from mm1.train.plan.blueprint import blueprint_of
from mm1.train.plan.shapes import num_sparse_layers
from mm1.train.recompute import recompute_activations
from tests.support.saved_tensors import saved_bytes
from tests.support.synthetic import small_family, synthetic_batch, work_of

SIZES = {
    "small": ("model.decoder.num_heads=4", "model.decoder.hidden_size=48", "sequence.length=256"),
    "large": (
        "sequence.length=512",
        "model.vision.hidden_size=64",
        "model.vision.ffn_size=160",
        "model.connector.hidden_size=48",
        "model.connector.depth=2",
        "model.decoder.hidden_size=96",
        "model.decoder.num_layers=4",
        "model.decoder.num_heads=8",
        "model.decoder.ffn_size=160",
        "model.decoder.vocab_size=300",
    ),
}


@pytest.mark.parametrize("recipe", ["mm1_3b", "mm1_3b_moe"])
@pytest.mark.parametrize(
    ("precision", "checkpointing", "size"),
    [
        ("float32", False, "small"),
        ("float32", True, "small"),
        ("float32", False, "large"),
        ("float32", True, "large"),
        ("bfloat16", False, "small"),
        ("bfloat16", True, "small"),
        ("autocast", False, "small"),
        ("autocast", True, "small"),
    ],
)
def test_activations_are_those_that_autograd_saves(recipe, checkpointing, precision, size):
    experts = ("model.decoder.num_experts=8",) if recipe == "mm1_3b_moe" else ()
    config = small_family(recipe, *SIZES[size], *experts)
    model = MM1ForConditionalGeneration(model_config(config.model, config.sequence)).train()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if checkpointing:
        recompute_activations(model)
    batch = synthetic_batch(model.config, config.sequence, 1, 1)
    work = work_of(batch, 1, config.sequence)
    del batch["source_ids"]
    units = blueprint_of(config).unit_bytes(precision)
    counted = activation_bytes(units, MicroBatch(work.tokens, work.predicted, work.images), checkpointing)
    saved = saved_bytes(model, lambda: model(**batch, use_cache=False), precision == "autocast", config.sequence.length)
    # Beside what autograd saves, checkpointed blocks keep the rotation of positions, which is much of a small model.
    rotation = 2 * 16 * work.tokens * (2 if precision == "bfloat16" else 4) if checkpointing else 0
    assert counted.saved == pytest.approx(saved + rotation, rel=0.03 if precision == "autocast" else 0.01)
    assert counted.working > 0


TRAINED = {
    "frozen tower": ("train.frozen=vision",),
    "connector alone": ("train.frozen=vision,decoder",),
    "decoder alone": ("train.frozen=vision,connector",),
    "last block alone": ('train.frozen=["vision", "connector", "embed_tokens", "layers.[012].", "lm_head"]',),
    "adapters": ("train.lora.rank=4",),
    "adapters of two layers": ("train.lora.rank=4", "train.lora.targets=q_proj,v_proj", "train.lora.trained=connector"),
    "adapters of tower and decoder": ("train.lora.rank=4", "train.lora.parts=vision,decoder"),
}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("trained", TRAINED)
def test_frozen_weights_save_less(trained, checkpointing):
    config = small_family("mm1_3b", *SIZES["large"], *TRAINED[trained])
    model = MM1ForConditionalGeneration(model_config(config.model, config.sequence)).train()
    with_adapters(model, config.train.lora, seed=0)
    freeze(model, config.train.frozen)
    if checkpointing:
        recompute_activations(model)
    batch = synthetic_batch(model.config, config.sequence, 1, 1)
    work = work_of(batch, 1, config.sequence)
    del batch["source_ids"]
    units = blueprint_of(config).unit_bytes("float32")
    counted = activation_bytes(units, MicroBatch(work.tokens, work.predicted, work.images), checkpointing)
    saved = saved_bytes(model, lambda: model(**batch, use_cache=False), length=config.sequence.length)
    rotation = 2 * 4 * 16 * work.tokens if checkpointing else 0
    assert counted.saved == pytest.approx(saved + rotation, rel=0.01)


def test_gradients_inside_a_block_are_as_large_with_frozen_weights():
    whole, tuned, alone = (
        blueprint_of(small_family("mm1_3b", *TRAINED.get(trained, ()))).unit_bytes("float32")
        for trained in ("", "connector alone", "decoder alone")
    )
    assert [block.widest for block in tuned.token.blocks] == [block.widest for block in whole.token.blocks]
    assert [block.widest for block in alone.image.blocks] == [0]
    assert (alone.image.outside, alone.image.blocks[0].saved, alone.image.blocks[0].inputs) == (0, 0, 0)


@pytest.mark.parametrize("connector", CONNECTOR_TYPES)
def test_every_connector_is_counted(connector):
    config = small_family("mm1_3b", f"model.connector.type={connector}", "model.connector.num_heads=4", *SIZES["small"])
    model = MM1ForConditionalGeneration(model_config(config.model, config.sequence)).train()
    batch = synthetic_batch(model.config, config.sequence, 1, 1)
    work = work_of(batch, 1, config.sequence)
    del batch["source_ids"]
    units = blueprint_of(config).unit_bytes("float32")
    counted = activation_bytes(units, MicroBatch(work.tokens, work.predicted, work.images), checkpointing=False)
    saved = saved_bytes(model, lambda: model(**batch, use_cache=False), length=config.sequence.length)
    assert counted.saved == pytest.approx(saved, rel=0.01)


def test_deeper_models_keep_more_by_the_block():
    shallow, deep = (
        blueprint_of(small_family("mm1_3b_moe", "model.decoder.num_experts=4", f"model.decoder.num_layers={layers}"))
        for layers in (2, 6)
    )
    batch = MicroBatch(tokens=64, predicted=64, images=0)
    two, six = (activation_bytes(model.unit_bytes("bfloat16"), batch, False).saved for model in (shallow, deep))
    blocks = sum(block.number * block.saved for block in shallow.unit_bytes("bfloat16").token.blocks)
    scores = 4 * (4 + 4 + 1)  # float32: a router's scores of 4 experts without padding, their softmax, their logsumexp
    assert six - two == pytest.approx(2 * 64 * (blocks + scores))
    assert num_sparse_layers(deep.shapes) == 3


def test_experts_on_other_processes_cost_the_rows_that_travel():
    blueprint = blueprint_of(small_family("mm1_3b_moe", "model.decoder.num_experts=4"))
    batch = MicroBatch(tokens=64, predicted=64, images=0)
    own, shared = (activation_bytes(blueprint.unit_bytes("bfloat16"), batch, False, size).saved for size in (1, 2))
    assert shared - own == 64 * 2 * 2 * 32 * 2  # tokens, experts of each, there and back, width, bytes; in one layer


def test_layers_that_need_numbers_are_refused_by_name():
    config = small_family("mm1_3b_moe", "model.decoder.num_experts=4", "model.decoder.expert_ffn_size=50")
    with pytest.raises(ConfigurationError, match=r"activations of the decoder.*expert_ffn_size to multiples of 8"):
        blueprint_of(config).unit_bytes("bfloat16")


def test_the_two_fullest_micro_batches():
    sequence = registry.get("mm1_3b").sequence
    assert fullest(sequence, 2) == (MicroBatch(8192, 8192 - 2 * 16 * 144, 32), MicroBatch(8192, 8192, 1))
