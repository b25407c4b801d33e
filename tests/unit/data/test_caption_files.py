"""Caption pairs as files in folders: which files belong together, and what is left out."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.data.prepare.files.raw import cleaner
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.sources.captions.files import find_pairs
from mm1.data.prepare.sources.formats import NAMED_IMAGE, Options, Reading, discover
from mm1.data.sample import Sample
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import DataError
from mm1.manifests import RawFile
from tests.support.mixtures import encoded_image

CLEAN = cleaner(SPECIAL_TOKENS)
RED, BLUE = encoded_image(1, image_format="JPEG"), encoded_image(2, image_format="PNG")


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(folder, **options):
    options, root = Options(**options), LocalRoot(folder)
    found = discover("captions", root, options)
    items = [item for form, files in found.files.items() for item in Reading("captions", form, root, files, CLEAN, options)]
    pairs = [
        (item.origin, item.images[0], next(item.texts())) if isinstance(item, Sample) else (item.name, item.origin)
        for item in items
    ]
    return pairs, {each.name: each.reason for each in found.left_out}


BARE, ALONE = "image without a caption of its name", "text without an image of its name"
LAYOUTS = {
    "pair": ({"0.jpg": RED, "0.txt": b"t"}, [("0.jpg:1", RED, "t")], {}),
    "json": ({"0.jpg": RED, "0.json": b'{"caption": "t"}'}, [("0.jpg:1", RED, "t")], {}),
    "both": ({"0.jpg": RED, "0.txt": b"t", "0.json": b'{"caption": "u"}'}, [("0.jpg:1", RED, "t")], {}),
    "list": ({"0.jpg": RED, "0.json": b'{"caption": ["s", "t"]}'}, [("0.jpg:1#1", RED, "s"), ("0.jpg:1#2", RED, "t")], {}),
    "caption": ({"0.png": BLUE, "0.caption": b"t"}, [("0.png:1", BLUE, "t")], {}),
    "upper case": (
        {"0.JPG": RED, "0.TXT": b"t", "1.Jpeg": RED, "1.Txt": b"u"},
        [("0.JPG:1", RED, "t"), ("1.Jpeg:1", RED, "u")],
        {},
    ),
    "full name": ({"0.jpg": RED, "0.jpg.txt": b"t"}, [("0.jpg:1", RED, "t")], {}),
    "two full names": (
        {"0.jpg": RED, "0.jpg.txt": b"s", "0.png": BLUE, "0.png.txt": b"t"},
        [("0.jpg:1", RED, "s"), ("0.png:1", BLUE, "t")],
        {},
    ),
    "two images": ({"0.jpg": RED, "0.png": BLUE, "0.txt": b"t"}, [("0.jpg:1", RED, "t")], {"0.png": BARE}),
    "two captions": ({"0.jpg": RED, "0.txt": b"t", "0.caption": b"u"}, [("0.jpg:1", RED, "t")], {"0.caption": ALONE}),
    "dots": (
        {"v1.0.jpg": RED, "v1.0.txt": b"s", "v1.1.jpg": RED, "v1.1.txt": b"t"},
        [("v1.0.jpg:1", RED, "s"), ("v1.1.jpg:1", RED, "t")],
        {},
    ),
    "line break": ({"a\nb.jpg": RED, "a\nb.txt": b"t"}, [("a\\x0ab.jpg:1", RED, "t")], {}),
    "readme": ({"0.jpg": RED, "0.txt": b"t", "README.txt": b"x"}, [("0.jpg:1", RED, "t")], {"README.txt": ALONE}),
    "image alone": ({"0.jpg": RED, "0.txt": b"t", "1.jpg": RED}, [("0.jpg:1", RED, "t")], {"1.jpg": BARE}),
    "folders": (
        {"a/0.jpg": RED, "a/0.txt": b"s", "b/0.jpg": BLUE, "b/0.txt": b"t"},
        [("a/0.jpg:1", RED, "s"), ("b/0.jpg:1", BLUE, "t")],
        {},
    ),
    "not UTF-8": ({"0.jpg": RED, "0.txt": b"caf\xe9"}, [("caption_not_utf8", "0.jpg:1")], {}),
    "empty image": ({"0.jpg": b"", "0.txt": b"t"}, [("0.jpg:1", b"", "t")], {}),
    "no caption in the json": ({"0.jpg": RED, "0.json": b'{"k": 1}'}, [("0.jpg:1", RED, "")], {}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_which_files_belong_together(tmp_path, name):
    files, pairs, left_out = LAYOUTS[name]
    assert read(write(tmp_path, files)) == (pairs, left_out)


def test_the_default_layout_of_img2dataset(tmp_path):
    for number in range(3):
        record = {"caption": f"number {number}", "url": f"https://a.invalid/{number}.jpg", "key": f"{number:09d}"}
        content = {"jpg": RED, "txt": record["caption"].encode(), "json": json.dumps(record).encode()}
        write(tmp_path / "00000", {f"{number:09d}.{suffix}": data for suffix, data in content.items()})
    table = {"url": ["https://a.invalid/0.jpg"], "caption": ["a"], "key": ["0"], "status": ["success"], "width": [16]}
    pq.write_table(pa.table(table), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text(json.dumps({"count": 3, "successes": 3}))
    (tmp_path / "00001").mkdir()
    pairs, left_out = read(tmp_path)
    assert [pair[2] for pair in pairs] == ["number 0", "number 1", "number 2"]
    assert left_out == {
        "00000.parquet": "addresses of images: download them with img2dataset or remote=fetch",
        "00000_stats.json": "JSON metadata",
    }


def test_pairs_are_limited_and_columns_apply(tmp_path):
    write(tmp_path, {"0.jpg": bytes(5000), "0.txt": b"t", "1.jpg": RED, "1.txt": b"t", "1.json": b'{"blip": "u"}'})
    assert read(tmp_path, max_row_bytes=4000, columns={"caption": "blip"})[0] == [
        ("row_too_large", "0.jpg:1"),
        ("1.jpg:1", RED, "u"),
    ]


def test_images_without_captions_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file can be read as captions: image without a caption of its name"):
        read(write(tmp_path, {"0.jpg": RED}))


def test_images_next_to_a_table_may_be_named_by_its_rows(tmp_path):
    write(tmp_path, {"0.jpg": RED, "1.jpg": BLUE, "a.csv": b"image,caption\n0.jpg,t\n"})
    found = discover("captions", LocalRoot(tmp_path))
    assert {each.name: each.reason for each in found.left_out} == dict.fromkeys(("0.jpg", "1.jpg"), NAMED_IMAGE)


@given(
    st.sets(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["jpg", "png", "txt", "TXT", "json", "jpg.txt", "png.json", "csv"]))
    )
)
def test_every_file_is_in_one_pair_or_left(names):
    files = [RawFile(name=f"{stem}.{ending}", num_bytes=1, version=f"{stem}.{ending}") for stem, ending in sorted(names)]
    pairs, others = find_pairs(files)
    members = [name for pair in pairs for name in pair.version.split("+")]
    assert {*members, *(file.name for file in others)} == {file.name for file in files}
    assert not {*members} & {file.name for file in others}
    captions = [name for name in members if not name.endswith(("jpg", "png", "json"))]
    assert len(captions) == len({*captions})
