"""Emoji in the formats of public data sets: captions, questions, pages of names, and two benchmarks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from .emoji import TOPIC_QUESTION, Emoji, name_pages, names_in_all_languages, names_in_one_language, picture
from .pictures import Drawing, Pair
from .write import complete, write_pages_of

_Row = tuple[dict[str, Any], dict[str, Any]]
"""A question and its annotation."""
NUM_ANSWERS = 10
NUM_DEMONSTRATIONS = 200
FIRST_IMAGE = 100_001
"""Number of the first emoji; the stamps have smaller ones."""


def caption_pairs(items: Sequence[Emoji], font: Path) -> Iterator[Pair]:
    """Give emoji their English names as captions."""
    return (_pair(item, font, f"{item.names['en']} .") for item in items)


def topic_pairs(items: Sequence[Emoji], font: Path) -> Iterator[Pair]:
    """Give emoji a question about their group, and the answer."""
    return (_pair(item, font, f"{TOPIC_QUESTION} {item.group} .") for item in items)


def _pair(item: Emoji, font: Path, caption: str) -> Pair:
    return Pair(picture(item, font), Drawing(Path(), caption, f"{item.group}/{item.characters}"))


def write_name_pages(items: Sequence[Emoji], font: Path, count: int, file: Path, counts: Counter[str]) -> None:
    """Write pages of pictures, each followed by its name in the page's language, as OBELICS parquet."""
    pictures = {item.characters: picture(item, font) for item in items}
    rows = []
    for number, page in enumerate(name_pages(list(items), count, Random("name pages"))):
        images: list[bytes | None] = []
        texts: list[str | None] = []
        for item in page.items:
            images += [pictures[item.characters], None]
            texts += [None, f"{item.names[page.locale]} ."]
        rows.append((f"names/{number}", page.locale, images, texts))
        counts["pages written"] += 1
        counts["images"] += len(page.items)
    write_pages_of(rows, file)


def write_emoji_benchmark(
    items: Sequence[Emoji], training: Sequence[Emoji], font: Path, split: Path, counts: Counter[str]
) -> None:
    """Write three tasks in VQAv2's format, with demonstrations from the training emoji.

    `emoji_topic`: which group; `emoji_name`: which of four names in the language of the demonstrations; `emoji_language`: which
    of the right names, which only the demonstrations tell.
    """
    rng = Random(f"emoji {split.name}")
    images = split / "images"
    images.mkdir(parents=True, exist_ok=True)
    first = FIRST_IMAGE
    for suffix, some in (("", list(items)), ("_demo", rng.sample(list(training), NUM_DEMONSTRATIONS))):
        numbered = list(enumerate(some, start=first))
        first += len(some)
        for number, item in numbered:
            (images / f"{number}.png").write_bytes(picture(item, font))
        for name, rows in _tasks(numbered, some, rng).items():
            _write(split, f"{name}{suffix}", rows)
        counts[f"{split.name} items{suffix}"] += len(some)


def _tasks(numbered: Sequence[tuple[int, Emoji]], every: list[Emoji], rng: Random) -> dict[str, list[_Row]]:
    groups = sorted({item.group for item in every})
    rows: dict[str, list[_Row]] = {"emoji_topic": [], "emoji_name": [], "emoji_language": []}
    for number, item in numbered:
        rows["emoji_topic"].append(_row(number, TOPIC_QUESTION, item.group, "topic", groups))
        for locale, name in item.names.items():
            rows["emoji_name"].append(_row(number, "", name, locale, names_in_one_language(item, locale, every, rng)))
            rows["emoji_language"].append(_row(number, "", name, locale, names_in_all_languages(item)))
    return rows


def _row(image: int, question: str, answer: str, kind: str, options: list[str]) -> _Row:
    ask = {"image_id": image, "question": question}
    answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": number + 1} for number in range(NUM_ANSWERS)]
    known = {"image_id": image, "question_type": kind, "answer_type": "other", "multiple_choice_answer": answer}
    return ask, known | {"answers": answers, "choices": options}


def _write(split: Path, name: str, rows: list[_Row]) -> None:
    for kind, column in (("questions", 0), ("annotations", 1)):
        content = [{"question_id": number} | row[column] for number, row in enumerate(rows, start=1)]
        with complete(split / f"{name}_{kind}.json") as part:
            part.write_text(json.dumps({kind: content}, ensure_ascii=False))
