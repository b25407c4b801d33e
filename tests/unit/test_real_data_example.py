"""The example on real data, on invented files: what pages and pictures it reads, and what it writes."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from random import Random

import matplotlib
import pyarrow.parquet as pq
import pytest
from examples.real_data.__main__ import make
from examples.real_data.benchmark import write_benchmark
from examples.real_data.emoji import LOCALES, emoji, name_pages
from examples.real_data.emoji_parts import caption_pairs, topic_pairs, write_emoji_benchmark, write_name_pages
from examples.real_data.pages import pages
from examples.real_data.parts import Parts, SmallParts
from examples.real_data.pictures import Drawing, Pair, clipart, stamps
from examples.real_data.write import write_hub_parquet, write_pages, write_tars, write_texts
from PIL import Image

from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.sample import ImagePart, Sample
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.readers.captions import read_captions
from mm1.evals.readers.vqav2 import read_vqa
from tests.support import raw_files
from tests.support.mixtures import encoded_image

PAGE = """<?xml version="1.0"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>1.
   Fill</title></head><body>
<div class="navheader"><img src="a.png" alt="Prev"/>Prev</div><p id="title">Site</p>
<div class="sect1"><h3 class="title">1. Fill</h3><p>Click <span><img src="./a.png" alt="icon"/></span> in
  the  <b>tool</b>box.</p><img src="missing.png"/><!-- a comment --><ul class="toc"><li>1. Fill</li></ul>
<pre>a  b
   c</pre><p>Two<br/>lines</p></div></body></html>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "text.html").write_text(PAGE.replace("<img", "<hr"))
    (tmp_path / "a.png").write_bytes(encoded_image(1))
    return tmp_path


def read_all(source: str, path: Path) -> list[Sample]:
    return list(raw_files.read_all(source, LocalRoot(path), lambda text: text))


def pairs(count: int) -> list[Pair]:
    return [
        Pair(encoded_image(number), Drawing(Path("x.png"), f"a {number}", f"animals/{number}.png")) for number in range(count)
    ]


def test_a_page_is_read_in_order_without_navigation(folder: Path) -> None:
    counts: Counter[str] = Counter()
    page, text = pages(folder, counts)
    assert page.title == "1. Fill"
    assert page.images == [None, "a.png", None]
    assert page.texts == ["1. Fill\n\nClick", None, "in the toolbox.\n\na  b\n   c\n\nTwo\nlines"]
    assert text.images == [None]
    assert counts == {"pages read": 2, "images without a file": 1}


@pytest.mark.parametrize("inside", [True, False])
def test_pages_and_texts_are_read_by_ingest_as_they_are(folder: Path, inside: bool) -> None:
    page, text = pages(folder, Counter())
    write_pages([page], folder, folder / "out" / "pages.parquet", inside)
    (document,) = read_all("interleaved", folder / "out")
    assert [part if isinstance(part, ImagePart) else part.text for part in document.parts] == [
        ImagePart(0) if name else node for name, node in zip(page.images, page.texts, strict=True)
    ]
    assert document.images == [encoded_image(1)]
    write_texts([text], folder / "text" / "pages.jsonl.zst")
    (document,) = read_all("text", folder / "text")
    assert list(document.texts()) == text.texts


def test_pairs_are_read_by_ingest_as_they_are(tmp_path: Path) -> None:
    write_tars(pairs(3), tmp_path / "captions" / "stamps")
    write_hub_parquet(pairs(2), tmp_path / "captions" / "clipart" / "train.parquet")
    samples = read_all("captions", tmp_path / "captions")
    assert [list(sample.texts()) for sample in samples] == [["a 0"], ["a 1"], ["a 2"], ["a 0"], ["a 1"]]
    assert [sample.images[0] for sample in samples[:3]] == [encoded_image(number) for number in range(3)]
    (schema,) = [pq.read_schema(path) for path in tmp_path.rglob("train.parquet")]
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}


def test_stamps_and_drawings_have_captions(tmp_path: Path) -> None:
    animals = tmp_path / "animals"
    animals.mkdir()
    for name, text in {"owl.txt": "An owl.\nde.utf8=Eine Eule.\n", "alone.txt": "Nothing."}.items():
        (animals / name).write_text(text)
    Image.new("RGB", (8, 8)).save(animals / "owl.png")
    counts: Counter[str] = Counter()
    (stamp,) = stamps(tmp_path, counts)
    assert (stamp.caption, stamp.topic, counts) == ("An owl.", "animals", {"captions without a picture": 1})
    names = 'xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    work = f"<svg><RDF {names}><cc:Work>{{}}</cc:Work></RDF></svg>"
    texts = "<dc:title> a\n cat</dc:title><dc:description>{}</dc:description>"
    for name, content in {"1": texts.format("asleep"), "2": texts.format("HASH(0x1)"), "3": ""}.items():
        (animals / f"{name}.svg").write_text(work.format(content))
    (animals / "4.svg").write_text("<svg>")
    assert [drawing.caption for drawing in clipart(animals, counts)] == ["a cat: asleep", "a cat"]
    assert counts["drawings without a title"] == counts["drawings that are not XML"] == 1


