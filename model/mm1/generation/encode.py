"""Encoding of prompts to token ids and image features.

    text segment  -> processor, each segment separately -> token ids
    image segment -> its tiles, by the processor's layout -> an image segment each
    image segment -> decode, processor, vision tower, connector -> features_NKD (cached for images that occur again)

Names of dimensions: N images (an image in tiles is several), K tokens of an image, D width of the decoder; H, W height and
width of an image.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from PIL import Image as PillowImage

from mm1.data.images import Pixels
from mm1.errors import ConfigurationError
from mm1.generation.chat import chat_prompt
from mm1.generation.config import BatchSettings
from mm1.generation.images import bytes_of, key_of, read_image, read_pixels, read_tiles
from mm1.generation.prompt import AnyPrompt, Conversation, Image, Prompt, Request, Segment, TokenIds
from mm1.generation.tiles import PromptDivision, Tile, count_images
from mm1.modeling.stopping import num_token_ids

_SHORT_TEXT = 1024
"""Characters of a text whose tokens are kept for the next time; longer ones would fill the memory of a server."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as input of the model."""

    tokens: tuple[int, ...]
    """Token ids; an image, or a tile, is `image_tokens` times the image token."""
    images: tuple[Image, ...]
    """Images of the prompt, in order; the tiles of an image one by one."""


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image that was decoded before its turn; it shares the features of its encoded bytes."""

    image: Image
    pixels: Pixels
    """uint8 (height, width, 3), at the size that the vision tower takes."""

    def read_bytes(self) -> bytes:
        """Return the encoded image."""
        return bytes_of(self.image)

    def __str__(self) -> str:
        return key_of(self.image)


class PromptEncoder:
    """Tokenises prompts and encodes their images, each image once while it is in the cache.

    Args:
        model: an `MM1ForConditionalGeneration`.
        processor: an `MM1Processor`.
        settings: image batch size and cache size.
    """

    def __init__(self, model: Any, processor: Any, settings: BatchSettings) -> None:
        self.model = model
        self.processor = processor
        self.image_token_id = int(model.config.image_token_id)
        self.image_tokens = int(model.config.image_tokens)
        self.num_token_ids = num_token_ids(processor.tokenizer)
        self.context: int | None = getattr(model.config.text_config, "max_position_embeddings", None)
        self.longest_token = max(map(len, processor.tokenizer.get_vocab()))
        self.settings = settings
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._cached_bytes = 0
        self._tokenize_short = lru_cache(maxsize=2048)(self._tokenize)
        self._read_tiles: Any = lru_cache(maxsize=2)(read_tiles)  # the tiles of an image come one after the other

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Tokenise a text.

        Raises:
            ConfigurationError: it contains the image token or half of a surrogate pair, or is too long for any context.
        """
        return self._tokenize_short(text) if len(text) <= _SHORT_TEXT else self._tokenize(text)

    def _tokenize(self, text: str) -> tuple[int, ...]:
        if self.processor.image_token in text:
            raise ConfigurationError(f"a text contains {self.processor.image_token!r}: pass the image itself instead")
        if self.context is not None and len(text) > self.context * self.longest_token:
            raise ConfigurationError(
                f"a text of {len(text)} characters exceeds the model's context of {self.context} tokens: use shorter text"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"a text has half of a surrogate pair at character {error.start}: remove it") from None
        return tuple(self.processor.encode(text))

    def _given(self, tokens: TokenIds) -> Encoded:
        wrong = next((token for token in tokens.ids if not 0 <= token < self.num_token_ids), None)
        if wrong is not None:
            raise ConfigurationError(f"token id {wrong} does not exist: expected 0 to {self.num_token_ids - 1}")
        if self.image_token_id in tokens.ids:
            raise ConfigurationError(f"token ids contain the image token {self.image_token_id}: pass the image itself instead")
        return Encoded(tokens.ids, ())

    def division(self, prompt: Sequence[Segment | TokenIds]) -> PromptDivision:
        """Decide which images of a whole prompt are divided into tiles."""
        layout = self.processor.layout
        return PromptDivision.of(layout, 0 if layout.is_single else self.processor.tile_side(), prompt)

    def encode(
        self, prompt: Sequence[Segment | TokenIds], division: PromptDivision | None = None, images_before: int = 0
    ) -> Encoded:
        """Tokenise a prompt; its images are divided into tiles and listed, not encoded.

        Args:
            prompt: a whole prompt, or a part of one.
            division: the division of the whole prompt; by default that of `prompt`.
            images_before: number of images of the whole prompt before this part.

        Raises:
            DataError: an image that is divided cannot be read.
        """
        tokens: list[int] = []
        images: list[Image] = []
        division = division or self.division(prompt)
        for segment in division.divided(prompt, images_before):
            if isinstance(segment, str):
                tokens.extend(self.tokenize(segment))
            elif isinstance(segment, TokenIds):
                tokens.extend(segment.ids)
            else:
                tokens.extend([self.image_token_id] * self.image_tokens)
                images.append(segment)
        return Encoded(tuple(tokens), tuple(images))

    def encode_request(self, request: AnyPrompt | TokenIds, known: dict[Any, Encoded] | None = None) -> tuple[Encoded, Encoded]:
        """Tokenise the prefix and the prompt of a request.

        A conversation is rendered as a whole. Its prefix is what its prefix turns give alone, if the whole begins with that;
        otherwise the prefix is empty.

        Args:
            request: the request.
            known: prefixes of earlier requests, which are not tokenised again; this call adds to it.
        """
        if isinstance(request, TokenIds):
            return Encoded((), ()), self._given(request)
        known = {} if known is None else known
        rendered: Prompt = ()
        if isinstance(request, Conversation):
            rendered = chat_prompt(self.processor, request.prefix + request.messages)
            division = self.division(rendered)
        else:
            division = self.division((*request.prefix, *request.prompt))
        key = request.prefix, division
        if key not in known:
            known[key] = self._prefix(request, division)
        prefix = known[key]
        if isinstance(request, Request):
            return prefix, self.encode(request.prompt, division, count_images(request.prefix))
        whole = self.encode(rendered, division)
        num_tokens, num_images = len(prefix.tokens), len(prefix.images)
        if whole.tokens[:num_tokens] != prefix.tokens or whole.images[:num_images] != prefix.images:
            return Encoded((), ()), whole
        return prefix, Encoded(whole.tokens[num_tokens:], whole.images[num_images:])

    def _prefix(self, request: AnyPrompt, division: PromptDivision) -> Encoded:
        if isinstance(request, Conversation):
            prefix = chat_prompt(self.processor, request.prefix, complete=True) if request.prefix else ()
            return self.encode(prefix, division)
        return self.encode(request.prefix, division)

    def features(self, images: Sequence[Image]) -> torch.Tensor | None:
        """Compute the features of images in the given order, (N, K, D); None if there are no images.

        Raises:
            DataError: an image cannot be read.
        """
        if not images:
            return None
        keys = [key_of(image) for image in images]
        features = {key: self._features[key] for key in keys if key in self._features}
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in features}
        for chunk in _chunks(list(missing), self.settings.image_batch):
            encoded_NKD = self._encode_images([missing[key] for key in chunk])
            features.update(zip(chunk, encoded_NKD, strict=True))
        self._keep(features)
        return torch.stack([features[key] for key in keys])

    def _encode_images(self, images: Sequence[Image]) -> torch.Tensor:
        pixel_values = self.processor.pixel_values([self._decoded(image) for image in images])
        with torch.inference_mode():
            return self.model.get_image_features(pixel_values.to(self.model.device))

    def decode_ahead(self, image: bytes | Tile) -> Image:
        """Decode an image before its turn, in any thread: large ones take longer than a token of the running answers.

        An image stays as it is if its features are in the cache, or if the vision tower takes images of any size.

        Raises:
            DataError: it cannot be read.
        """
        size = self._fixed_size()
        if size is None or key_of(image) in self._features:
            return image
        return DecodedImage(image, self._tile(image) if isinstance(image, Tile) else read_pixels(image, *size))

    def _tile(self, tile: Tile) -> Pixels:
        return self._read_tiles(tile.image, tile.tiles)[tile.number]

    def _decoded(self, image: Image) -> PillowImage.Image | Pixels:
        """Decode an image, to the pixels that the loader gave the model in training if the tower takes one size."""
        if isinstance(image, DecodedImage):
            return image.pixels
        if isinstance(image, Tile):
            return self._tile(image)
        size = self._fixed_size()
        return read_image(image) if size is None else read_pixels(image, *size)

    def _fixed_size(self) -> tuple[int, int] | None:
        """Height and width of all images; None if the tower takes others."""
        settings = self.processor.image_processor
        height, width = settings.size.get("height"), settings.size.get("width")
        is_fixed = settings.do_resize and height and width and not settings.do_center_crop
        return (height, width) if is_fixed else None

    def _keep(self, features: dict[str, torch.Tensor]) -> None:
        for key, feature_KD in features.items():
            if key not in self._features:
                # A clone, because a view of a row would keep the whole batch in memory.
                self._features[key] = feature_KD.clone()
                self._cached_bytes += feature_KD.nbytes
            self._features.move_to_end(key)
        while self._cached_bytes > self.settings.image_cache_bytes and self._features:
            _, oldest = self._features.popitem(last=False)
            self._cached_bytes -= oldest.nbytes

    def check_length(self, num_tokens: int, max_new_tokens: int) -> None:
        """Refuse a prompt that does not fit the decoder's context.

        Raises:
            ConfigurationError: the prompt is empty, or prompt and answer together are longer than the decoder's context.
        """
        if not num_tokens:
            raise ConfigurationError("a prompt is empty: expected at least one token")
        limit = self.context
        if limit is not None and num_tokens + max_new_tokens > limit:
            raise ConfigurationError(
                f"a prompt of {num_tokens} tokens and {max_new_tokens} new tokens exceed the model's context of {limit}: "
                "use fewer demonstrations, shorter text or fewer images"
            )


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
