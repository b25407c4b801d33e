"""What is streamed of an answer is the whole answer, wherever tokens split its text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mm1.generation.detokenize import TextStream
from mm1.generation.stops import StopSearch
from mm1.generation.transcript import Transcript
from tests.support import tiny_mm1, tiny_model

STOP_ID = 3


def sentence_pieces() -> PreTrainedTokenizerFast:
    """A tokenizer in the form of Llama's: words with their space, bytes for what has no piece; the first space is dropped."""
    pieces = ["<unk>", "</s>", "▁a", "▁b", "b", "▁", "é"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"small": tiny_mm1.tiny_tokenizer(), "bytes": tiny_model.tiny_tokenizer(), "pieces": sentence_pieces()}
BYTES = {"small": range(4, 260), "bytes": range(4, 260)}
"""Ids of single bytes, whose runs are characters or invalid."""


def ids_of(name: str) -> st.SearchStrategy[list[int]]:
    any_id = st.integers(0, len(TOKENIZERS[name]) - 1)
    return st.lists(any_id | st.sampled_from(BYTES[name]), max_size=40)


@pytest.mark.parametrize("name", BYTES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_tokens_one_by_one_give_the_text_of_all(name, data):
    tokenizer, ids = TOKENIZERS[name], data.draw(ids_of(name))
    stream = TextStream(tokenizer)
    final = ""
    for number, token in enumerate(ids, start=1):
        final += stream.push(token)
        assert final + stream.pending == tokenizer.decode(ids[:number], skip_special_tokens=True)


@settings(max_examples=150, deadline=None)
@given(text=st.text("ab é€\n🎉", max_size=30))
def test_text_of_pieces_and_bytes_is_the_text_of_all(text):
    """Only text: of a run of byte tokens with one invalid byte, this tokenizer replaces all that came before, too."""
    tokenizer = TOKENIZERS["pieces"]
    stream, ids = TextStream(tokenizer), tokenizer.encode(text, add_special_tokens=False)
    assert "".join(map(stream.push, ids)) + stream.pending == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("text", ["a € b", "naïve 你好 🎉🎉 ok", "\n\n  x\t"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_character_of_several_tokens_appears_whole(name, text):
    stream = TextStream(TOKENIZERS[name])
    parts = [stream.push(token) for token in TOKENIZERS[name].encode(text, add_special_tokens=False)]
    assert not any("\ufffd" in part for part in parts) and not stream.pending
    assert "".join(parts).strip() == text.strip()


@pytest.mark.parametrize("invalid", [False, True])
def test_the_cost_of_a_token_does_not_depend_on_the_length_of_the_answer(invalid):
    tokenizer, lengths = TOKENIZERS["bytes"], []

    class Counting:
        added_tokens_decoder = tokenizer.added_tokens_decoder

        def decode(self, ids, **options):
            lengths.append(len(ids))
            return tokenizer.decode(ids, **options)

    stream = TextStream(Counting())
    tokens = tokenizer.encode("red dax blue", add_special_tokens=False)
    lone = next(token for token in BYTES["bytes"] if tokenizer.decode([token]) == "\ufffd")
    for _ in range(200):
        for token in [lone, lone, lone] if invalid else tokens:
            stream.push(token)
    assert max(lengths) < 30


# -- stop strings -------------------------------------------------------------------------------------------------------


class Letters:
    """A tokenizer whose tokens are given pieces of text."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def decode(self, ids: list[int], **options: object) -> str:
        return "".join(self.pieces[token - STOP_ID - 1] for token in ids)


def first_stop(text: str, stops: list[str]) -> str | None:
    """What is before the stop string that is complete first; of several at once, the longest."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)]
    return None


pieces_ = st.lists(st.text("ab \n€", max_size=4), max_size=14)
stops_ = st.lists(st.text("ab \n", max_size=5), max_size=3)


@settings(max_examples=400, deadline=None)
@given(pieces=pieces_, stops=stops_, strip=st.booleans(), ends=st.booleans())
def test_the_stream_grows_to_the_whole_answer_for_any_split_and_any_stop(pieces, stops, strip, ends):
    tokens = [STOP_ID + 1 + n for n in range(len(pieces))] + [STOP_ID] * ends
    transcript = Transcript(Letters(pieces), frozenset({STOP_ID}), stops, max(1, len(pieces)), strip=strip)
    whole = "".join(pieces)
    cut = first_stop(whole, stops)
    expected = whole if cut is None else cut
    streamed, known = "", ""
    for token in tokens:
        if transcript.done:
            break
        transcript.push(token)
        known += pieces[token - STOP_ID - 1] if token != STOP_ID else ""
        assert transcript.certain_text.startswith(streamed)
        streamed = transcript.certain_text
        if not transcript.done:
            assert transcript.text == (known.strip() if strip else known)
            assert streamed == shown_at_once(known, stops, strip), "held back too much or too little"
    if tokens and transcript.done:
        assert streamed == (expected.strip() if strip else expected)
        assert transcript.completion(1).text == transcript.text == streamed
        assert transcript.finish_reason == ("stop" if cut is not None or not pieces else "length")


def shown_at_once(text: str, stops: list[str], strip: bool) -> str:
    """The text without an end that may become a stop string or be stripped."""
    held = max((n for stop in stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)
    certain = text[: len(text) - held]
    return certain.strip() if strip else certain


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("cyan , cyan", ["Question:"], "cyan , cyan"),  # shorter than the stop string
        ("Observation: x", ["Observation:"], ""),
        ("aab", ["aaab", "ab"], "a"),
        ("abc", ["bc", "abc"], ""),  # complete at the same character: the longest
        ("xaby", ["aby", "ab"], "x"),
        ("ababac", ["abac"], "ab"),
        ("x" * 5000 + "!", ["x" * 4000 + "y", "!"], "x" * 5000),
    ],
)
def test_stop_strings(text, stops, expected):
    search, position = StopSearch(stops), None
    for number, character in enumerate(text, start=1):
        cut = search.feed(character)
        if cut is not None:
            position = number - cut
            break
    assert (text if position is None else text[:position]) == expected
    cut = StopSearch(stops).feed(text)
    assert (text if cut is None else text[: len(text) - cut]) == expected


def test_an_answer_ends_at_its_limit_with_what_is_incomplete():
    tokenizer = TOKENIZERS["bytes"]
    euro = tokenizer.encode("€", add_special_tokens=False)
    transcript = Transcript(tokenizer, frozenset({0}), (), len(euro) - 1)
    for token in euro[:-1]:
        transcript.push(token)
        assert "\ufffd" not in transcript.certain_text or transcript.done
    assert transcript.finish_reason == "length"
    assert transcript.text == tokenizer.decode(euro[:-1]).strip()


def test_no_token_at_all():
    transcript = Transcript(TOKENIZERS["bytes"], frozenset({0}), (), 0)
    assert transcript.done and transcript.text == "" and transcript.finish_reason == "length"
