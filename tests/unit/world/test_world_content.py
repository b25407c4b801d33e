"""What the world says and shows: words agree with scenes, held-out pairs stay away, kinds keep their shares."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mm1.world import language, streams
from mm1.world.config import WorldConfig
from mm1.world.instruction_forms import INSTRUCTION_FORMS
from mm1.world.pages import CONCEPT_KINDS, PAGE_KINDS, concepts, page
from mm1.world.render import COLOUR_VALUES, encode, render
from mm1.world.scene import NUM_COLOURS, NUM_SHAPES, Object, Scene, SceneSampler, Split, held_out_pairs
from mm1.world.texts import TEXT_KINDS
from mm1.world.write import write_part

CONFIG = WorldConfig()
seeds = st.integers(0, 2**32)
LONGEST_ENTRY = 26
"""An image and the caption of three objects, in tokens."""


def sampler(seed: int = 0, split: Split = Split.TRAIN) -> SceneSampler:
    return SceneSampler(streams.choices(seed, "test"), split, held_out_pairs(CONFIG))


def pretraining_texts(world: Path) -> list[str]:
    texts: list[str] = []
    for path in (world / "captions").glob("*.parquet"):
        texts += pq.read_table(path, columns=["caption"])["caption"].to_pylist()
    for path in (world / "interleaved").glob("*.parquet"):
        texts += [text for row in pq.read_table(path, columns=["texts"])["texts"].to_pylist() for text in row if text]
    texts += [json.loads(line)["text"] for line in (world / "text" / "text-00000.jsonl").read_text().splitlines()]
    return texts


def conversation_texts(world: Path) -> list[str]:
    items = json.loads((world / "instructions" / "llava_instruct.json").read_text())
    return [turn["value"] for item in items for turn in item["conversations"]]


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough documents to judge shares and held-out pairs."""
    folder = tmp_path_factory.mktemp("larger")
    config = WorldConfig(num_captions=1500, num_texts=2500, num_interleaved=60, num_instructions=400)
    for part in ("captions", "interleaved", "text", "instructions"):
        write_part(part, folder / part, config)
    return folder


def test_held_out_pairs_are_never_named_in_training(larger: Path) -> None:
    corpus = "\n".join(pretraining_texts(larger) + conversation_texts(larger))
    pairs = held_out_pairs(CONFIG)
    assert len(pairs) == CONFIG.held_out_pairs
    every = {(shape, colour) for shape in range(NUM_SHAPES) for colour in range(NUM_COLOURS)}
    named = {pair for pair in every if f"{language.COLOURS[pair[1]]} {language.SHAPES[pair[0]]}" in corpus}
    assert named == every - pairs


def test_words_are_separated_by_spaces_and_lower_case(larger: Path) -> None:
    texts = pretraining_texts(larger) + conversation_texts(larger)
    words = {word for text in texts for word in text.replace("<image>\n", "").split(" ")}
    assert not [word for word in words if not re.fullmatch(r"[a-z]+|\d+|[.,:?]", word)]
    assert len(language.NONCE_WORDS) == len(set(language.NONCE_WORDS)) == 40
    assert set(language.NONCE_WORDS) <= words
    english = words - set(language.NONCE_WORDS)
    assert {"small", "ring", "barn", "user", "assistant", "describe"} <= english


def test_instruction_words_are_known_from_the_texts(larger: Path) -> None:
    """A tokenizer trained on the pre-training parts must know the words of the conversations."""
    asked = {word for text in conversation_texts(larger) for word in text.split()} - {"<image>"}
    known = {word for text in pretraining_texts(larger) for word in text.split()}
    assert asked <= known


def test_kinds_keep_their_shares(larger: Path) -> None:
    counts = json.loads((larger / "text" / "world.json").read_text())["counts"]
    for kind, share in TEXT_KINDS.items():
        assert counts[kind] / 2500 == pytest.approx(share, abs=0.04)
    counts = json.loads((larger / "captions" / "world.json").read_text())["counts"]
    assert counts["synthetic"] / 1500 == pytest.approx(CONFIG.synthetic_share, abs=0.04)
    assert counts["qa"] / 1500 == pytest.approx(CONFIG.question_share, abs=0.04)
    pages = sampler()
    kinds = Counter(page(pages, CONFIG)[0] for _ in range(1500))
    for kind, share in PAGE_KINDS.items():
        assert kinds[kind] / 1500 == pytest.approx(share, abs=0.05)


@given(seeds)
def test_a_page_fits_and_names_one_concept_by_one_word(seed: int) -> None:
    kind, entries = page(sampler(seed), CONFIG)
    tokens = sum(len(scenes) * CONFIG.tokens_per_image + len(text.split()) for scenes, text in entries)
    longest = max(len(scenes) * CONFIG.tokens_per_image + len(text.split()) for scenes, text in entries)
    assert CONFIG.tokens_per_document - LONGEST_ENTRY <= tokens < CONFIG.tokens_per_document
    assert longest <= LONGEST_ENTRY
    if kind == "novel":
        meanings: dict[str, set[tuple[int, int]]] = {}
        for scenes, text in entries:
            (name,) = set(text.split()) & set(language.NONCE_WORDS)
            thing = scenes[0].objects[0]
            meanings.setdefault(name, set()).add((thing.shape, thing.colour))
        # What a name means is a shape, a colour or both: one of the two must be constant.
        for seen in meanings.values():
            assert len({shape for shape, _ in seen}) == 1 or len({colour for _, colour in seen}) == 1


