"""The tokenizer alone gives a chat the ids of the processor, and both those of the training."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mm1.modeling.export import export
from mm1.modeling.processing import MM1Processor, build_processor
from mm1.modeling.tokenization import ROLES, tokenize_as_in_training
from tests.support.tiny_mm1 import tiny_mm1, tiny_tokenizer
from tests.support.tiny_model import SPECIAL_TOKENS, TEXTS

QWEN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def pre_tokenizer(kind: str) -> Any:
    if kind == "qwen":
        split = pre_tokenizers.Split(Regex(QWEN), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return pre_tokenizers.ByteLevel(add_prefix_space=kind == "own")


@cache
def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer with its own pre-tokenizer, and a beginning of a text that it would add."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer(kind)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([*TEXTS, "user\nwhat", "\n\n"] * 10, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>", extra_special_tokens=SPECIAL_TOKENS[1:]
    )


@cache
def pair(kind: str) -> tuple[Tokenizer, MM1Processor]:
    """The tokenizer as the training has it, and the processor with its copy."""
    original = Tokenizer.from_str(tokenizer(kind).backend_tokenizer.to_str())
    return original, build_processor(tokenizer(kind), image_tokens=4, image_size=16)


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="<|"), max_size=12)
CONTENT = st.one_of(PLAIN, st.sampled_from(["user\nwhat is it ?", "\nred", " red", "assistant\n", "what colour is the ring ?"]))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["own", "gpt2", "qwen"]), st.lists(st.tuples(st.sampled_from(ROLES), CONTENT), min_size=1, max_size=4))
def test_a_chat_has_the_ids_of_the_training(kind: str, turns: list[tuple[str, str]]) -> None:
    original, processor = pair(kind)
    chat = [{"role": role, "content": content} for role, content in turns]
    pieces = [piece for role, content in turns for piece in (f"<|im_start|>{role}\n", f"{content}<|im_end|>\n")]
    pieces.append("<|im_start|>assistant\n")
    trained = [token for piece in pieces for token in original.encode(piece, add_special_tokens=False).ids]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert processor.encode(text) == trained
    assert processor.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == trained


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["own", "gpt2", "qwen"]), CONTENT)
def test_a_plain_text_has_the_ids_of_the_training(kind: str, text: str) -> None:
    original, processor = pair(kind)
    trained = original.encode(text, add_special_tokens=False).ids
    assert processor(text=text, return_tensors=None)["input_ids"] == [trained]
    if not text.startswith(tuple(f"{role}\n" for role in ROLES)):
        assert processor.tokenizer(text)["input_ids"] == trained  # nothing is added


def test_a_tokenizer_is_changed_once() -> None:
    made = tiny_tokenizer()
    tokenize_as_in_training(made, "x")
    state = made.backend_tokenizer.pre_tokenizer.__getstate__()
    tokenize_as_in_training(made, "y")
    assert made.backend_tokenizer.pre_tokenizer.__getstate__() == state and made.chat_template == "y"


@pytest.mark.parametrize("kind", ["own", "gpt2", "qwen"])
def test_transformers_reads_the_exported_tokenizer_as_it_is(kind: str, tmp_path: Path) -> None:
    model, _ = tiny_mm1()
    _, processor = pair(kind)
    model.resize_token_embeddings(len(processor.tokenizer))
    loaded = AutoTokenizer.from_pretrained(export(model, processor, tmp_path))  # no remote code
    chat = [{"role": "user", "content": "what is it ?"}]
    expected = processor.tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert loaded.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == expected
    assert loaded("a red ring")["input_ids"] == processor.encode("a red ring")
