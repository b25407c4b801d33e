"""Text pages as training data: the parts ``ocr`` (pairs in img2dataset's format) and ``reading`` (conversations).

``ocr`` is for continual pre-training, like the OCR data of MM1.5 (arXiv 2409.20566): most captions are the page's text, the
others a question with its answer in the form of the pre-training texts. ``reading`` has instructions about pages, for
fine-tuning.
"""

from __future__ import annotations

from pathlib import Path

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.img2dataset import Pair, write_shard
from mm1.world.llava import Chat, about_image, write_chats
from mm1.world.scene import Split
from mm1.world.text_pages import PAGE_KINDS, draw_page, encoded_pages, page_side

QUESTION_SHARE = 0.4
"""Fraction of the pairs with a question instead of the page's text."""
READ_QUESTION = "what is on the page ?"
"""Asks for the whole text."""
SHORT = "answer with one word ."
"""End of instructions whose answer is one word."""


def write_pairs(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the part ``ocr`` into an existing folder.

    Returns:
        Number of pages of each kind, and number of pairs with a question.
    """
    rng, noise = streams.choices(config.seed, "ocr"), streams.pixels(config.seed, "ocr")
    counts = dict.fromkeys([*PAGE_KINDS, "questions"], 0)
    for shard, start in enumerate(range(0, config.num_pages, config.captions_per_shard)):
        pages = [draw_page(rng, Split.TRAIN) for _ in range(min(config.captions_per_shard, config.num_pages - start))]
        pairs = []
        for page, image in zip(pages, encoded_pages(pages, config.image_size_px, noise), strict=True):
            counts[page.kind] += 1
            is_asked = rng.random() < QUESTION_SHARE
            counts["questions"] += is_asked
            caption = language.ask(*rng.choice(page.questions)) if is_asked else f"{page.text} ."
            pairs.append(Pair(image, caption, "ocr qa" if is_asked else "ocr"))
        write_shard(folder, shard, pairs, page_side(config.image_size_px))
    return counts


def write_conversations(folder: Path, config: WorldConfig) -> dict[str, int]:
    """Write the part ``reading`` into an existing folder: one or two questions about each page.

    Returns:
        Number of conversations, and of pages of each kind.
    """
    rng, noise = streams.choices(config.seed, "reading"), streams.pixels(config.seed, "reading")
    pages = [draw_page(rng, Split.TRAIN) for _ in range(config.num_reading)]
    chats: list[Chat] = []
    for page in pages:
        pairs = [instructed(*question) for question in rng.sample(page.questions, min(2, len(page.questions)))]
        chats.append(about_image([(READ_QUESTION, page.text)] if rng.random() < QUESTION_SHARE else pairs))
    write_chats(folder, chats, encoded_pages(pages, config.image_size_px, noise))
    return {"conversations": len(chats)} | {kind: sum(page.kind == kind for page in pages) for kind in PAGE_KINDS}


def instructed(question: str, answer: str) -> tuple[str, str]:
    """Return a question about a page as an instruction."""
    return (question if " " in answer else f"{question} {SHORT}"), answer
