"""Tokenizers: train a byte-level BPE, adopt a Hugging Face folder, encode text. Needs neither torch nor transformers.

    texts -> train_bpe -> folder (tokenizer.json, tokenizer_config.json) -> TextTokenizer.from_folder -> ids
    external folder -> adopt_folder (adds missing image and chat tokens) -> folder -> ...

The trained BPE adds a space before each text (``add_prefix_space``), so a word has the same token at any position. Its special
tokens are ``<|endoftext|>`` (0: end of document, padding), ``<image>`` (1), ``<|im_start|>`` (2), ``<|im_end|>`` (3).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mm1.data.chat import IMAGE_TOKEN, MARK, ChatTemplate
from mm1.errors import ConfigurationError, DataError
from mm1.store.base import BlobRef, Store

EOS_TOKEN = "<|endoftext|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (EOS_TOKEN, IMAGE_TOKEN, TURN_START, TURN_END)
MIN_VOCABULARY = 256 + len(SPECIAL_TOKENS)
"""Number of byte values plus special tokens."""
TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
"""Tokenizer files in a Hugging Face folder."""
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""ChatML (Jinja)."""


class TextTokenizer:
    """A tokenizer with the special token IDs for data preparation and loading.

    Attributes:
        eos_id: end-of-document token, also used for padding.
        image_id: image placeholder token.
        vocabulary_size: number of token IDs.
    """

    def __init__(self, tokenizer: Tokenizer, eos_token: str) -> None:
        """Wrap a tokenizer.

        Raises:
            ConfigurationError: the end-of-document or image token is missing.
        """
        self.tokenizer = tokenizer
        self.eos_id = self._id(eos_token)
        self.image_id = self._id(IMAGE_TOKEN)
        self.vocabulary_size = int(tokenizer.get_vocab_size(with_added_tokens=True))

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """Load a Hugging Face folder.

        Raises:
            ConfigurationError: no fast tokenizer in the folder, or a required token is missing.
        """
        if not (folder / TOKENIZER_FILE).is_file():
            raise ConfigurationError(f"tokenizer: no {TOKENIZER_FILE} (Hugging Face fast tokenizer) in {folder}")
        return cls._parse((folder / TOKENIZER_FILE).read_text(), _read_config(folder), str(folder))

    @classmethod
    def from_store(cls, store: Store, files: Mapping[str, BlobRef]) -> TextTokenizer:
        """Load a tokenizer folder from a store."""
        if TOKENIZER_FILE not in files:
            raise DataError(f"the manifest's tokenizer has no {TOKENIZER_FILE}")
        config = json.loads(store.get_bytes(files[CONFIG_FILE])) if CONFIG_FILE in files else {}
        return cls._parse(store.get_bytes(files[TOKENIZER_FILE]).decode(), config, "the manifest's tokenizer")

    @classmethod
    def _parse(cls, text: str, config: dict[str, Any], where: str) -> TextTokenizer:
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 - the library raises plain Exception for any error in the file
            raise ConfigurationError(f"tokenizer: cannot read {where}: {error}") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, eos_token_of(config, where))

    def _id(self, token: str) -> int:
        token_id = self.tokenizer.token_to_id(token)
        if token_id is None:
            raise ConfigurationError(f"tokenizer: token {token!r} is missing from the vocabulary")
        return int(token_id)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode each text separately, without adding special tokens."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def pieces(self, text: str) -> list[str]:
        """Split a text into the pieces of its tokens (a token for part of a character counts as the whole character)."""
        pieces, end = [], 0
        for _, stop in self.tokenizer.encode(text, add_special_tokens=False).offsets:
            pieces.append(text[end:stop])
            end = max(end, stop)
        return [piece for piece in pieces if piece]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode IDs, including special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def reserved_texts(self) -> tuple[str, ...]:
        """Return the texts that would be parsed as special tokens; raw text must not contain them."""
        added = self.tokenizer.get_added_tokens_decoder()
        return tuple(sorted(token.content for token in added.values() if token.special))


