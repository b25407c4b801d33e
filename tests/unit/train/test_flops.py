"""What is counted on an empty model against torch's own counter, which looks at each operation of a real one as it is done."""

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mm1.modeling.configuration import CONNECTOR_TYPES
from mm1.modeling.losses import IGNORED_LABEL, next_token_targets
from mm1.recipes import registry
from mm1.train.config import LoraConfig
from mm1.train.empty_model import Trained
from mm1.train.flops import Work, count_flops, count_forward, full_work, peak_flops, utilisation
from mm1.train.lora import with_adapters
from mm1.train.model import model_config
from mm1.train.optim import freeze
from tests.support.tiny_model import packed_batch, tiny_config, tiny_model

LENGTHS = [[20, 9, 11], [40]]
DEEP = {"num_hidden_layers": 5}


def counted(model, batch, backward):
    """Operations that torch counts; attention and experts in forms that it can look into."""
    model.train()
    model.model.language_model.set_attn_implementation("sdpa")
    if model.config.is_moe:
        model.model.language_model.set_experts_implementation("eager")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model(**batch).loss
        if backward:
            loss.backward()
    return counter.get_total_flops()


def work_of(batch):
    """The work of a batch as SDPA with a mask does it: every pair of a row, seen or not."""
    rows, columns = batch["input_ids"].shape
    predicted = int((next_token_targets(batch["labels"], batch["document_ids"]) != IGNORED_LABEL).sum())
    return Work(rows * columns, rows * columns * columns, predicted, len(batch["pixel_values"]))


def flops_of_recipe(name):
    config = registry.get(name)
    return count_flops(model_config(config.model, config.sequence))


@pytest.mark.parametrize("moe", [False, True])
@pytest.mark.parametrize("connector", sorted(set(CONNECTOR_TYPES) - {"c_abstractor"}))
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_a_step_is_counted_to_the_last_operation(connector, vision, moe):
    model = tiny_model(connector, vision, moe, text=DEEP)
    batch = packed_batch(LENGTHS)
    assert count_flops(model.config).step(work_of(batch)).total == counted(model, batch, backward=True)


def test_the_c_abstractor_is_counted_to_the_last_operation():
    # Forward only, a third of a step but for the patches: torch's formula of a grouped convolution's backward is wrong.
    model = tiny_model("c_abstractor", connector_depth=2)
    batch = packed_batch(LENGTHS)
    step = count_flops(model.config).step(work_of(batch)).total
    patches = len(batch["pixel_values"]) * 2 * 16 * (3 * 4 * 4) * 32
    assert (step + patches) / 3 == counted(model, batch, backward=False)


def as_trained(model, trained):
    """The model as the trainer prepares it."""
    with_adapters(model, trained.lora, seed=0)
    freeze(model, trained.frozen)
    return model


@pytest.mark.parametrize(
    ("frozen", "moe"),
    [
        (("vision",), True),
        (("connector",), False),
        (("decoder",), False),
        (("decoder",), True),
        (("vision", "connector"), False),
        (("vision", "decoder"), True),
        (("connector", "decoder"), False),
        (("embed_tokens",), False),
        (("vision", "connector", "embed_tokens"), True),
        (("vision", "connector", "embed_tokens", r"language_model\.layers\.[012]\."), False),
        (("vision", "connector", "embed_tokens", r"language_model\.layers\.[012]\."), True),
        (("vision", "connector", "language_model"), False),
        ((r"vision_tower\..*layers\.0\.", "vision_tower.*embeddings"), False),
        ((r"layers\.[024]\.", "norm"), True),
        (("mlp",), True),
    ],
)
def test_frozen_parts_are_counted_to_the_last_operation(frozen, moe):
    model = as_trained(tiny_model("attention_pool", moe=moe, text=DEEP), trained := Trained(frozen))
    batch = packed_batch(LENGTHS)
    assert count_flops(model.config, trained).step(work_of(batch)).total == counted(model, batch, backward=True)


