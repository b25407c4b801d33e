"""Rows of a batch come, go and grow without changing each other; prefixes are found again, and only equal ones."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import MistralConfig

from mm1.generation.cache import RowCache
from mm1.generation.decode import Decoder, DecodingState
from mm1.generation.encode import Encoded
from mm1.generation.prefix_cache import BLOCK_TOKENS, PrefixCache, block_names
from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import tiny_config, tiny_model


def decoders() -> dict[str, Decoder]:
    windowed = tiny_config()
    windowed.text_config = MistralConfig(**windowed.text_config.to_dict() | {"sliding_window": 6, "model_type": "mistral"})
    torch.manual_seed(0)
    return {
        "full attention": Decoder(tiny_model(), 64),
        "experts": Decoder(tiny_model(moe=True), 64),
        "sliding window": Decoder(MM1ForConditionalGeneration(windowed).eval(), 64),
    }


DECODERS = decoders()


def alone(decoder: Decoder, tokens: list[int]) -> torch.Tensor:
    """The logits after a sequence, without a cache."""
    with torch.no_grad():
        return decoder.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]


@pytest.mark.parametrize("name", DECODERS)
def test_rows_that_join_and_leave_do_not_change_the_others(name):
    decoder, rng = DECODERS[name], random.Random(2)
    rows: list[list[int]] = []
    state: DecodingState | None = None
    for _ in range(60):
        action = rng.choice(["join", "join", "leave", "token", "token", "token", "part", "select"])
        if state is None or action == "join":
            new = [[rng.randrange(5, 60) for _ in range(rng.choice([1, 3, 20, 50]))] for _ in range(rng.randint(1, 3))]
            joining = decoder.extend(new)
            for row, tokens in enumerate(new):
                if state is None:
                    state = DecodingState.of_row(joining.row(row), joining.last_BD[row])
                else:
                    state.add(joining.row(row), joining.last_BD[row])
                rows.append(tokens)
        elif action == "leave":
            row = rng.randrange(len(rows))
            rows[row] = rows[-1]
            rows.pop()
            state.remove(row)
            state = state if rows else None
        elif action == "select":
            chosen = [rng.randrange(len(rows)) for _ in range(rng.randint(1, 6))]
            state, rows = state.select(chosen), [list(rows[row]) for row in chosen]
        else:
            counts = [1 if action == "token" else rng.randint(0, 4) for _ in rows]
            new = [[rng.randrange(5, 60) for _ in range(count)] for count in counts]
            if any(new):
                state = decoder.extend(new, state=state)
                rows = [[*tokens, *more] for tokens, more in zip(rows, new, strict=True)]
        if state is not None:
            assert state.lengths == [len(tokens) for tokens in rows] and state.cache.columns == max(state.lengths)
            expected = torch.stack([alone(decoder, tokens) for tokens in rows])
            torch.testing.assert_close(decoder.logits(state.last_BD), expected, rtol=1e-3, atol=1e-3)


def test_a_pass_that_fails_leaves_the_state_as_it_was(monkeypatch):
    decoder = DECODERS["full attention"]
    state = decoder.extend([[5, 6, 7], [8]])
    layer = decoder.model.model.language_model.layers[1]
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decoder.extend([[9], [10]], state=state)
    state = decoder.extend([[9], [10]], state=state)
    expected = torch.stack([alone(decoder, [5, 6, 7, 9]), alone(decoder, [8, 10])])
    torch.testing.assert_close(decoder.logits(state.last_BD), expected, rtol=1e-3, atol=1e-3)


def test_the_earlier_tokens_are_not_copied_for_each_token():
    decoder = DECODERS["full attention"]
    state = decoder.extend([list(range(5, 55))])
    addresses = set()
    for _ in range(30):
        state = decoder.extend([[7]], state=state)
        addresses.add(state.cache.layers[0].keys.data_ptr())
    assert len(addresses) == 1 and state.cache.columns == 80


# -- prefixes -----------------------------------------------------------------------------------------------------------

IMAGE, PER_IMAGE = 1, 4


def names(tokens: list[int], *images: bytes) -> list[bytes]:
    return block_names(Encoded(tuple(tokens), images), IMAGE, PER_IMAGE)


def test_names_are_equal_for_equal_beginnings_and_no_others():
    text = list(range(5, 5 + 3 * BLOCK_TOKENS))
    assert len(names(text)) == 2, "the last token must be processed"
    assert names(text) == names([*text, 9])[:2] == names(text[:-1])
    assert names(text)[0] != names([6, *text])[0]
    changed = [*text[: BLOCK_TOKENS + 3], 60, *text[BLOCK_TOKENS + 4 :]]
    assert names(text)[0] == names(changed)[0] and names(text)[1] != names(changed)[1]


def test_the_same_tokens_with_another_image_are_another_beginning():
    tokens = [5, *[IMAGE] * PER_IMAGE, *range(6, 6 + 14), *[IMAGE] * PER_IMAGE, *range(6, 40)]  # an image over the edge
    first = names(tokens, b"a", b"b")
    assert first == names(tokens, b"a", b"b")
    assert not set(first) & set(names(tokens, b"c", b"b"))
    other = names(tokens, b"a", b"c")
    edge = (1 + PER_IMAGE + 14) // BLOCK_TOKENS
    assert first[:edge] == other[:edge] and not set(first[edge:]) & set(other[edge:])


def test_an_image_over_the_edge_of_a_block_counts_in_both():
    tokens = [*range(5, 5 + BLOCK_TOKENS - 2), *[IMAGE] * PER_IMAGE, *range(5, 40)]
    first, other = names(tokens, b"a"), names(tokens, b"b")
    assert first[0] != other[0] and first[1] != other[1]


def states(tokens: int) -> list[torch.Tensor]:
    return [torch.randn(2, tokens, 4) for _ in range(4)]


def test_blocks_are_kept_up_to_the_limit_ends_dropped_first():
    prompt = names(list(range(5, 6 + 4 * BLOCK_TOKENS)))
    block_bytes = 4 * 2 * BLOCK_TOKENS * 4 * 4
    cache, kept = PrefixCache(3 * block_bytes), states(4 * BLOCK_TOKENS)
    cache.store(prompt, 0, kept)
    assert cache.num_bytes == 3 * block_bytes and cache.match(prompt) == 3
    for whole, part in zip(kept, cache.states(prompt[:3]), strict=True):
        torch.testing.assert_close(part, whole[:, : 3 * BLOCK_TOKENS], rtol=0, atol=0)
    other = names(list(range(7, 8 + BLOCK_TOKENS)))
    cache.store(other, 0, states(BLOCK_TOKENS))
    assert cache.match(prompt) == 2 and cache.match(other) == 1
    assert cache.clear() and cache.num_bytes == 0 and not cache.clear()


def test_a_cache_of_no_bytes_keeps_nothing():
    cache, prompt = PrefixCache(0), names(list(range(5, 40)))
    cache.store(prompt, 0, states(32))
    assert cache.match(prompt) == 0 and cache.num_bytes == 0


def test_rows_of_any_lengths_end_at_the_same_column():
    rows = [states(3), states(7), states(0)]
    cache = RowCache.of_rows(rows)
    assert cache.columns == 7
    for row, tensors in enumerate(rows):
        length = tensors[0].shape[1]
        for part, tensor in zip(cache.row(row, 7 - length, 7), tensors, strict=True):
            torch.testing.assert_close(part, tensor, rtol=0, atol=0)
