"""Images in tiles in the data plane: the tokens and pixels of the processor, within the limits of a sequence."""

from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer

from mm1.data.images import decode_image, decode_tiles, size_of
from mm1.data.load.collate import PixelNorm
from mm1.data.load.documents import build_documents
from mm1.data.load.freeze import with_layout
from mm1.data.load.image_tiles import ImageTiles, count_marks, layout_of
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.open_mix import make_plan, open_indexes, open_mix
from mm1.data.load.packing import PackingLimits, cut_document
from mm1.data.load.statistics import measure, num_long_documents
from mm1.data.sample import IMAGE_PLACE, ImagePart, Sample, TextPart
from mm1.data.shards import image_sizes
from mm1.data.tokenizer import TextTokenizer, train_bpe
from mm1.errors import ConfigurationError, DataError
from mm1.modeling.image_layout import ImageLayout
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import build_processor
from mm1.store.local import LocalStore
from tests.support.damaged_images import encoded, png_chunk, raw_png, tagged
from tests.support.mixtures import WORDS, build_mix, encoded_image, words
from tests.support.tiny_mm1 import tiny_mm1, tiny_tokenizer

SIDE, TOKENS = 8, 4
LAYOUTS = ["static", "static,marks=separators", "dynamic,grid=2-5", "dynamic,grid=2-5,marks=separators", "dynamic,grid=1-6"]
MEAN_STD = ([0.5] * 3, [0.5] * 3)