@pytest.mark.parametrize(
    ("lora", "frozen", "moe"),
    [
        ({}, (), False),
        ({}, (), True),
        ({"targets": ("q_proj", "v_proj"), "dropout": 0.1}, (), False),
        ({"trained": ("connector",)}, (), True),
        ({"trained": ("vision",)}, (), False),
        ({"parts": ("vision", "decoder")}, (), False),
        ({"parts": ("vision", "connector", "decoder")}, ("connector",), False),
    ],
)
def test_adapters_are_counted_to_the_last_operation(lora, frozen, moe):
    trained = Trained(frozen, LoraConfig(rank=4, **lora))
    model = as_trained(tiny_model("average_pool", moe=moe, text=DEEP), trained)
    batch, config = packed_batch(LENGTHS), tiny_config("average_pool", moe=moe, text=DEEP)
    assert count_flops(config, trained).step(work_of(batch)).total == counted(model, batch, backward=True)
    assert count_forward(config, trained).step(work_of(batch)).total == counted(model, batch, backward=False)


@pytest.mark.parametrize("tied", [False, True])
def test_a_tied_output_layer_is_frozen_with_the_embedding(tied):
    text = {**DEEP, "tie_word_embeddings": tied}
    model = as_trained(tiny_model("average_pool", text=text), trained := Trained(("vision", "embed_tokens")))
    batch = packed_batch(LENGTHS)
    assert count_flops(model.config, trained).step(work_of(batch)).total == counted(model, batch, backward=True)


def test_frozen_parts_do_only_what_others_need_of_them():
    config = tiny_config("average_pool")
    whole, forward = count_flops(config), count_forward(config)
    tower = count_flops(config, Trained(("vision",)))
    assert (tower.vision, tower.decoder) == (forward.vision, whole.decoder)
    assert tower.connector == whole.connector - forward.connector  # no gradient of the patches
    both = count_flops(config, Trained(("vision", "decoder")))
    assert (both.decoder, both.output) == (2 * forward.decoder, 2 * forward.output)  # gradients of activations, not of weights
    assert both.attention == whole.attention


def test_recomputing_repeats_the_forward_pass_of_parts_with_a_backward_pass():
    config, work = tiny_config("average_pool"), Work(tokens=40, pairs=820, predicted=30, images=2)
    forward = count_forward(config).step(work)
    assert count_flops(config).step(work).recomputed(forward) == forward.total
    assert count_flops(config, Trained(("vision",))).step(work).recomputed(forward) == forward.total - forward.vision


def test_counting_leaves_the_configuration_as_it_is():
    model = tiny_model(moe=True)
    chosen = model.config.text_config._experts_implementation, model.config.text_config._attn_implementation
    count_flops(model.config)
    assert (model.config.text_config._experts_implementation, model.config.text_config._attn_implementation) == chosen


def test_documents_see_only_their_own_past():
    assert Work.of_documents([3, 1], predicted=2, images=0) == Work(tokens=4, pairs=7, predicted=2, images=0)


def test_a_step_of_3b_is_what_six_operations_for_parameter_and_token_give():
    work = full_work(registry.get("mm1_3b").sequence, 512)
    flops = flops_of_recipe("mm1_3b").step(work)
    assert flops.decoder == pytest.approx(6 * 2.617e9 * 512 * 4096, rel=0.001)
    assert 0.5 < flops.decoder / flops.total < 0.8
    # Two of 64 experts instead of one layer: half of the feed-forward layers cost twice as much.
    sparse = flops_of_recipe("mm1_3b_moe").step(work)
    assert sparse.decoder / flops.decoder == pytest.approx(1.375, rel=0.01)
    assert (sparse.vision, sparse.attention, sparse.output) == (flops.vision, flops.attention, flops.output)


def test_utilisation_and_peaks():
    assert utilisation(flops=4e15, seconds=2.0, devices=4, peak=1e15) == 0.5
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S", "Tesla T4")
    assert [peak_flops(name) for name in names] == [989e12, 756e12, 312e12, 362e12, None]


def test_a_full_sequence_holds_as_many_images_as_fit():
    assert full_work(registry.get("mm1_sft").sequence, 1) == Work(2048, 2048 * 2049 // 2, 2048 - 14 * 144, 14)
