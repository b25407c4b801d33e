"""A tokenizer that gives the ids of the training by itself: of a chat template's text, and without special tokens of its own.

In training, the header of a turn ("<|im_start|>user" and its newline) and the text after it are tokenised separately, see
processing.py. The tokenizer alone would merge across that border, or miss the space before the first word, so that a chat with
plain `AutoTokenizer` would be a prompt that the model has never seen. Its pre-tokenizer therefore splits there, too.
"""

import json
import re
from typing import Any

from tokenizers import Regex, pre_tokenizers

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""Roles of turns. A header stands at the beginning of the text after the token that starts a turn."""
_HEADER = rf"\A(?:{'|'.join(ROLES)})\n"
_TURN_START = "<|im_start|>"
_TURN = re.compile(rf"({re.escape(_TURN_START)}(?:{'|'.join(ROLES)})\n)")


FAMILY_MARK = "{#- mm1: contents are text, with image tokens -#}"
"""Begins the chat template that a decoder's folder brought; its text is tokenised as it is, between images."""


def is_family_template(chat_template: str | None) -> bool:
    """Whether a chat template is that of a decoder's folder, not ChatML."""
    return (chat_template or "").startswith(FAMILY_MARK)


def special_texts(tokenizer: Any) -> list[str]:
    """Return the texts of all special tokens of a tokenizer, named or not."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return list(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *(str(token) for token in added if token.special)]))


def tokenize_as_in_training(tokenizer: Any, chat_template: str) -> None:
    """Change a tokenizer in place; one that has been changed before stays as it is.

    Args:
        tokenizer: a fast tokenizer of transformers.
        chat_template: Jinja template of a conversation.
    """
    tokenizer.chat_template = chat_template
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    original = backend.pre_tokenizer
    if is_family_template(chat_template):
        pass  # the tokenizer splits at special tokens, as in training
    elif original is None or json.dumps(_HEADER).strip('"') not in original.__getstate__().decode():
        header = pre_tokenizers.Split(Regex(_HEADER), behavior="isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([header] if original is None else [header, original])
    backend.post_processor = None  # it would add tokens at the beginning or the end, which documents in training do not have


def encode_pieces(tokenizer: Any, text: str) -> list[int]:
    """Tokenise a text without images: the header of a turn and the text after it separately.

    Args:
        tokenizer: a tokenizer that `tokenize_as_in_training` has changed.
        text: the text.

    Returns:
        The ids.
    """
    if is_family_template(tokenizer.chat_template):
        return list(tokenizer.encode(text, add_special_tokens=False)) if text else []
    return [token for piece in _TURN.split(text) if piece for token in _encode_piece(tokenizer, piece)]


def _encode_piece(tokenizer: Any, piece: str) -> list[int]:
    if not re.match(_HEADER, piece):
        return tokenizer.encode(piece, add_special_tokens=False)
    # A text such as "user" and a newline at its beginning is no header, but the tokenizer would split it, too. After a
    # header, it does not.
    header = f"{_TURN_START}{ROLES[0]}\n"
    ids = tokenizer.encode(header + piece, add_special_tokens=False)
    return ids[len(tokenizer.encode(header, add_special_tokens=False)) :]
