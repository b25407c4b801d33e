"""Forecast activations against what autograd saves on real models, tensor by tensor."""

import pytest
import torch
from torch import nn

from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.recipes import registry
from mm1.train.flops import sizes_of_run
from mm1.train.model import model_config
from mm1.train.plan.activations import MicroBatch, activation_bytes, fullest
from mm1.train.plan.shapes import is_sparse, num_experts_parameters, parameter_shapes
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


def saved_bytes(model: nn.Module, batch: dict[str, torch.Tensor], autocast: bool, length: int) -> int:
    """Bytes of the distinct tensors that autograd keeps, but parameters, their copies, and the mask that only a CPU needs."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    copies = {tuple(parameter.shape) for parameter in model.parameters()} if autocast else set()
    copies |= {(*shape[:-2], shape[-1], shape[-2]) for shape in copies if len(shape) > 1}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        shape = tuple(tensor.shape)
        if storage.data_ptr() not in parameters and shape not in copies and shape != (1, 1, length, length):
            kept[storage.data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        output = model(**batch, use_cache=False)
    assert torch.isfinite(output.loss)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


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
    model = MM1ForConditionalGeneration(model_config(config)).train()
    if precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = synthetic_batch(model.config, config.sequence, 1, 1)
    work = work_of(batch, 1, config.sequence)
    del batch["source_ids"]
    found = activation_bytes(
        sizes_of_run(config), MicroBatch(work.tokens, work.predicted, work.images), precision, checkpointing
    )
    saved = saved_bytes(model, batch, precision == "autocast", config.sequence.length)
    # Beside what autograd saves, checkpointed blocks keep the rotation of positions, which is much of a small model.
    rotation = 2 * 16 * work.tokens * (2 if precision == "bfloat16" else 4) if checkpointing else 0
    assert found.saved == pytest.approx(saved + rotation, rel=0.1 if precision == "autocast" else 0.04)
    assert found.working > 0


@pytest.mark.parametrize("connector", ["average_pool", "attention_pool"])
def test_the_other_connectors_are_counted_too(connector):
    config = small_family("mm1_3b", f"model.connector.type={connector}", "model.connector.num_heads=4", *SIZES["small"])
    config = config.model_copy(update={"train": config.train.model_copy(update={"gradient_checkpointing": False})})
    model = MM1ForConditionalGeneration(model_config(config)).train()
    assert {name: tuple(parameter.shape) for name, parameter in model.named_parameters()} == parameter_shapes(
        sizes_of_run(config)
    )
    batch = synthetic_batch(model.config, config.sequence, 1, 1)
    work = work_of(batch, 1, config.sequence)
    del batch["source_ids"]
    found = activation_bytes(sizes_of_run(config), MicroBatch(work.tokens, work.predicted, work.images), "float32", False)
    assert found.saved == pytest.approx(saved_bytes(model, batch, False, config.sequence.length), rel=0.04)


@pytest.mark.parametrize("name", ["mm1_1b", "mm1_30b", "mm1_7b_moe"])
def test_names_and_shapes_are_those_of_the_model(name):
    config = registry.get(name)
    with torch.device("meta"):
        model = MM1ForConditionalGeneration(model_config(config))
    found = parameter_shapes(sizes_of_run(config))
    assert found == {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    experts = sum(parameter.numel() for name, parameter in model.named_parameters() if ".mlp.experts." in name)
    assert num_experts_parameters(found) == experts
    decoder = config.model.decoder
    assert sum(is_sparse(decoder, number) for number in range(decoder.num_layers)) == (8 if decoder.num_experts else 0)


def test_the_two_fullest_micro_batches():
    sequence = registry.get("mm1_3b").sequence
    assert fullest(sequence, 2) == (MicroBatch(8192, 8192 - 2 * 16 * 144, 32), MicroBatch(8192, 8192, 1))