def test_pages_have_the_forms_of_the_benchmarks() -> None:
    source, with_steps = sampler(), Counter[bool]()
    for _ in range(400):
        kind, entries = page(source, CONFIG)
        if kind == "captions":
            for (scene,), text in entries:
                assert text == f"a photo of {language.caption(scene)} ."
        if kind == "steps":
            (shows_steps,) = {" so " in text for _, text in entries}
            with_steps[shows_steps] += 1
            assert len({text.split()[:2] == entries[0][1].split()[:2] for _, text in entries}) == 1
            assert len(entries) >= 5, "four demonstrations and a question"
    assert min(with_steps[True], with_steps[False]) > 10


@given(seeds, st.sampled_from(CONCEPT_KINDS), st.integers(2, 8))
def test_concepts_of_a_page_differ(seed: int, kind: str, count: int) -> None:
    drawn = concepts(kind, count, sampler(seed))
    keys = [tuple(sorted((k, v) for k, v in concept.items() if k in ("shape", "colour"))) for concept in drawn]
    assert len(set(keys)) == len(keys) >= 2


@given(seeds)
def test_answers_follow_from_the_scene(seed: int) -> None:
    source = sampler(seed)
    scene = source.any()
    for thing in scene.objects:
        size, colour, shape = language.words_of(thing)
        place = language.PLACES[thing.place]
        assert language.question("colour", scene, thing) == (f"what colour is the {shape} ?", colour)
        assert language.question("size", scene, thing)[1] == size
        assert language.question("shape", scene, thing) == (f"what shape is at the {place} ?", shape)
        assert f"a {size} {colour} {shape}" in language.caption(scene)
    assert len({thing.shape for thing in scene.objects}) == len({thing.place for thing in scene.objects}) == len(scene.objects)
    for make in INSTRUCTION_FORMS.values():
        asked, answer = make(scene, source)
        assert asked.endswith(" .")
        assert answer


def test_a_sampler_draws_what_it_is_asked_for() -> None:
    source = sampler()
    pairs = held_out_pairs(CONFIG)
    for _ in range(200):
        thing = source.single(colour=2, place=1).objects[0]
        assert (thing.colour, thing.place) == (2, 1)
        assert not {(t.shape, t.colour) for t in source.several().objects} & pairs
        scene, pair = source.held_out_scene()
        assert [pair] == [(t.shape, t.colour) for t in scene.objects if (t.shape, t.colour) in pairs]


@pytest.mark.parametrize("image_size_px", [16, 32, 64])
def test_pixels_show_the_object_in_its_cell(image_size_px: int) -> None:
    every = [Scene((Object(s, c, 1, p),), 0, 0) for s in range(NUM_SHAPES) for c in range(NUM_COLOURS) for p in range(3)]
    images_NSS3 = render(every, image_size_px, streams.pixels(0, "test")).astype(np.float32) / 255
    half = image_size_px // 2
    for scene, image_SS3 in zip(every, images_NSS3, strict=True):
        thing = scene.objects[0]
        cells = [image_SS3[:half, :half], image_SS3[:half, half:], image_SS3[half:, :half]]
        brightness = [float(cell.max(axis=-1).mean()) for cell in cells]
        assert int(np.argmax(brightness)) == thing.place
        cell = cells[thing.place].reshape(-1, 3)
        bright = cell[np.argsort(cell.max(axis=1))[-half:]].mean(axis=0)
        assert int(np.argmin(((COLOUR_VALUES - bright) ** 2).sum(axis=1))) == thing.colour


def test_images_of_one_scene_differ_and_compress() -> None:
    scene = sampler().any()
    first, second = render([scene, scene], 32, streams.pixels(0, "test"))
    assert (first != second).any()
    assert 500 < len(encode(first)) < 4000


def test_tags_can_be_told_apart_at_high_resolution() -> None:
    scenes = [Scene((Object(0, 0, 0, 0),), tag, 0) for tag in range(6)]
    images_NSS3 = render(scenes * 20, 128, streams.pixels(0, "test")).astype(np.float32)
    ink_N = images_NSS3[:, 64:108, 64:108].mean(axis=-1).clip(100).sum(axis=(1, 2)).reshape(20, 6).mean(axis=0)
    bits = [7, 7, 9, 12, 11, 9]  # of l, t, x, o, h, v
    assert np.corrcoef(ink_N, bits)[0, 1] > 0.99


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="must not exceed 1"):
        WorldConfig(synthetic_share=0.7, question_share=0.4)