CHARACTERS = "\u263a\u2600\u2605\u2660\u2665\u266b\u2708\u270e"
FACE = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture
def cldr(tmp_path: Path) -> Path:
    """Names of eight characters, of a skin tone, and of a character without a group."""
    for folder in ("annotations", "annotationsDerived", "properties"):
        (tmp_path / folder).mkdir()
    for locale in LOCALES:
        rows = "".join(
            f'<annotation cp="{sign}" type="tts">Name {n} {locale}</annotation>' for n, sign in enumerate(CHARACTERS)
        )
        other = '<annotation cp="\U0001f44d\U0001f3fb" type="tts">x</annotation><annotation cp="z" type="tts">z</annotation>'
        (tmp_path / "annotations" / f"{locale}.xml").write_text(f"<ldml>{rows}{other}</ldml>")
        (tmp_path / "annotationsDerived" / f"{locale}.xml").write_text("<ldml/>")
    labels = "# comment\n[\u263a\u2600\u2605-\u2606\u2660] ; Signs ; a\n[\u2665\u266b\u2708{\u270e}\U0001f44d] ; Things ; b\n"
    (tmp_path / "properties" / "labels.txt").write_text(labels)
    return tmp_path


def test_emoji_have_names_groups_and_pictures(cldr: Path) -> None:
    items = emoji(cldr, FACE)
    assert "".join(item.characters for item in items) == CHARACTERS
    assert items[0].names["de"] == "name 0 de"
    assert [item.group for item in items] == ["signs"] * 4 + ["things"] * 4
    (caption, *_), (topic, *_) = caption_pairs(items, FACE), topic_pairs(items, FACE)
    assert (caption.drawing.caption, topic.drawing.caption) == ("name 0 en .", "what is it about ? signs .")
    assert Image.open(io.BytesIO(caption.png)).convert("L").getextrema()[0] < 100  # something is drawn
    pages_of_names = list(name_pages(items, 20, Random(0)))
    assert {page.locale for page in pages_of_names} <= set(LOCALES)
    assert all(len({item.characters for item in page.items}) == 8 for page in pages_of_names)


def test_pages_of_names_are_read_by_ingest(cldr: Path, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    write_name_pages(emoji(cldr, FACE), FACE, 3, tmp_path / "names" / "pages.parquet", counts)
    documents = read_all("interleaved", tmp_path / "names")
    assert counts == {"pages written": 3, "images": 24}
    assert [len(document.images) for document in documents] == [8, 8, 8]
    languages = [{text.split()[2] for text in document.texts()} for document in documents]
    assert all(len(language) == 1 for language in languages)  # one language a page


def test_held_out_emoji_are_benchmarks(cldr: Path, tmp_path: Path) -> None:
    items = emoji(cldr, FACE)
    write_emoji_benchmark(items[4:] + items[:3], items * 30, FACE, tmp_path / "b" / "test", Counter())
    folder = BenchmarkFolder(tmp_path / "b", "test")
    read = {name: read_vqa(folder.of_split(name), name) for name in ("emoji_topic", "emoji_name", "emoji_language")}
    assert {name: len(of_task) for name, of_task in read.items()} == {"emoji_topic": 7, "emoji_name": 42, "emoji_language": 42}
    assert all(item.references[0] in item.choices for of_task in read.values() for item in of_task)
    assert read["emoji_topic"][0].choices == ("signs", "things")
    assert read["emoji_language"][1].choices == tuple(f"name 4 {locale}" for locale in LOCALES)
    assert len(read_vqa(folder.of_split("emoji_topic"), "emoji_topic_demo")) == 200


def test_the_benchmark_is_one_of_the_evaluation(tmp_path: Path) -> None:
    write_benchmark(pairs(5), tmp_path)
    folder = BenchmarkFolder(tmp_path, "test")
    assert [item.references for item in read_captions(folder.of_split("captions"), "captions")] == [
        ("a 0",),
        ("a 2",),
        ("a 4",),
    ]
    assert len(read_vqa(folder.of_split("topic"), "topic_demo")) == 2


def test_parts_that_are_done_are_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    class Two(Parts):
        def writers(self):
            def write(name):
                def one(counts):
                    made.append(name)
                    counts["rows"] = 1
                    if name == "b" and len(made) == 2:
                        raise OSError("no space left")

                return one

            return {"a": write("a"), "b": write("b")}

    parts = Two(tmp_path / "out", tmp_path / "cache")
    with pytest.raises(OSError, match="no space"):
        make(parts)
    assert make(parts) == {"a": {"rows": 1}, "b": {"rows": 1}}
    assert made == ["a", "b", "b"]
    with pytest.raises(SystemExit, match="full version"):
        make(SmallParts(parts.out, parts.cache))
