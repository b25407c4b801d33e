"""Processor of MM1: text with image placeholders and images in, model inputs out.

    "<image>what is this ?" + [image] -> tiles -> input_ids, attention_mask (B, S), pixel_values (N, 3, height, width)
    chat messages -> ChatML text -> the same

Text is tokenised piece by piece, exactly as in training, where each part of a sample is tokenised separately: pieces
end at image placeholders, at special tokens and after the header of a chat turn. With a byte-level tokenizer that puts
a space before each piece (`add_prefix_space=True`), a word has the same token at any position.

An image is one tile, or several by the model's image layout: the model sees each as an image of its own.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from .image_layout import ImageLayout, Tiles
from .image_reading import ImageInput, ImageLike, each_image, resized, rgb, upright
from .tokenization import encode_pieces, tokenize_as_in_training

IMAGE_TOKEN = "<image>"

# ChatML; content is a string or a list of {"type": "text", "text": …} and {"type": "image"}.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


class MM1Processor(ProcessorMixin):
    """Image processor and tokenizer of an MM1 model.

    Args:
        image_processor: any image processor of transformers; images go through it only if the fast path of this class
            does not give the same result.
        tokenizer: tokenizer that has the image token as one token.
        image_tokens: number of tokens of one image, or of a tile.
        image_token: text that stands for an image.
        chat_template: Jinja template of a conversation, ChatML by default.
        image_layout: division of images into tiles, see image_layout.py; they are not divided by default.

    Raises:
        ValueError: the tokenizer lacks the image token, or the layout is none.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_tokens: int = 144,
        image_token: str = IMAGE_TOKEN,
        chat_template: str | None = None,
        image_layout: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        tokenize_as_in_training(tokenizer, self.chat_template)
        self.image_tokens = image_tokens
        self.image_token = image_token
        self.image_layout = image_layout
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ValueError(f"The tokenizer has no token {image_token!r}: add it as a special token")
        if not self.layout.is_single:
            self.tile_side()

    @property
    def layout(self) -> ImageLayout:
        """The division of images into tiles."""
        return ImageLayout.parse(self.image_layout)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of processor_config.json; the layout only if images are divided."""
        fields = super().to_dict()
        if self.layout.is_single:
            fields.pop("image_layout", None)
        return fields

    def __call__(
        self,
        images: ImageInput | Sequence[Any] | None = None,
        text: str | Sequence[str] | None = None,
        padding: bool = True,
        padding_side: str = "left",
        return_tensors: str | None = "pt",
        divide_images: bool | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare model inputs.

        Args:
            images: images in order of appearance; a single image, a list, or a list for each text. An image may be a path, a
                data: URL or an http(s) URL.
            text: one text or several; each image token stands for one image.
            padding: whether to pad texts to the longest.
            padding_side: side of the padding; by default left, which generation needs.
            return_tensors: "pt" for tensors, None for lists.
            divide_images: whether to divide images into tiles; by default those of texts with few enough images.
            **kwargs: ignored; callers may pass options of other processors.

        Returns:
            input_ids and attention_mask (B, S) if there is text, pixel_values (N, 3, height, width) if there are images: N
            tiles of all images.

        Raises:
            ValueError: the numbers of image tokens and images differ, or there are neither text nor images.
        """
        flat_images = list(each_image(images))
        if text is None and not flat_images:
            raise ValueError("Pass text, images or both")
        data: dict[str, Any] = {}
        texts = [text] if isinstance(text, str) else list(text or ())
        counts = [item.count(self.image_token) for item in texts] if text is not None else [1] * len(flat_images)
        if sum(counts) != len(flat_images):
            raise ValueError(f"The text has {sum(counts)} image tokens ({self.image_token}), but got {len(flat_images)} images")
        tiles = self._tiles_of_texts(flat_images, counts, divide_images)
        if text is not None:
            ids = {"input_ids": [self.encode(item, each) for item, each in zip(texts, tiles, strict=True)]}
            data |= self.tokenizer.pad(ids, padding=padding, padding_side=padding_side, return_tensors=return_tensors)
        if flat_images:
            pixel_values = self.pixel_values(flat_images, [each for of_text in tiles for each in of_text])
            data["pixel_values"] = pixel_values if return_tensors == "pt" else pixel_values.numpy()
        return BatchFeature(data)

    def encode(self, text: str, tiles: Sequence[Tiles] = ()) -> list[int]:
        """Tokenise a text piece by piece; each image placeholder becomes `image_tokens` image tokens for each tile.

        Args:
            text: the text.
            tiles: tiles of each image; one for each by default.
        """
        ids: list[int] = []
        for index, span in enumerate(text.split(self.image_token)):
            if index:
                ids += self.image_ids(tiles[index - 1] if tiles else Tiles(0), index - 1)
            ids += encode_pieces(self.tokenizer, span)
        return ids

    def image_ids(self, tiles: Tiles, number: int = 0) -> list[int]:
        """Return the tokens of an image: of its tiles, and of the marks around them.

        Args:
            tiles: its tiles.
            number: number of the image in its text, from 0.
        """
        tile, pieces = [self.image_token_id] * self.image_tokens, tiles.pieces(number)
        return [token for piece in pieces for token in (tile if piece is None else encode_pieces(self.tokenizer, piece))]

    def tiles(self, images: Sequence[ImageLike], divide: bool | None = None) -> list[Tiles]:
        """Divide the images of a sample: choose the tiles of each, without cutting it.

        Args:
            images: all images of the sample.
            divide: whether to divide them; by default if they are few enough.
        """
        layout = self.layout
        if layout.is_single or not (layout.divides(len(images)) if divide is None else divide):
            return [Tiles(0)] * len(images)
        return [layout.tiles(*upright(image).size, self.tile_side()) for image in images]

    def _tiles_of_texts(self, images: Sequence[ImageLike], counts: Sequence[int], divide: bool | None) -> list[list[Tiles]]:
        """Divide the images of several texts, each with its number of images."""
        ends = list(accumulate(counts))
        return [self.tiles(images[end - count : end], divide) for end, count in zip(ends, counts, strict=True)]

    def tile_side(self) -> int:
        """Return the side of a tile, that of the vision tower's images.

        Raises:
            ValueError: the image processor gives images that are not square.
        """
        height, width = self._target_size() or (0, 0)
        if not height or height != width:
            raise ValueError(f"image_layout={self.image_layout} needs an image processor that resizes images to a square")
        return height

    def pixel_values(self, images: Sequence[ImageLike], tiles: Sequence[Tiles] = ()) -> torch.Tensor:
        """Resize and normalise images.

        Args:
            images: PIL images of any mode, or uint8 arrays (height, width, 3).
            tiles: tiles of each image; one for each by default.

        Returns:
            (N, 3, height, width) float32, N tiles of all images.
        """
        if any(each.rows for each in tiles):
            images = [tile for image, each in zip(images, tiles, strict=True) for tile in self._cut(image, each)]
        processor, size = self.image_processor, self._target_size()
        if size is None:
            return processor(images, return_tensors="pt")["pixel_values"]
        # The same steps as the image processor's, on the whole batch at once. The image processor handles images one by
        # one and copies each several times, which takes ten times as long for small images.
        pixels = np.stack([resized(image, size, processor.resample) for image in images])
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        mean, std = (torch.tensor(values_3).view(3, 1, 1) for values_3 in (processor.image_mean, processor.image_std))
        return values.mul_(processor.rescale_factor / std).sub_(mean / std)

    def _cut(self, image: ImageLike, tiles: Tiles) -> Sequence[ImageLike]:
        if not tiles.rows:
            return [image]
        return tiles.cut(rgb(image), self.image_processor.resample)

    def _target_size(self) -> tuple[int, int] | None:
        """Height and width of all images if the image processor only resizes and normalises, else None."""
        processor = self.image_processor
        size = processor.size
        plain = processor.do_resize and processor.do_rescale and processor.do_normalize and not processor.do_center_crop
        if not plain or not size.get("height") or not size.get("width"):
            return None
        return size["height"], size["width"]

    @property
    def model_input_names(self) -> list[str]:
        """Names of the model inputs that this processor returns."""
        return ["input_ids", "attention_mask", "pixel_values"]


def build_processor(
    tokenizer: Any,
    image_tokens: int,
    image_size: int | tuple[int, int],
    image_mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073),
    image_std: Sequence[float] = (0.26862954, 0.26130258, 0.27577711),
    chat_template: str | None = None,
    image_layout: str = "",
) -> MM1Processor:
    """Build the processor of a model whose vision tower takes images of one size.

    Args:
        tokenizer: tokenizer with the image token.
        image_tokens: number of tokens of one image.
        image_size: pixels of the side, or (height, width).
        image_mean: mean of each channel, of values in [0, 1]; CLIP's by default.
        image_std: standard deviation of each channel; CLIP's by default.
        chat_template: Jinja template, ChatML by default.
        image_layout: division of images into tiles; they are not divided by default.

    Returns:
        The processor.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    image_processor = CLIPImageProcessorPil(
        size={"height": height, "width": width},
        do_center_crop=False,
        image_mean=list(image_mean),
        image_std=list(image_std),
    )
    return MM1Processor(
        image_processor, tokenizer, image_tokens=image_tokens, chat_template=chat_template, image_layout=image_layout
    )


MM1Processor.register_for_auto_class()
