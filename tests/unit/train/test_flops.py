"""The formulas against torch's own counter, which looks at each operation as it is done."""

import subprocess
import sys

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.modeling.losses import IGNORED_LABEL, next_token_targets
from mm1.recipes import registry
from mm1.train.flops import Work, full_work, peak_flops, sizes_of_model, sizes_of_run, step_flops, utilisation
from mm1.train.model import model_config
from tests.support.tiny_model import packed_batch, tiny_model

LENGTHS = [[20, 9, 11], [40]]


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


@pytest.mark.parametrize("moe", [False, True])
@pytest.mark.parametrize("connector", ["average_pool", "attention_pool"])
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_a_step_is_counted_to_the_last_operation(connector, vision, moe):
    model = tiny_model(connector, vision, moe)
    batch = packed_batch(LENGTHS)
    assert step_flops(sizes_of_model(model.config), work_of(batch)).total == counted(model, batch, backward=True)


def test_the_c_abstractor_is_counted_to_the_last_operation():
    # Forward only, a third of a step but for the patches: torch's formula of a grouped convolution's backward is wrong.
    model = tiny_model("c_abstractor", connector_depth=2)
    batch = packed_batch(LENGTHS)
    step = step_flops(sizes_of_model(model.config), work_of(batch)).total
    patches = len(batch["pixel_values"]) * 2 * 16 * (3 * 4 * 4) * 32
    assert (step + patches) / 3 == counted(model, batch, backward=False)


def test_documents_see_only_their_own_past():
    assert Work.of_documents([3, 1], predicted=2, images=0) == Work(tokens=4, pairs=7, predicted=2, images=0)


def test_recipe_and_built_model_have_the_same_sizes():
    for name in ("mm1_1b", "mm1_7b_moe"):
        config = registry.get(name)
        work = full_work(config.sequence, config.train.global_batch)
        assert step_flops(sizes_of_run(config), work) == step_flops(sizes_of_model(model_config(config)), work)


def test_a_step_of_3b_is_what_six_operations_for_parameter_and_token_give():
    config = registry.get("mm1_3b")
    flops = step_flops(sizes_of_run(config), full_work(config.sequence, 512))
    assert flops.decoder == pytest.approx(6 * 2.617e9 * 512 * 4096, rel=0.001)
    assert 0.5 < flops.decoder / flops.total < 0.8
    # Two of 64 experts instead of one layer: half of the feed-forward layers cost twice as much.
    sparse = step_flops(sizes_of_run(registry.get("mm1_3b_moe")), full_work(config.sequence, 512))
    assert sparse.decoder / flops.decoder == pytest.approx(1.375, rel=0.01)
    assert (sparse.vision, sparse.attention, sparse.output) == (flops.vision, flops.attention, flops.output)


def test_utilisation_and_peaks():
    assert utilisation(flops=4e15, seconds=2.0, devices=4, peak=1e15) == 0.5
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S", "Tesla T4")
    assert [peak_flops(name) for name in names] == [989e12, 756e12, 312e12, 362e12, None]


def test_sizes_that_stand_elsewhere_are_refused():
    with pytest.raises(ConfigurationError, match="mm1_sft leaves sizes"):
        sizes_of_run(registry.get("mm1_sft"))
    open_vocabulary = resolve(registry.get("mm1_1b"), ["model.decoder.vocab_size=0"])
    with pytest.raises(ConfigurationError, match="vocabulary to the tokenizer"):
        sizes_of_run(open_vocabulary)
    assert sizes_of_run(open_vocabulary, 49_152) == sizes_of_run(registry.get("mm1_1b"))


def test_counting_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import mm1.train.flops; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "model"})


def test_a_full_sequence_holds_as_many_images_as_fit():
    assert full_work(registry.get("mm1_sft").sequence, 1) == Work(2048, 2048 * 2049 // 2, 2048 - 14 * 144, 14)
