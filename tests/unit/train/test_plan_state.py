"""Forecast weights, gradients and optimizer against the tensors of real engines."""

import gc
import time

import pytest
import torch

from mm1.train.batch_plan import BUCKET_ELEMENTS
from mm1.train.empty_model import empty_model
from mm1.train.lora import with_adapters
from mm1.train.model import model_config
from mm1.train.plan.blueprint import blueprint_of
from mm1.train.plan.memory import World, state_bytes
from mm1.train.plan.shapes import num_experts_parameters, num_parameters
from tests.support.synthetic import release, small_family, synthetic_batch, training_step
from tests.support.tiny_runs import one_process

NAMES = ("mm1_3b", "mm1_3b_moe")
WIDER = (
    "model.decoder.hidden_size=96",
    "model.decoder.ffn_size=192",
    "model.decoder.vocab_size=256",
    "train.global_batch=1",
)

ADAPTERS = ("train.lora.rank=16", "train.lora.trained=connector")


def state_of(config, processes=1, expert_parallel=1):
    blueprint = blueprint_of(config)
    return state_bytes(blueprint.shapes, blueprint.trained_shapes, config, World(processes, expert_parallel))


def storages(tensors):
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def live_storages():
    """Tensors made since the collector was frozen."""
    gc.collect()
    return storages(item for item in gc.get_objects() if type(item) is torch.Tensor and item.device.type == "cpu")


def masters(engine):
    flat = getattr(engine._wrapper, "fp32_partitioned_groups_flat", None)  # of stage 3
    return flat or [parameter for group in engine._inner.param_groups for parameter in group["params"]]


def measured(config):
    """Bytes by kind of an engine: gradients between the backward pass and the update, the rest after it."""
    gc.collect()
    gc.freeze()
    step = training_step(config, "cpu")
    engine, update, found = step.engine, step.engine.step, {}
    batch = synthetic_batch(engine.model.config, config.sequence, 1, 1)

    def watch(*arguments):
        # gloo's threads let go of what they have reduced a little later, so what is there each time counts.
        times = []
        for _ in range(5):
            time.sleep(0.02)
            times.append(live_storages())
        now = {key: size for key, size in times[-1].items() if all(key in past for past in times)}
        weights = storages(getattr(item, "ds_tensor", item) for item in engine.model.parameters())
        own = storages(item.grad for item in engine.model.parameters() if item.grad is not None)
        now = own if engine.stage == 0 else now | own  # where ZeRO keeps them is only found by looking at all that is new
        known = weights.keys() | storages(masters(engine)).keys()
        # Batch and last outputs are small, the bucket of stage 3 is huge; what is between them are gradients.
        gradients = sum(size for key, size in now.items() if key not in known and size < 2 * BUCKET_ELEMENTS)
        update(*arguments)
        held = [*engine._inner.state.values(), *getattr(engine._inner, "factors", {}).values()]
        state = [item for kept in held for item in kept.values() if isinstance(item, torch.Tensor)]
        optimizer = {key: size for key, size in storages([*masters(engine), *state]).items() if key not in weights}
        found.update(weights=sum(weights.values()), gradients=gradients, optimizer=sum(optimizer.values()))

    engine.step = watch
    step([batch], 1.0)
    engine.step = update
    release(step)
    return found


@pytest.fixture(scope="module")
def warm():
    """What the first engine of a process leaves in memory, made before anything is counted."""
    one_process()
    config = small_family("mm1_1b", *WIDER, "train.zero_stage=0", "train.dtype=float32")
    step = training_step(config, "cpu")
    step([synthetic_batch(step.engine.model.config, config.sequence, 1, 1)], 1.0)
    release(step)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("mm1_1b", ("train.zero_stage=0", "train.dtype=float32")),
        ("mm1_3b_moe", ("train.zero_stage=1", "train.dtype=float32")),
        ("mm1_3b", ("train.zero_stage=2",)),
        ("mm1_3b", ("train.zero_stage=1",)),
        ("mm1_3b", ("train.zero_stage=3", "train.dtype=float32")),
        ("mm1_3b", ("train.zero_stage=3",)),
        ("mm1_3b", ("train.zero_stage=0", "optim.name=adafactor")),
        ("mm1_3b", ("train.zero_stage=2", "optim.name=adafactor", "optim.first_moment=0.9")),
        ("mm1_3b", ("train.zero_stage=0", "optim.name=muon", "train.dtype=float32")),
        ("mm1_3b", ("train.zero_stage=2", "train.frozen=vision")),
        ("mm1_3b", ("train.zero_stage=0", "train.frozen=vision", "train.dtype=float32")),
        ("mm1_3b", ("train.zero_stage=3", *ADAPTERS)),
        ("mm1_3b", ("train.zero_stage=1", "train.dtype=float32", *ADAPTERS)),
    ],
)
def test_bytes_by_kind_are_those_of_an_engine(warm, alone, recipe, overrides):
    experts = ("model.decoder.num_experts=4",) if recipe == "mm1_3b_moe" else ()
    config = small_family(recipe, *WIDER, *experts, *overrides)
    state = state_of(config)
    real = measured(config)
    for kind in ("weights", "gradients", "optimizer"):
        assert getattr(state, kind) == pytest.approx(real[kind], rel=0.1), kind