def samples_of(count, seed=0, most=4):
    """Documents of one to four images of many shapes with texts between them."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        sizes = random.integers(3, 40, (random.integers(1, most + 1), 2)).tolist()
        images = [encoded_image(100 * number + index, size=tuple(size)) for index, size in enumerate(sizes)]
        parts = [part for index in range(len(sizes)) for part in (ImagePart(index), TextPart(words(random, 1, 9)))]
        samples.append(Sample(f"doc-{number:09d}", "interleaved", parts, images))
    return samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_bpe([" ".join(WORDS)] * 3, tmp_path_factory.mktemp("bpe"), 300)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LAYOUTS), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=3))
def test_a_document_has_the_tokens_and_pixels_of_the_processor(folder, text, sizes):
    layout, tokenizer = layout_of(text), TextTokenizer.from_folder(folder)
    processor = build_processor(AutoTokenizer.from_pretrained(folder), TOKENS, SIDE, *MEAN_STD, image_layout=text)
    images = [encoded_image(number, size=size) for number, size in enumerate(sizes)]
    parts = [TextPart("the red"), *(part for n in range(len(sizes)) for part in (ImagePart(n), TextPart("a ring")))]
    tiles = ImageTiles(layout, SIDE, TOKENS, count_marks(layout, tokenizer))
    (document,) = build_documents([Sample("k", "captions", parts, images)], tokenizer, tiles)
    inputs = processor(text="the red" + "<image>a ring" * len(sizes), images=[decode_image(image) for image in images])
    assert document.ids[:-1].tolist() == inputs["input_ids"][0].tolist()
    pixels = [np.empty((each.count, SIDE, SIDE, 3), np.uint8) for each in document.tiles]
    for image, each, out in zip(images, document.tiles, pixels, strict=True):
        decode_tiles(image, each, out)
    values = PixelNorm(*MEAN_STD)(torch.from_numpy(np.concatenate(pixels)))
    torch.testing.assert_close(values, inputs["pixel_values"], atol=1e-5, rtol=0)
    assert not document.loss[document.ids == tokenizer.image_id].any(), "no loss on images"
    text_tokens = sum(len(ids) for ids in tokenizer.encode([part.text for part in parts if isinstance(part, TextPart)]))
    assert document.loss.sum() == text_tokens + 1, "nor on marks"


TOKENIZER = tiny_tokenizer()
GREY = np.linspace(0, 1, 40 * 24).reshape(24, 40)
COLOUR = Image.fromarray((np.stack([GREY, GREY[::-1], GREY / 2, GREY], -1) * 255).astype(np.uint8))
FILES = {
    "grey of 16 bits": encoded(Image.fromarray((GREY * 65535).astype(np.uint16)), "PNG"),
    "grey of 32 bits": encoded(Image.fromarray((GREY * 65535).astype(np.int32)), "TIFF"),
    "floats": encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "two colours": encoded(COLOUR.convert("1"), "PNG"),
    "grey": encoded(COLOUR.convert("L"), "PNG"),
    "CMYK": encoded(COLOUR.convert("CMYK"), "TIFF"),
    "transparent": encoded(COLOUR, "PNG"),
    "transparent grey": encoded(COLOUR.convert("LA"), "PNG"),
    "palette": encoded(COLOUR.convert("RGB").convert("P"), "PNG", transparency=3),
    "turned": encoded(COLOUR.convert("RGB"), "PNG", exif=tagged(6)),
    "turned grey of 16 bits": encoded(Image.fromarray((GREY * 65535).astype(np.uint16)), "PNG", exif=tagged(6)),
    "turned after the pixels": raw_png(
        np.asarray(COLOUR.convert("RGB")), 2, 8, late=png_chunk(b"eXIf", tagged(6).tobytes()[6:])
    ),
    "turned TIFF": encoded(COLOUR.convert("RGB"), "TIFF", tiffinfo={274: 6}),
    **{f"{w} x {h}": encoded_image(w, size=(w, h)) for w, h in ((1, 1), (1, 7), (7, 1), (1, 100), (100, 1), (3000, 2))},
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind_are_seen_as_in_training(kind):
    data = FILES[kind]
    for layout in ("single", "static", "dynamic,grid=1-9", "dynamic,grid=4-9"):
        processor = build_processor(TOKENIZER, TOKENS, SIDE, *MEAN_STD, image_layout=layout)
        tiles = layout_of(layout).tiles(*size_of(data), SIDE)
        pixels = np.empty((tiles.count, SIDE, SIDE, 3), np.uint8)
        decode_tiles(data, tiles, pixels)
        inputs = processor(text="<image>a", images=[Image.open(BytesIO(data))])
        values = PixelNorm(*MEAN_STD)(torch.from_numpy(pixels))
        torch.testing.assert_close(values, inputs["pixel_values"], atol=1.01 / 127.5, rtol=0, msg=f"{kind}, {layout}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_plan_has_the_lengths_of_the_documents(tmp_path, layout):
    store = LocalStore(tmp_path / "store")
    raw, mix = build_mix(
        store,
        tmp_path,
        weights={"interleaved": 1.0},
        samples={"interleaved": samples_of(40)},
        sequence_length=128,
        max_images=14,
        image_size_px=SIDE,
        image_layout=layout,
    )
    opened = open_mix(store, mix, raw)
    assert mix.mark_tokens == count_marks(layout_of(layout), opened.tokenizer)
    loader = MixtureLoader(store, mix, raw, micro_batch=2, global_batch=2, rank=0, world_size=1)
    divided = 0
    for number, batch in zip(range(12), loader, strict=False):
        spans = [span for row in (2 * number, 2 * number + 1) for span in opened.plan[row].spans]
        assert len(batch["pixel_values"]) == sum(span.num_images for span in spans)
        assert int((batch["input_ids"] == opened.tokenizer.image_id).sum()) == TOKENS * len(batch["pixel_values"])
        for row in (2 * number, 2 * number + 1):
            assert sum(span.num_images for span in opened.plan[row].spans) <= mix.max_images
            assert sum(span.stop - span.start for span in opened.plan[row].spans) <= mix.sequence_length
        divided += any(span.num_images > 4 for span in spans)
    assert divided and not loader.num_damaged
    loader.close()
    indexes = {0: open_indexes(store, raw, mix.sources[0])}
    figures = measure(make_plan(mix, indexes), mix, 30).figures() | num_long_documents(mix, indexes)
    assert figures["labels_per_sequence"] < figures["tokens_per_sequence"] < 128


def test_the_loss_of_a_packed_batch_is_that_of_its_documents(tmp_path):
    store = LocalStore(tmp_path / "store")
    raw, mix = build_mix(
        store,
        tmp_path,
        weights={"interleaved": 1.0},
        samples={"interleaved": samples_of(20, most=2)},
        sequence_length=160,
        max_images=20,
        image_size_px=16,
        image_layout="dynamic,grid=2-4",
    )
    model: MM1ForConditionalGeneration = tiny_mm1()[0]
    tokenizer = open_mix(store, mix, raw).tokenizer
    loader = MixtureLoader(store, mix, raw, micro_batch=1, global_batch=1, rank=0, world_size=1)
    batch = next(iter(loader))
    loader.close()
    pixels, losses, count = PixelNorm(*MEAN_STD)(batch["pixel_values"]), 0.0, 0
    names = ("input_ids", "labels", "position_ids", "document_ids")
    first = 0
    with torch.inference_mode():
        whole = model(**{name: batch[name] for name in names}, pixel_values=pixels).loss
        for document in range(1, int(batch["document_ids"].max()) + 1):
            rows = batch["document_ids"][0] == document
            alone = {name: batch[name][:, rows] for name in names[:3]}
            images = int((alone["input_ids"] == tokenizer.image_id).sum()) // TOKENS
            loss = model(**alone, pixel_values=pixels[first : first + images]).loss
            predicted = int((alone["labels"][0, 1:] != -100).sum())
            losses, count, first = losses + float(loss) * predicted, count + predicted, first + images
    assert document > 1 and first == len(pixels)
    assert float(whole) == pytest.approx(losses / count, rel=1e-5)


LIMITS = PackingLimits(sequence_length=40, max_images=5, image_tokens=4)
texts = st.integers(0, 60).map(lambda tokens: (tokens, 0))
divided_images = st.integers(1, 5).flatmap(lambda tiles: st.integers(0, 3).map(lambda marks: (4 * tiles + marks, tiles)))


@given(st.lists(st.one_of(texts, divided_images), max_size=12))
def test_cuts_keep_all_tiles_of_an_image_together(parts):
    images = [part for part in parts if part[1]]
    cuts = cut_document([IMAGE_PLACE if tiles else tokens for tokens, tiles in parts], LIMITS, images)
    borders, position = set(), 0
    inside = set()
    for tokens, tiles in parts:
        inside |= set(range(position + 1, position + tokens)) if tiles else set()
        position += tokens
    borders = {cut.stop for cut in cuts[:-1]}
    assert not borders & inside
    assert [cuts[0].start, *(cut.stop for cut in cuts)] == [*(cut.start for cut in cuts), position + 1]
    assert sum(cut.num_images for cut in cuts) == sum(tiles for _, tiles in images)
    assert all(cut.stop - cut.start <= 40 and cut.num_images <= 5 for cut in cuts)


def test_a_sequence_must_hold_the_tiles_of_an_image():
    tiles = ImageTiles(layout_of("dynamic"), 672, 144)
    tiles.check(4096, 16)
    with pytest.raises(ConfigurationError, match=r"up to 10 tiles with 1440 tokens.*max_images=10 and sequence_length=1442"):
        tiles.check(1024, 8)
    with pytest.raises(ConfigurationError, match="image_layout: expected single or static"):
        layout_of("tiled")


def test_shards_without_sizes_still_serve_whole_images(tmp_path):
    store = LocalStore(tmp_path / "store")
    raw, mix = build_mix(store, tmp_path, weights={"captions": 1.0})
    (shard, *_), source = raw.sources["captions"].shards, raw.sources["captions"]
    table = pq.read_table(store.local_path(shard.index)).drop_columns(["image_sizes"])
    pq.write_table(table, tmp_path / "old.parquet")
    old = shard.model_copy(update={"index": store.put_file(tmp_path / "old.parquet")})
    raw = raw.model_copy(update={"sources": {"captions": source.model_copy(update={"shards": (old,)})}})
    indexes = {0: open_indexes(store, raw, mix.sources[0])}
    assert make_plan(mix, indexes)[0].spans
    with pytest.raises(DataError, match=r"no sizes of images.*ingest the data again"):
        make_plan(with_layout(mix, "dynamic,grid=2-4", store), indexes)[0]


def test_sizes_are_those_that_people_see():
    upright = encoded_image(0, size=(30, 20))
    sideways = encoded(Image.new("RGB", (30, 20)), "JPEG", exif=tagged(6))
    sample = Sample("k", "captions", [ImagePart(1), ImagePart(0), TextPart("a")], [upright, sideways])
    assert image_sizes(sample) == [(20, 30), (30, 20)]
    assert image_sizes(Sample("k", "captions", [ImagePart(0)], [b"no image"])) == [(0, 0)]
    assert ImageLayout("static").tiles(0, 0, 8).count == 5
