r"""Conversations about images, or without: LLaVA, ShareGPT, OpenAI messages, the_cauldron; in JSON or in tables.

They become ChatML exactly as in MM1Processor's chat template, with loss only on the assistant's text and end of turn::

    <|im_start|>user\n [image] what is it ?<|im_end|>\n <|im_start|>assistant\n  a ring<|im_end|>  \n
    ------------------------------- no loss -----------------------------------  -----loss-----

Each piece is tokenised separately, split where the processor splits too: after turn headers and at special tokens. With a
tokenizer whose folder brought its own chat template, they become what that renders (:mod:`mm1.data.chat`).

Conversations are repaired where that is unambiguous, and what is left out of them is counted:

- Images without a placeholder come before the first question; placeholders in a row without images are text. If the questions
  have as many placeholders as there are images, placeholders in answers are text. Other numbers are an odd row.
- Answers without text, answers before the first question, and questions after the last answer are left out.
- Consecutive turns of a speaker are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from jinja2 import TemplateError

from mm1.data.chat import IMAGE_TOKEN, ChatTemplate, Document
from mm1.data.prepare.files.fields import Fields, listed
from mm1.data.prepare.files.images import read_image
from mm1.data.prepare.files.jsonl import json_rows
from mm1.data.prepare.files.parquet import columns_of, is_table, rows
from mm1.data.prepare.files.raw import Clean, Item, OddRow, RawInput, read_rows
from mm1.data.prepare.files.values import as_text, type_of
from mm1.data.prepare.locations.roots import LeftOut
from mm1.data.prepare.sources.turns import Picture, Turn, turns_of
from mm1.data.sample import ImagePart, Part, Sample, TextPart
from mm1.data.tokenizer import TURN_END, TURN_START

IMAGE_FIELDS = ("images", "image", "image_path", "image_paths", "image_file", "img")
OTHER_MEDIA = ("video", "videos", "audio", "audios", "sound", "speech")
SYSTEM = ("system", "system_prompt")


def read(file: RawInput, clean: Clean) -> Iterator[Item]:
    """Read a JSON file or a table; image names are relative to the file or to ``images`` next to it.

    Raises:
        DataError: the file is damaged, or a table has no column of conversations.
    """
    fields = Fields(file)
    if is_table(file.path):
        needed = (fields.need("conversation", columns_of(file)),)
        entries: Iterator[tuple[Any, Any]] = rows(file, needed, (*_image_fields(file), *OTHER_MEDIA, *SYSTEM))
    else:
        entries = json_rows(file)
    return read_rows(file, entries, lambda origin, row: _items(file, fields, origin, row, clean))


def _items(file: RawInput, fields: Fields, origin: str, row: dict[str, Any], clean: Clean) -> Iterator[Sample | LeftOut]:
    name = fields.choose("conversation", row)
    if name is None:
        raise OddRow("no_conversation", f"expected a list 'conversations' or 'messages'; the fields are {listed(row)}")
    if medium := next((medium for medium in OTHER_MEDIA if row.get(medium)), None):
        raise OddRow("video_or_audio", f"the row has {medium!r}; only images are supported")
    turns = turns_of(row[name])
    system = next((row[field] for field in SYSTEM if row.get(field)), None)
    if system is not None and turns[0].role != "system":
        text = as_text(system)
        if text is None:
            raise OddRow("turn_not_text", f"expected a text as system prompt, got {type_of(system)}")
        turns.insert(0, Turn("system", [text]))
    lost: list[str] = []
    turns = _repaired(_placed(turns, _images_of(file, row), lost), clean, lost)
    images = [read_image(file, piece.value) for turn in turns for piece in turn.pieces if isinstance(piece, Picture)]
    meta: dict[str, Any] = {"origin": origin}
    if images:
        meta["addresses"] = [address for _, address in images]
    messages = [(turn.role, _texts(turn)) for turn in turns]
    for parts in [chat_parts(messages, clean)] if file.template is None else family_parts(messages, clean, file.template):
        yield Sample(key="", source=file.source, parts=parts, images=[data for data, _ in images], meta=meta)
    yield from (LeftOut(origin, 0, reason) for reason in lost)


def _image_fields(file: RawInput) -> tuple[str, ...]:
    return (file.columns["image"],) if "image" in file.columns else IMAGE_FIELDS


def _images_of(file: RawInput, row: dict[str, Any]) -> list[Any]:
    """Return the row's images, as they are in its fields."""
    lists = [[value] if not isinstance(value, list) else value for name in _image_fields(file) if (value := row.get(name))]
    if len(lists) > 1 and any(images != lists[0] for images in lists):
        names = [name for name in _image_fields(file) if row.get(name)]
        raise OddRow("image_count", f"different images in the fields {listed(names)}; name one with columns=")
    return lists[0] if lists else []


def _placed(turns: list[Turn], images: list[Any], lost: list[str]) -> list[Turn]:
    """Put the row's images into its turns."""
    pictures = [(turn.role, piece) for turn in turns for piece in turn.pieces if isinstance(piece, Picture)]
    tokens = [role for role, picture in pictures if picture.is_token]
    if len(tokens) < len(pictures):
        return _fill(turns, images)
    asked = sum(role != "assistant" for role in tokens)
    if not images:
        lost += ["image placeholder without an image"] * asked
        return [_as_text(turn) for turn in turns]
    if asked == len(images):
        return _fill([_as_text(turn) if turn.role == "assistant" else turn for turn in turns], images)
    if len(tokens) == len(images):
        return _fill(turns, images)
    if tokens:
        raise OddRow("image_count", f"{len(tokens)} image placeholders ({IMAGE_TOKEN}), but {len(images)} images")
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), 0)
    first_turn = Turn(turns[first].role, [*(Picture(image) for image in images), *turns[first].pieces])
    return [*turns[:first], first_turn, *turns[first + 1 :]]