def test_what_is_frozen_has_weights_only():
    config = small_family("mm1_3b", 'train.frozen=["vision_tower", "connector"]', "train.zero_stage=2")
    shapes = blueprint_of(config).shapes
    state = state_of(config)
    trained = num_parameters({name: shape for name, shape in shapes.items() if "language_model" in name or "lm_head" in name})
    assert (state.weights, state.gradients, state.optimizer) == (2 * num_parameters(shapes), 4 * trained, 12 * trained)


def test_what_is_frozen_is_neither_reduced_nor_copied_at_start():
    whole, tuned = (
        small_family("mm1_3b", f"train.frozen={frozen}", "train.zero_stage=2") for frozen in ("[]", "vision,decoder")
    )
    shapes, trained = blueprint_of(tuned).shapes, num_parameters(blueprint_of(tuned).trained_shapes)
    assert state_of(tuned).start == 2 * (num_parameters(shapes) + trained)
    assert state_of(whole).start == 4 * num_parameters(shapes)
    assert state_of(tuned, 8).buffers < state_of(whole, 8).buffers


@pytest.mark.parametrize("trained", ["[]", "connector"])
def test_adapters_have_states_and_the_model_has_weights_only(trained):
    lora = ("train.lora.rank=4", "train.lora.parts=decoder,vision", f"train.lora.trained={trained}")
    config = small_family("mm1_3b", *lora, "train.zero_stage=2")
    model = empty_model(model_config(config.model, config.sequence))
    state = state_of(config)
    adapted = with_adapters(model, config.train.lora, seed=0)
    every, changed = (
        num_parameters({name: p.shape for name, p in adapted.named_parameters() if p.requires_grad or is_all})
        for is_all in (True, False)
    )
    assert (state.weights, state.gradients, state.optimizer) == (2 * every, 4 * changed, 12 * changed)


def spread(*overrides, processes=8, expert_parallel=1, recipe="mm1_3b_moe"):
    experts = ("model.decoder.num_experts=8",) if recipe == "mm1_3b_moe" else ()
    config = small_family(recipe, *experts, *overrides)
    return state_of(config, processes, expert_parallel)


def test_zero_spreads_more_with_each_stage():
    alone = spread("train.zero_stage=2", processes=1)
    for stage in (1, 2, 3):
        found = spread(f"train.zero_stage={stage}", "train.dtype=float32")
        assert found.optimizer * 8 == pytest.approx(alone.optimizer)
        assert found.gradients == pytest.approx(alone.gradients / (1 if stage == 1 else 8))
        assert found.weights == pytest.approx(2 * alone.weights / (8 if stage == 3 else 1))


def test_shared_experts_are_divided_and_spread_over_fewer():
    shared, own = (spread("train.zero_stage=2", expert_parallel=size) for size in (4, 1))
    shapes = blueprint_of(small_family("mm1_3b_moe", "model.decoder.num_experts=8")).shapes
    assert own.weights - shared.weights == 2 * num_experts_parameters(shapes) * 3 / 4
    assert shared.optimizer == pytest.approx(own.optimizer)
    assert shared.start < own.start


def test_offloading_moves_the_optimizer_to_the_host():
    on_device, offloaded = (spread("train.zero_stage=2", f"train.offload={where}") for where in ("none", "optimizer"))
    assert (offloaded.optimizer, offloaded.gradients) == (0, 0)
    assert offloaded.host > on_device.optimizer
    assert offloaded.weights == on_device.weights


def test_blocks_of_experts_are_gathered_whole():
    dense, sparse = (spread("train.zero_stage=3", "model.decoder.ffn_size=4096", recipe=recipe) for recipe in NAMES)
    assert sparse.buffers > dense.buffers
