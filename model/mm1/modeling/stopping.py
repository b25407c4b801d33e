"""Generation settings of a model: where an answer ends, which ids are never generated, and greedy decoding.

The server and the exported folder take them from here, so that `generate` of plain transformers ends where the server does.
"""

from typing import Any

from transformers import GenerationConfig

from .tokenization import is_family_template, special_texts

TURN_END_TOKEN = "<|im_end|>"
_ANSWER = "an answer"
MAX_NEW_TOKENS = 512
"""Default maximum length of an answer; without it, `generate` stops after 20 tokens."""


def stop_token_ids(tokenizer: Any, generation: GenerationConfig | None = None) -> list[int]:
    """Return the ids that end an answer: the end of a document, of a turn, and those that the decoder brought.

    Args:
        tokenizer: tokenizer of the model.
        generation: generation settings with `eos_token_id`, an id, several or None.

    Returns:
        Sorted ids that the tokenizer has.
    """
    brought = getattr(generation, "eos_token_id", None)
    ids = set(brought if isinstance(brought, list | tuple) else [brought])
    vocabulary = tokenizer.get_vocab()
    ids |= {tokenizer.eos_token_id, vocabulary.get(TURN_END_TOKEN), vocabulary.get(turn_end(tokenizer))}
    return sorted(ids & set(vocabulary.values()))


def turn_end(tokenizer: Any) -> str:
    """Return the special token that ends an answer in the chat template of a decoder's folder; empty if there is none."""
    if not is_family_template(tokenizer.chat_template):
        return ""
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    after = tokenizer.apply_chat_template(chat, tokenize=False).rpartition(_ANSWER)[2]
    starts = {token: start for token in special_texts(tokenizer) if token and (start := after.find(token)) >= 0}
    return min(starts, key=lambda token: (starts[token], -len(token)), default="")


def suppressed_token_ids(tokenizer: Any, config: Any) -> list[int]:
    """Return the ids that are never generated: the image token, and rows of the embedding without a token (parts.py)."""
    without_token = range(num_token_ids(tokenizer), config.text_config.vocab_size)
    return [config.image_token_id, *without_token]


def num_token_ids(tokenizer: Any) -> int:
    """Return the largest token id of a tokenizer plus one; a model's vocabulary may have more rows."""
    return 1 + max(tokenizer.get_vocab().values())


def generation_settings(model: Any, tokenizer: Any) -> GenerationConfig:
    """Return the generation settings of a model with its tokenizer.

    Sampling settings that a pretrained decoder brought are dropped: MM1 answers greedily unless it is asked not to.

    Args:
        model: the model; its own settings may have further ends of an answer.
        tokenizer: its tokenizer.

    Returns:
        Greedy decoding of at most MAX_NEW_TOKENS, and at most half of the context.
    """
    stops = stop_token_ids(tokenizer, model.generation_config)
    fields = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": stops or None,
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(stops), None),
        "suppress_tokens": suppressed_token_ids(tokenizer, model.config),
        "do_sample": False,
    }
    context = getattr(model.config.text_config, "max_position_embeddings", None) or 2 * MAX_NEW_TOKENS
    fields["max_new_tokens"] = max(1, min(MAX_NEW_TOKENS, context // 2))
    return GenerationConfig(**fields)