def _fill(turns: list[Turn], images: list[Any]) -> list[Turn]:
    """Give each image of a turn its value; parts with images of their own make tokens in texts ordinary text."""
    pictures = [piece for turn in turns for piece in turn.pieces if isinstance(piece, Picture)]
    if not all(picture.is_token for picture in pictures):
        turns = [_as_text(turn) for turn in turns]
        pictures = [picture for picture in pictures if not picture.is_token]
    num_open = sum(picture.value is None for picture in pictures)
    indexes = [picture.number for picture in pictures if picture.value is None and picture.number is not None]
    if indexes and (len(indexes) < num_open or not all(0 <= index < len(images) for index in indexes)):
        raise OddRow("image_count", f"expected indexes below {len(images)} at all images without content")
    if not indexes and num_open != len(images):
        raise OddRow("image_count", f"{num_open} images without content in the turns, but {len(images)} images in the row")
    following = iter(images)

    def filled(piece: str | Picture) -> str | Picture:
        if isinstance(piece, str) or piece.value is not None:
            return piece
        return Picture(images[piece.number] if piece.number is not None else next(following))

    return [Turn(turn.role, [filled(piece) for piece in turn.pieces]) for turn in turns]


def _as_text(turn: Turn) -> Turn:
    """Turn the image tokens in texts into ordinary text."""
    pieces = [IMAGE_TOKEN if isinstance(piece, Picture) and piece.is_token else piece for piece in turn.pieces]
    return Turn(turn.role, pieces)


def _repaired(turns: list[Turn], clean: Clean, lost: list[str]) -> list[Turn]:
    """Leave out what cannot be learnt from, and join consecutive turns of a speaker.

    Raises:
        OddRow: no answer remains.
    """
    is_asked = False
    kept: list[Turn] = []
    for turn in turns:
        is_empty = not any(isinstance(piece, Picture) or clean(piece) for piece in turn.pieces)
        if turn.role == "assistant" and (is_empty or not is_asked):
            lost.append("answer without text" if is_empty else "answer before the first question")
            continue
        is_asked |= turn.role == "user"
        kept.append(turn)
    while kept and kept[-1].role != "assistant":
        lost.append("question without an answer")
        kept.pop()
    if not kept:
        raise OddRow("no_answer", "expected a question and an answer")
    joined = []
    for role, group in groupby(kept, key=lambda turn: turn.role):
        first, *others = group
        joined.append(Turn(role, [*first.pieces, *(piece for turn in others for piece in ("\n", *turn.pieces))]))
    return joined


def _texts(turn: Turn) -> list[str]:
    """Return the texts around the images of a turn, one more than images."""
    texts = [""]
    for piece in turn.pieces:
        if isinstance(piece, Picture):
            texts.append("")
        else:
            texts[-1] += piece
    return texts


def chat_parts(messages: list[tuple[str, list[str]]], clean: Clean) -> list[Part]:
    """Convert a conversation to parts.

    Args:
        messages: role, and the texts separated by images (one image fewer than texts).
        clean: applied to each text.
    """
    parts: list[Part] = []
    num_images = 0
    for role, texts in messages:
        learnt = role == "assistant"
        parts.append(TextPart(f"{TURN_START}{role}\n", loss=False))
        for number, text in enumerate(map(clean, texts)):
            if number:
                parts.append(ImagePart(num_images))
                num_images += 1
            last = number == len(texts) - 1
            ending = "" if not last else TURN_END if learnt else f"{TURN_END}\n"
            if text or ending:
                parts.append(TextPart(text + ending, loss=learnt))
        if learnt:
            parts.append(TextPart("\n", loss=False))
    return parts


def family_parts(messages: list[tuple[str, list[str]]], clean: Clean, template: ChatTemplate) -> list[list[Part]]:
    """Convert a conversation to parts with the chat template of a decoder's family.

    Args:
        messages: role, and the texts separated by images (one image fewer than texts).
        clean: applied to each text.
        template: the template.

    Returns:
        The parts of one sample, or of several if the template renders turns differently once others follow.

    Raises:
        OddRow: the template refuses the conversation.
    """
    chat = [{"role": role, "content": IMAGE_TOKEN.join(map(clean, texts))} for role, texts in messages]
    try:
        return [_document_parts(document) for document in template.documents(chat)]
    except (TemplateError, ValueError) as error:
        raise OddRow("refused_by_chat_template", f"the chat template of the tokenizer: {str(error)[:200]}") from None


def _document_parts(document: Document) -> list[Part]:
    parts: list[Part] = []
    num_images = 0
    for piece, learnt in document.pieces():
        for number, text in enumerate(piece.split(IMAGE_TOKEN)):
            if number:
                parts.append(ImagePart(num_images))
                num_images += 1
            if text:
                parts.append(TextPart(text, loss=learnt))
    return parts
