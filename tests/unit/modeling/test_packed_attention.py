"""Documents of one sequence do not see each other; padding and caches behave as everywhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, GPT2Config, LlamaConfig, MixtralConfig, OPTConfig
from transformers.masking_utils import sdpa_mask

from mm1.modeling import attention
from mm1.modeling.attention import PACKED_ATTENTION, PackedLayout, packed_attention_forward
from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import packed_batch, tiny_config, tiny_model

EVERY_CALL_FREE, NO_CALL_WORTH_IT = 0, 10**12
ROWS = [[11, 9, 12], [20, 5, 3]]  # the second row ends in padding


@pytest.fixture(params=["documents", "mask"])
def strategy(request, monkeypatch):
    cost = EVERY_CALL_FREE if request.param == "documents" else NO_CALL_WORTH_IT
    monkeypatch.setattr(attention, "_UNITS_PER_CALL", cost)
    return request.param


class _Layer(torch.nn.Module):
    is_causal = True

    def __init__(self, groups):
        super().__init__()
        self.num_key_value_groups = groups


def _document_ids(rows):
    return packed_batch(rows, images=False)["document_ids"]


def _reference(query, key, value, layout, window=None):
    """Attention of each document alone, by the definition."""
    key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    rows = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    outputs = []
    for pieces in zip(*(states.split(layout.lengths) for states in rows), strict=True):
        query_HLE, key_HLE, value_HLE = (piece.transpose(0, 1) for piece in pieces)
        scores = query_HLE @ key_HLE.transpose(1, 2) / query.shape[-1] ** 0.5
        length = scores.shape[-1]
        visible = torch.ones(length, length, dtype=torch.bool).tril()
        if window is not None:
            visible &= ~torch.ones(length, length, dtype=torch.bool).tril(-window)
        outputs.append((scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value_HLE).transpose(0, 1))
    return torch.cat(outputs).unflatten(0, layout.shape)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.sampled_from([None, 3, 100]),
    cost=st.sampled_from([EVERY_CALL_FREE, NO_CALL_WORTH_IT]),
)
def test_it_is_the_attention_of_each_document_alone(rows, kv_heads, window, cost):
    layout = PackedLayout(_document_ids(rows))
    batch, length = layout.shape
    query = torch.randn(batch, length, 4, 8).transpose(1, 2)
    key, value = (torch.randn(batch, length, kv_heads, 8).transpose(1, 2) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_UNITS_PER_CALL", cost)
        output, _ = packed_attention_forward(
            _Layer(4 // kv_heads), query, key, value, layout.placeholder, packed=layout, sliding_window=window
        )
    torch.testing.assert_close(output, _reference(query, key, value, layout, window), atol=1e-5, rtol=1e-5)


def test_the_layout_says_where_documents_are():
    layout = PackedLayout(_document_ids([[3, 2], [4]]))
    assert layout.lengths == [3, 2, 4, 1]  # the last is padding
    assert layout.offsets.tolist() == [0, 3, 5, 9, 10]
    assert layout.max_length == 4
    assert not layout.mask()[0, 0, 3, 2] and layout.mask()[0, 0, 4, 3] and not layout.mask()[0, 0, 3, 4]
    assert torch.equal(layout.bias(torch.float32) == 0, layout.mask())


def test_few_long_documents_go_one_by_one_and_many_short_ones_together():
    assert PackedLayout(_document_ids([[205] * 20])).prefers_documents(heads=8, head_size=64)
    assert not PackedLayout(_document_ids([[11] * 11 + [7]] * 16)).prefers_documents(heads=3, head_size=32)


def _assert_documents_are_as_alone(model, rows):
    batch, image = packed_batch(rows), 0
    batch.pop("labels")
    packed = model(**batch).logits
    for row, lengths in enumerate(rows):
        start = 0
        for length in lengths:
            ids = batch["input_ids"][row : row + 1, start : start + length]
            has_image = bool((ids == 1).any())
            alone = model(input_ids=ids, pixel_values=batch["pixel_values"][image : image + 1] if has_image else None)
            image += has_image
            torch.testing.assert_close(packed[row : row + 1, start : start + length], alone.logits, atol=1e-5, rtol=1e-5)
            start += length


@pytest.mark.parametrize("moe", [False, True])
def test_a_packed_document_is_as_alone(strategy, moe):
    _assert_documents_are_as_alone(tiny_model(moe=moe), ROWS)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=3),
    cost=st.sampled_from([EVERY_CALL_FREE, NO_CALL_WORTH_IT]),
    moe=st.booleans(),
)
def test_documents_of_any_lengths_are_as_alone(rows, cost, moe):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(attention, "_UNITS_PER_CALL", cost)
        _assert_documents_are_as_alone(tiny_model(moe=moe), rows)


@pytest.mark.parametrize("moe", [False, True])
def test_neighbours_change_no_bit_of_a_document(strategy, moe):
    model, batch = tiny_model(moe=moe), packed_batch(ROWS)
    batch.pop("labels")
    before = model(**batch).logits
    changed = batch["input_ids"].clone()
    changed[0, 15:20] = changed[0, 15:20] % 60 + 4  # the middle document of the first row
    pixels = batch["pixel_values"].clone()
    pixels[1] += 1
    after = model(**{**batch, "input_ids": changed, "pixel_values": pixels}).logits
    assert not torch.equal(before[0, 11:20], after[0, 11:20])
    # The same bits; but how a product over an expert's rows rounds may depend on the number of rows.
    tolerance = 1e-6 if moe else 0
    for kept in ((0, slice(0, 11)), (0, slice(20, None)), (1,)):
        torch.testing.assert_close(after[kept], before[kept], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("moe", [False, True])
def test_a_documents_loss_has_no_gradient_from_its_neighbours(strategy, moe, checkpointing):
    model, batch = tiny_model(moe=moe).train(), packed_batch(ROWS, images=False)
    if checkpointing:
        model.gradient_checkpointing_enable()
    embeds = model.get_input_embeddings()(batch.pop("input_ids")).detach().requires_grad_()
    labels = torch.full_like(batch["labels"], -100)
    labels[0, 11:20] = batch["labels"][0, 11:20]
    # not `loss`: the losses of the routers are about all tokens together
    model(inputs_embeds=embeds, **{**batch, "labels": labels}).token_loss.backward()
    assert embeds.grad[0, 11:20].abs().sum() > 0
    assert torch.equal(embeds.grad[0, :11], torch.zeros_like(embeds.grad[0, :11]))
    assert torch.equal(embeds.grad[0, 20:], torch.zeros_like(embeds.grad[0, 20:]))
    assert torch.equal(embeds.grad[1], torch.zeros_like(embeds.grad[1]))


@pytest.mark.parametrize("moe", [False, True])
def test_gradient_checkpointing_changes_nothing(strategy, moe):
    model, batch = tiny_model(moe=moe), packed_batch(ROWS)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train().zero_grad()
        model(**batch).loss.backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_other_attention_implementations_isolate_too(implementation):
    model, batch = tiny_model(), packed_batch(ROWS)
    expected = model(**batch).loss
    model.set_attn_implementation(implementation)
    torch.testing.assert_close(model(**batch).loss, expected)


def test_restarting_positions_alone_do_not_leak():
    """Stock transformers leaks here unless cache and mask are both off."""
    model, batch = tiny_model(), packed_batch([[11, 9, 12], [20, 5, 7]])
    batch.pop("labels")
    expected = model(**batch).logits
    batch.pop("document_ids")
    torch.testing.assert_close(model(**batch).logits, expected)
    torch.testing.assert_close(model(**batch, attention_mask=torch.ones_like(batch["input_ids"])).logits, expected)


def test_packed_documents_refuse_a_cache():
    model, batch = tiny_model(), packed_batch(ROWS)
    with pytest.raises(ValueError, match=r"document_ids.*cache"):
        model(**batch, use_cache=True)


def test_flash_attention_is_refused_for_packed_documents():
    model, batch = tiny_model(), packed_batch(ROWS)
    model.model.language_model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ValueError, match="mm1_packed"):
        model(**batch)


def _prompt():
    ids = torch.randint(4, 64, (1, 10), generator=torch.Generator().manual_seed(3))
    ids[0, :4] = 1
    return ids, torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def _generate(model, ids, pixels, **kwargs):
    mask = kwargs.pop("attention_mask", torch.ones_like(ids))
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **kwargs}
    return model.generate(input_ids=ids, pixel_values=pixels, attention_mask=mask, **options)[:, ids.shape[1] :]


@pytest.mark.parametrize("moe", [False, True])
def test_left_padding_and_cache_do_not_change_an_answer(moe):
    model, (ids, pixels) = tiny_model(moe=moe), _prompt()
    expected = _generate(model, ids, pixels)
    assert expected.unique().numel() > 2
    padded = F.pad(ids, (5, 0))
    mask = (torch.arange(15) >= 5).long()[None]
    assert torch.equal(_generate(model, padded, pixels, attention_mask=mask), expected)
    alone = model(input_ids=ids, pixel_values=pixels).logits
    beside = model(
        input_ids=padded, pixel_values=pixels, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(0)
    ).logits
    torch.testing.assert_close(beside[:, 5:], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(_generate(model, ids, pixels, use_cache=False), expected)
    assert torch.equal(_generate(model, ids, pixels, cache_implementation="static"), expected)


def test_rows_of_different_lengths_and_images_generate_together():
    model, (ids, pixels) = tiny_model(), _prompt()
    longer = torch.cat([ids, torch.tensor([[7, 8]]), ids], dim=1)
    both = torch.cat([F.pad(ids, (longer.shape[1] - 10, 0)), longer])
    mask = (both != 0).long()
    pixels_3 = torch.cat([pixels, pixels + 1, pixels - 1])
    together = _generate(model, both, pixels_3, attention_mask=mask)
    assert torch.equal(together[:1], _generate(model, ids, pixels))
    assert torch.equal(together[1:], _generate(model, longer, pixels_3[1:]))
    # beams repeat each row with its own images
    beams = _generate(model, both, pixels_3, attention_mask=mask, num_beams=2)
    assert torch.equal(beams[1:], _generate(model, longer, pixels_3[1:], num_beams=2))


def test_sliding_window_layers_see_their_window_inside_a_document(strategy):
    text = {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}
    assert tiny_config(text=text).text_config.layer_types == ["sliding_attention"] * 2
    model, batch = tiny_model(text=text), packed_batch([[12, 8]], images=False)
    batch.pop("labels")
    packed = model(**batch).logits
    alone = model(input_ids=batch["input_ids"][:, 12:]).logits
    torch.testing.assert_close(packed[:, 12:], alone, atol=1e-5, rtol=1e-5)
    changed = batch["input_ids"].clone()
    changed[0, 0] = changed[0, 0] % 60 + 4
    assert torch.equal(model(**{**batch, "input_ids": changed}).logits[0, 7:12], packed[0, 7:12])  # 2 layers x 3 back


@pytest.mark.parametrize("decoder", [GPT2Config, LlamaConfig, MixtralConfig, OPTConfig])
def test_other_decoders_isolate_documents(decoder):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    extra = {"intermediate_size": 48, "num_key_value_heads": 2} if decoder in (LlamaConfig, MixtralConfig) else {}
    extra |= {"ffn_dim": 48, "word_embed_proj_dim": 32} if decoder is OPTConfig else {}
    torch.manual_seed(0)
    config = decoder(**shape, **extra, initializer_range=0.2)
    model = MM1ForConditionalGeneration(
        MM1Config(vision_config=tiny_config().vision_config, text_config=config, image_tokens=4)
    ).eval()
    batch = packed_batch([[8, 6], [5, 9]], images=False)
    batch.pop("labels")
    before = model(**batch).logits
    changed = batch["input_ids"].clone()
    changed[0, :8] = changed[0, :8] % 60 + 4
    after = model(**{**batch, "input_ids": changed}).logits
    assert not torch.equal(before[0, :8], after[0, :8])
    torch.testing.assert_close(before[0, 8:], after[0, 8:], atol=1e-6, rtol=1e-6)


def test_both_interfaces_know_the_name():
    """A name without a mask function gets no mask, and padded generation is then silently wrong.

    Code of an exported folder, loaded by another test of this process, registers its own copy.
    """
    assert AttentionInterface()[PACKED_ATTENTION].__name__ == packed_attention_forward.__name__
    assert AttentionMaskInterface()[PACKED_ATTENTION] is sdpa_mask


@pytest.mark.parametrize("moe", [False, True])
def test_documents_are_as_alone_under_autocast(strategy, moe):
    """Queries and keys come out of their norms in single precision there."""
    model, batch = tiny_model(moe=moe), packed_batch([[8, 6]], images=False)
    batch.pop("labels")
    with torch.autocast("cpu", torch.bfloat16):
        packed = model(**batch).logits
        alone = model(input_ids=batch["input_ids"][:, 8:]).logits
        changed = batch["input_ids"].clone()
        changed[0, :8] = changed[0, :8] % 60 + 4
        after = model(**{**batch, "input_ids": changed}).logits
    assert (packed[:, 8:] - alone).abs().max() <= 0.05 * alone.abs().max()
    torch.testing.assert_close(after[:, 8:], packed[:, 8:], atol=1e-2 if moe else 0, rtol=0)


def test_autocast_decides_the_type_of_attention(strategy):
    layout, states = PackedLayout(_document_ids(ROWS)), torch.randn(3, 2, 32, 4, 8).transpose(2, 3)
    mixed = [states[0], states[1], states[2].bfloat16()]
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = packed_attention_forward(_Layer(1), *mixed, layout.placeholder, packed=layout)
    exact, _ = packed_attention_forward(_Layer(1), *states.bfloat16(), layout.placeholder, packed=layout)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, exact)
    # SDPA casts by itself; the choice of a kernel and the mask, made before, must know the type too
    assert torch.float32 not in {dtype for dtype, _ in layout._masks}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch's variable-length attention runs on CUDA only")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_variable_length_attention_on_cuda_is_the_same(window, kv_heads, autocast):
    layout = PackedLayout(_document_ids(ROWS).cuda())
    batch, length = layout.shape
    dtype = torch.float32 if autocast else torch.bfloat16
    query = torch.randn(batch, length, 4, 32, device="cuda", dtype=dtype).transpose(1, 2)
    key, value = (torch.randn(batch, length, kv_heads, 32, device="cuda", dtype=dtype).transpose(1, 2) for _ in range(2))
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        output, _ = packed_attention_forward(
            _Layer(4 // kv_heads), query, key, value, layout.placeholder, packed=layout, sliding_window=window
        )
    assert output.dtype == torch.bfloat16
    expected = _reference(query.float().cpu(), key.float().cpu(), value.float().cpu(), layout, window)
    torch.testing.assert_close(output.float().cpu(), expected, atol=2e-2, rtol=2e-2)