def train_bpe(texts: Iterable[str], folder: Path, vocabulary: int) -> Path:
    """Train a byte-level BPE and write its Hugging Face folder; the same texts give the same bytes.

    Args:
        texts: training texts.
        folder: output folder, created here.
        vocabulary: total number of tokens, at least 260 (bytes and special tokens).

    Returns:
        The folder.

    Raises:
        ConfigurationError: the vocabulary is too small.
    """
    if vocabulary < MIN_VOCABULARY:
        raise ConfigurationError(f"vocabulary: expected at least {MIN_VOCABULARY} for a byte-level BPE, got {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True) + "\n")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True}
    _write_config(folder, config | _our_settings(EOS_TOKEN))
    return folder


def adopt_folder(source: Path, folder: Path) -> Path:
    """Copy a Hugging Face tokenizer and add missing image and chat tokens.

    Its own chat template is kept: a decoder goes on with the turns that it knows. A folder without one gets ChatML.

    Args:
        source: the external folder; its other files (weights) are not copied.
        folder: output folder, created here.

    Returns:
        The copy.

    Raises:
        ConfigurationError: no fast tokenizer in the folder, no end-of-text token is configured, or its chat template cannot be
            used for training.
    """
    if not (source / TOKENIZER_FILE).is_file():
        raise ConfigurationError(f"tokenizer: no {TOKENIZER_FILE} (Hugging Face fast tokenizer) in {source}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    config = _read_config(folder)
    template = _family_template(folder, config)
    eos_token = eos_token_of(config, str(source))
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # noqa: BLE001 - the library raises plain Exception for any error in the file
        raise ConfigurationError(f"tokenizer: cannot read {source}/{TOKENIZER_FILE}: {error}") from None
    if tokenizer.token_to_id(eos_token) is None:
        raise ConfigurationError(f"tokenizer: the eos_token {eos_token!r} of {source} is not in its vocabulary")
    needed = (IMAGE_TOKEN,) if template else SPECIAL_TOKENS[1:]
    missing = [token for token in needed if tokenizer.token_to_id(token) is None]
    if missing:
        tokenizer.add_special_tokens(missing)
        (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True) + "\n")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    _write_config(folder, config | _our_settings(eos_token) | ({"chat_template": template} if template else {}))
    if (own := family_template(folder)) is not None:
        own.check()
    return folder


def family_template(folder: Path) -> ChatTemplate | None:
    """Return the chat template that a tokenizer's folder brought, as adopted; None for ChatML."""
    config = _read_config(folder)
    text = str(config.get("chat_template") or "")
    if not text.startswith(MARK):
        return None
    return ChatTemplate(text, _named_tokens(config), TextTokenizer.from_folder(folder).reserved_texts())


def _family_template(folder: Path, config: Mapping[str, Any]) -> str:
    """Return the template of a folder with contents as text; empty for ChatML, which also folders without a template get."""
    path, value = folder / "chat_template.jinja", config.get("chat_template")
    if path.is_file():
        value = path.read_text(encoding="utf-8")
    elif isinstance(value, list):  # several with names
        value = next((item.get("template") for item in value if item.get("name") == "default"), None)
    if not isinstance(value, str) or not value.strip() or _unescaped(value) == _unescaped(CHAT_TEMPLATE):
        return ""
    return value if value.startswith(MARK) else ChatTemplate(value, _named_tokens(config), ()).adopted().text


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that a template may name."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {name: _text_of(config[name]) for name in names if config.get(name)}


def _unescaped(template: str) -> str:
    return template.replace("\\n", "\n").strip()


def _text_of(token: Any) -> str:
    return str(token.get("content") if isinstance(token, dict) else token)


def eos_token_of(config: Mapping[str, Any], where: str) -> str:
    """Read the end-of-text token from a ``tokenizer_config.json``.

    Raises:
        ConfigurationError: it is not set.
    """
    token = config.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if not token:
        raise ConfigurationError(f"tokenizer: no eos_token in the {CONFIG_FILE} of {where}")
    return str(token)


def _our_settings(eos_token: str) -> dict[str, Any]:
    return {
        "eos_token": eos_token,
        "pad_token": eos_token,
        "image_token": IMAGE_TOKEN,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except ValueError as error:
        raise ConfigurationError(f"tokenizer: {path} is not valid JSON: {error}") from None


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, indent=2)
    (folder / CONFIG_FILE).write_text(text + "\n")
