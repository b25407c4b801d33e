"""Details that need resolution, pages of text, boxes, and conversations about several images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mm1.coordinates import Box, parse_box
from mm1.world import font, grounding, several_images, streams
from mm1.world.config import WorldConfig
from mm1.world.instruction_forms import forms_of
from mm1.world.language import COUNTS, SHAPES
from mm1.world.marks import MARK_COLUMNS, MARK_ROWS, MARKS, TEXTURES, mark_of
from mm1.world.render import render, render_with_boxes
from mm1.world.scene import NUM_SHAPES, Object, Scene, SceneSampler, Split, held_out_pairs, split_of
from mm1.world.text_pages import ORIGIN, PAGE_KINDS, TextPage, bits_of, draw_page, render_page

seeds = st.integers(0, 2**32)
CONFIG = WorldConfig.small()


def scenes(count: int, seed: int = 0) -> list[Scene]:
    sampler = SceneSampler(streams.choices(seed, "test"), Split.DEV, held_out_pairs(CONFIG))
    return [sampler.any() for _ in range(count)]


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Grey image of a side, resized as processors do."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32).mean(-1) / 255


# -- marks: what the best linear reader of the textures sees ----------------------------------------------------------


def read_marks(images: NDArray[np.uint8], side: int) -> list[int]:
    pixels = np.stack([resized(image, side) for image in images])
    scores = np.full((len(images), len(MARKS)), -np.inf)
    for mark in range(len(MARKS)):
        for row in MARK_ROWS:
            for column in MARK_COLUMNS:
                template = np.zeros((72, 72), np.float32)
                template[row - 2 : row + 10, column - 2 : column + 8] = TEXTURES[mark]
                seen = np.asarray(Image.fromarray(template[:64, :64]).resize((side, side), Image.Resampling.BICUBIC))
                match = (pixels * seen).sum(axis=(1, 2)) / np.linalg.norm(seen)
                scores[:, mark] = np.maximum(scores[:, mark], match)
    return [int(mark) for mark in scores.argmax(axis=1)]


def test_marks_are_read_at_64_pixels_and_not_at_32() -> None:
    drawn = scenes(240)
    expected = np.array([mark_of(scene) for scene in drawn])
    images = render(drawn, 64, streams.pixels(0, "test"))
    assert (read_marks(images, 64) == expected).mean() == 1.0
    assert (read_marks(images, 32) == expected).mean() < 1 / len(MARKS) + 0.1
    assert np.bincount(expected, minlength=len(MARKS)).min() > 20


def test_no_texture_changes_the_mean_of_a_block() -> None:
    blocks = TEXTURES.reshape(len(MARKS), 6, 2, 5, 2)
    assert not blocks.mean(axis=(2, 4)).any()


def test_marks_are_asked_for_where_images_show_them() -> None:
    assert "mark" not in forms_of(32)
    scene = scenes(1)[0]
    sampler = SceneSampler(Random(0), Split.TRAIN, frozenset())
    assert forms_of(64)["mark"](scene, sampler)[1] == MARKS[mark_of(scene)]


# -- boxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 96])
def test_boxes_enclose_the_pixels_of_their_objects(side: int) -> None:
    drawn = [
        Scene((Object(shape, 0, size, place),), 0, 0) for shape in range(NUM_SHAPES) for size in range(2) for place in range(3)
    ]
    images, boxes = render_with_boxes(drawn, side, streams.pixels(0, "test"))
    for scene, image, (box,) in zip(drawn, images.astype(int), boxes, strict=True):
        is_red = image[..., 0] - image[..., 1:].max(axis=-1) > 90
        rows, columns = np.flatnonzero(is_red.any(axis=1)), np.flatnonzero(is_red.any(axis=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / side * 1000
        assert np.abs(seen - np.array(box)).max() <= 1500 / side, (scene, seen, box)


@given(seeds)
def test_questions_with_boxes_are_about_one_object(seed: int) -> None:
    rng = Random(seed)
    scene = scenes(1, seed)[0]
    boxes = [Box(100 * index, 0, 100 * index + 50, 50) for index in range(len(scene.objects))]
    index = rng.randrange(len(boxes))
    question, answer = grounding.box_question(scene, boxes, index, rng)
    assert parse_box(answer) == boxes[index]
    named = re.fullmatch(r"where is the (.*) \? give its box \.", question)
    assert named and named[1].split()[-1] == SHAPES[scene.objects[index].shape]
    question, answer = grounding.content_question(scene, boxes, index, rng)
    assert parse_box(question) == boxes[index] and SHAPES[scene.objects[index].shape] in answer


# -- pages of text ---------------------------------------------------------------------------------------------------


def read_page(image: NDArray[np.float32], page: TextPage, row: int, column: int) -> list[str]:
    """Read each character of a page by the nearest template, given where it is."""
    side = len(image)
    paper, ink = np.quantile(image, 0.5), np.quantile(image, 0.98)
    templates = {}
    for character in font.GLYPHS:
        bits = font.page_of([character * (font.COLUMNS - 1)] * 7, row, column)
        drawn = Image.fromarray(bits.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        templates[character] = paper + (ink - paper) * np.asarray(drawn)
    scale, lines = side / font.PAGE_BITS, []
    for number, line in enumerate(page.lines):
        rows = slice(int((row + number * 8) * scale), int(np.ceil((row + number * 8 + 5) * scale)))
        text = ""
        for index in range(len(line)):
            left = column + index * 4
            cell = (rows, slice(int(left * scale), int(np.ceil((left + 3) * scale))))
            text += min(templates, key=lambda name: float(((image[cell] - templates[name][cell]) ** 2).sum()))
        lines.append(text)
    return lines


def test_letters_are_read_at_64_pixels_and_not_at_32() -> None:
    rng, rates = Random(0), {64: [], 32: []}
    noise = streams.pixels(0, "test")
    for _ in range(12):
        page = draw_page(rng, Split.TEST, "lines")
        image = render_page(page, 64, noise)
        for side, values in rates.items():
            pairs = zip("".join(read_page(resized(image, side), page, ORIGIN, ORIGIN)), "".join(page.lines), strict=True)
            values += [read == text for read, text in pairs]
    assert np.mean(rates[64]) > 0.97
    assert np.mean(rates[32]) < 0.75


@given(seeds, st.sampled_from(list(PAGE_KINDS)))
def test_pages_fit_and_answer_their_questions(seed: int, kind: str) -> None:
    page = draw_page(Random(seed), Split.TRAIN, kind)
    assert bits_of(page, 3, 3).any()
    assert split_of(page.text.encode()) is Split.TRAIN
    for question in page.questions:
        assert set(question.answer.split()) <= set(page.text.split())
    assert not set(page.text.split()) & set(SHAPES)


def test_unknown_characters_and_long_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="no character '%'"):
        font.page_of(["100 %"])
    with pytest.raises(ValueError, match="does not fit"):
        font.page_of(["a" * 17])


def test_letters_of_the_font_differ() -> None:
    patterns = {glyph.tobytes() for glyph in font.GLYPHS.values()}
    assert len(patterns) == len(font.GLYPHS)


# -- several images --------------------------------------------------------------------------------------------------


@given(seeds)
def test_answers_about_several_images_follow_from_them(seed: int) -> None:
    sampler = SceneSampler(Random(seed), Split.TRAIN, held_out_pairs(CONFIG))
    chat, drawn = several_images.multi(sampler)
    assert chat.num_images == chat.turns[0].num_images == len(drawn) in (2, 3)
    for question, answer, _ in chat.turns:
        shapes = [word for word in question.split() if word in SHAPES]
        has = [any(SHAPES[thing.shape] in shapes for thing in scene.objects) for scene in drawn]
        if question.startswith("which image has a"):
            assert has.count(True) == 1 and COUNTS[1 + has.index(True)] == answer
        elif question.startswith("which image has more"):
            counts = [len(scene.objects) for scene in drawn]
            assert counts[COUNTS.index(answer) - 1] == max(counts) and counts.count(max(counts)) == 1
        elif question.startswith("is there"):
            asked = [COUNTS.index(word) - 1 for word in question.split() if word in COUNTS]
            assert answer == ("yes" if all(has[index] for index in asked) else "no")


@given(seeds)
def test_turns_bring_an_image_each(seed: int) -> None:
    chat, drawn = several_images.turns(SceneSampler(Random(seed), Split.TRAIN, held_out_pairs(CONFIG)))
    assert [turn.num_images for turn in chat.turns] in ([1, 1], [1, 1, 0])
    assert len(drawn) == 2


# -- files -----------------------------------------------------------------------------------------------------------


def test_pages_of_training_and_benchmarks_differ(world: Path) -> None:
    table = pq.read_table(world / "ocr" / "00000.parquet")
    assert set(table["caption_kind"].to_pylist()) == {"ocr", "ocr qa"}
    pages = {
        text
        for text, kind in zip(table["caption"].to_pylist(), table["caption_kind"].to_pylist(), strict=True)
        if kind == "ocr"
    }
    assert all(split_of(text.removesuffix(" .").encode()) is Split.TRAIN for text in pages)
    annotations = json.loads((world / "benchmarks" / "test" / "ocr_annotations.json").read_text())["annotations"]
    assert {row["question_type"] for row in annotations} == set(PAGE_KINDS)
