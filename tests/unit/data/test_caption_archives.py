"""Caption pairs in tars and zips: which members belong together, and what is counted rather than lost."""

import bz2
import gzip
import io
import json
import lzma
import random
import subprocess
import tarfile
import zipfile

import pytest
import webdataset
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.data.prepare.files.raw import Odd, cleaner
from mm1.data.prepare.locations.roots import LeftOut, LocalRoot
from mm1.data.prepare.sources.formats import FORMATS, Options, Reading, discover
from mm1.data.sample import Sample
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import DataError
from mm1.manifests import RawFile
from tests.support.mixtures import encoded_image

CLEAN = cleaner(SPECIAL_TOKENS)
RED, BLUE = encoded_image(1, image_format="JPEG"), encoded_image(2, image_format="PNG")


def write_tar(path, members, form=tarfile.PAX_FORMAT, **options):
    """Members: (name, content), (name, link target as text), or TarInfo."""
    with tarfile.open(path, "w", format=form, **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = (
                    tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE,
                    content.lstrip("->"),
                )
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def read(path, **options):
    """All items: samples as (origin, image, caption); odd rows as (name, origin); what is left out as reason."""
    options = Options(**options)
    root = LocalRoot(path.parent)
    form = "img2dataset-zip" if path.suffix == ".zip" else "img2dataset"
    file = RawFile(name=path.name, num_bytes=path.stat().st_size, version="")
    return [short(item) for item in Reading("captions", form, root, [file], CLEAN, options)]


def short(item):
    if isinstance(item, Sample):
        return item.origin.partition(":")[2], item.images[0], next(item.texts())
    return (item.name, item.origin.partition(":")[2]) if isinstance(item, Odd) else item.reason


def odd_of(path, **options):
    (odd,) = [item for item in read_items(path, **options) if isinstance(item, Odd)]
    return odd


def read_items(path, **options):
    options = Options(**options)
    files = [RawFile(name=path.name, num_bytes=path.stat().st_size, version="")]
    return list(Reading("captions", "img2dataset", LocalRoot(path.parent), files, CLEAN, options))


def members(*keys):
    return [member for key in keys for member in ((f"{key}.jpg", RED), (f"{key}.txt", f"it is {key}".encode()))]


def pairs(*keys):
    return [(key, RED, f"it is {key}") for key in keys]


GROUPS = {
    "dots in keys": (members("photo.1", "photo.2", "v1.0.3", "a"), pairs("photo.1", "photo.2", "v1.0.3", "a")),
    "a key and the same with a dot": (members("x", "x.1"), pairs("x", "x.1")),
    "not interleaved": ([members("p.1", "p.2")[n] for n in (0, 2, 1, 3)], pairs("p.1", "p.2")),
    "names of fields": ([("x.input.jpg", RED), ("x.outputs.txt", b"t")], [("x", RED, "t")]),
    "one of them has no middle": ([("x.jpg", RED), ("x.0.txt", b"t")], [("x", RED, "t")]),
    "several captions": ([("x.jpg", RED), ("x.0.txt", b"s"), ("x.1.txt", b"t")], [("x#1", RED, "s"), ("x#2", RED, "t")]),
    "caption and text": ([("x.jpg", RED), ("x.txt", b"s"), ("x.caption", b"t")], [("x#1", RED, "s"), ("x#2", RED, "t")]),
    "the name of the image and .txt": ([("x.jpg", RED), ("x.jpg.txt", b"t"), ("x.jpg.json", b"{}")], [("x", RED, "t")]),
    "a mask": ([*members("x"), ("x.seg.png", BLUE)], [*pairs("x"), "second image of a pair"]),
    "two formats": ([("x.png", BLUE), *members("x")], ["second image of a pair", *pairs("x")]),
    "further fields": ([*members("x"), ("x.cls", b"3"), ("x.a.npy", b"")], pairs("x")),
    "upper case": ([("X.JPG", RED), ("X.Txt", b"it is X")], pairs("X")),
    "folders": (members("a.b/c", "a.b/d/c"), pairs("a.b/c", "a.b/d/c")),
    "./": ([(f"./{name}", data) for name, data in members("a")], pairs("a")),
    "no image": ([("a.txt", b"t"), *members("b")], [("a", b"", "t"), *pairs("b")]),
    "no image, with dots": ([("p.1.txt", b"t"), *members("p.2")], [("p.1", b"", "t"), *pairs("p.2")]),
    "no caption": ([("a.jpg", RED), *members("b")], [("a", RED, ""), *pairs("b")]),
    "caption in the json": ([("a.jpg", RED), ("a.json", b'{"caption": "t"}')], [("a", RED, "t")]),
    "json alone": ([("a.json", b'{"caption": "t"}'), ("b.json", b'{"k": 1}')], [("a", b"", "t"), "neither image nor caption"]),
    "neither": ([("a.npy", b"x"), ("b", b"x"), ("c.cls", b"")], ["neither image nor caption"] * 3),
    "neither, with dots": ([("a.1.npy", b"x"), ("a.2.npy", b"x")], ["neither image nor caption"] * 2),
    "repeated image": (
        [("0.jpg", RED), ("0.jpg", BLUE), ("0.txt", b"t"), *members("a")],
        [("duplicate_key", "0"), *pairs("a")],
    ),
    "repeated caption": ([("0.jpg", RED), ("0.txt", b"s"), ("0.txt", b"t")], [("duplicate_key", "0")]),
    "repeated in other case": ([("0.jpg", RED), ("0.JPG", BLUE), ("0.txt", b"t")], [("duplicate_key", "0")]),
    "repeated with a dot": ([*members("p.1", "p.2"), ("p.2.jpg", BLUE)], [*pairs("p.1"), ("duplicate_key", "p.2")]),
    "several images": (
        [("x.0.jpg", RED), ("x.1.jpg", BLUE), ("x.txt", b"t")],
        [("several_images", "x.0"), ("several_images", "x.1")],
    ),
    "different words": ([("p.beach.jpg", RED), ("p.forest.txt", b"t")], [("ambiguous_key", "p.beach")]),
    "different numbers": ([*members("p.1"), ("p.2.jpg", RED), ("p.3.txt", b"t")], [("ambiguous_key", "p.2"), *pairs("p.1")]),
    "not UTF-8": ([("a.jpg", RED), ("a.txt", b"caf\xe9")], [("caption_not_utf8", "a")]),
    "byte order mark": ([("a.jpg", RED), ("a.txt", b"\xef\xbb\xbft")], [("a", RED, "t")]),
    "half a character": ([("a.jpg", RED), ("a.json", b'{"caption": "t \\ud83d"}')], [("a", RED, "t \ufffd")]),
    "list": ([("a.jpg", RED), ("a.json", b'{"caption": ["s", "t"]}')], [("a#1", RED, "s"), ("a#2", RED, "t")]),
    "number": ([("a.jpg", RED), ("a.json", b'{"caption": 3}')], [("caption_not_text", "a")]),
    "broken json": ([*members("a"), ("a.json", b"{")], pairs("a")),
    "empty json": ([*members("a"), ("a.json", b"")], pairs("a")),
    "broken json alone": ([("a.jpg", RED), ("a.json", b"{")], [("not_json", "a")]),
    "line break": (members("a\nb"), [("a\\x0ab", RED, "it is a\nb")]),
    "deep json": ([("a.jpg", RED), ("a.json", b"[" * 100_000)], [("not_json", "a")]),
}


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", GROUPS)
def test_which_members_belong_together(tmp_path, name, kind):
    content, expected = GROUPS[name]
    if kind == "zip":
        if name.startswith("repeated"):
            pytest.skip("zipfile warns about names that are repeated")
        assert read(write_zip(tmp_path / "0.zip", content)) == expected
    else:
        assert read(write_tar(tmp_path / "0.tar", content)) == expected


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        ("._0.jpg", "hidden file"),
        ("a/.DS_Store", "hidden file"),
        (".git/x.jpg", "hidden file"),
        ("__MACOSX/._0.jpg", "macOS metadata"),
        ("__MACOSX/0.jpg", "macOS metadata"),
        ("Thumbs.db", "thumbnails or settings of a folder"),
        ("PaxHeaders.7/0.jpg", "folder of an archive tool"),
        ("README.txt", "read-me or licence"),
        ("a/LICENSE", "read-me or licence"),
        ("readme.md", "read-me or licence"),
    ],
)
@pytest.mark.parametrize("place", range(5))
def test_members_that_are_no_samples_break_no_pair(tmp_path, hidden, reason, place):
    content = members("0", "1")
    content.insert(place, (hidden, b"\0\5\x16\7"))
    for path in (write_tar(tmp_path / "0.tar", content), write_zip(tmp_path / "0.zip", content)):
        items = read(path)
        assert [item for item in items if item != reason] == pairs("0", "1")
        assert items.count(reason) == 1


def test_a_picture_may_be_called_readme(tmp_path):
    assert read(write_tar(tmp_path / "0.tar", members("readme"))) == pairs("readme")


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    path = write_tar(tmp_path / "0.tar", members("caf\xe9"), tarfile.GNU_FORMAT, encoding="latin-1")
    assert read(path) == [("caf\\xe9", RED, "it is caf\xe9")]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write_tar(tmp_path / "1.tar", members("图片 1", "k" * 150), form, encoding="utf-8")
        assert read(path) == pairs("图片 1", "k" * 150)


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg"])
def test_a_member_that_climbs_out_is_refused(tmp_path, name):
    for path in (write_tar(tmp_path / "0.tar", [(name, RED)]), write_zip(tmp_path / "0.zip", [(name, RED)])):
        with pytest.raises(DataError, match=rf"{path.name}: the member .*evil.* points outside the archive"):
            read(path)


def test_links_have_the_content_of_the_member_that_they_name(tmp_path):
    content = [
        *members("a/0"),
        ("a/1.jpg", "a/0.jpg"),
        ("a/1.txt", b"it is a/1"),
        ("a/2.jpg", "->0.jpg"),
        ("a/2.txt", b"it is a/2"),
        ("b/3.jpg", "->../a/2.jpg"),
        ("b/3.txt", "->../a/4.txt"),
        ("a/4.txt", b"later"),
    ]
    path = write_tar(tmp_path / "0.tar", content)
    assert read(path) == [*pairs("a/0", "a/1", "a/2"), ("b/3", RED, "later"), ("a/4", b"", "later")]
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert [item[0] for item in read(path)] == ["a/0", *["link_in_compressed_tar"] * 3, "a/4"]


@pytest.mark.parametrize("target", ["->/etc/passwd", "->../../x.jpg", "gone.jpg", "->0.jpg", "->", "-> "])
def test_links_that_lead_nowhere_are_counted(tmp_path, target):
    path = write_tar(tmp_path / "0.tar", [("0.jpg", target), ("0.txt", b"t"), *members("a")])
    assert read(path) == [("link_outside", "0"), *pairs("a")]


def test_links_to_repeated_names(tmp_path):
    content = [*members("0"), ("1.jpg", "0.jpg"), ("1.txt", b"s"), ("0.jpg", BLUE), ("0.txt", b"t")]
    content += [("2.jpg", "0.jpg"), ("2.txt", b"u"), ("3.jpg", "->0.jpg"), ("3.txt", b"v")]
    items = read(write_tar(tmp_path / "0.tar", content))
    assert items == [*pairs("0"), ("1", RED, "s"), ("0", BLUE, "t"), ("2", BLUE, "u"), ("duplicate_key", "3")]


def test_zips_of_windows_and_of_unix(tmp_path):
    with zipfile.ZipFile(tmp_path / "0.zip", "w") as archive:
        for name, data in members("a\\b"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, data)
        info = zipfile.ZipInfo("c.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "a/b.jpg")
        archive.writestr("c.txt", "t")
    assert read(tmp_path / "0.zip") == [("a/b", RED, "it is a\\b"), ("link_in_zip", "c")]


def test_sparse_and_large_members_are_counted(tmp_path):
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "a.jpg").open("wb") as file:
        file.truncate(1 << 31)
    (tmp_path / "in" / "a.txt").write_text("t")
    for form in ("gnu", "posix"):
        path = tmp_path / f"{form}.tar"
        command = ["tar", "--sparse", f"--format={form}", "-cf", str(path), "-C", str(tmp_path / "in"), "a.jpg", "a.txt"]
        subprocess.run(command, check=True)
        assert read(path) == [("sparse_member", "a")]
    path = write_tar(tmp_path / "0.tar", [("0.jpg", bytes(5000)), ("0.txt", b"t"), *members("a")])
    assert read(path, max_row_bytes=4000) == [("row_too_large", "0"), *pairs("a")]
    several = [("0.jpg", bytes(3000)), ("0.txt", bytes(3000)), ("0.json", b'{"caption": "t"}'), *members("a")]
    assert read(write_tar(path, several), max_row_bytes=4000) == [("row_too_large", "0"), *pairs("a")]


def test_zips_are_limited_by_what_is_read(tmp_path):
    path = write_zip(tmp_path / "0.zip", [("0.jpg", bytes(10**7)), ("0.txt", b"t"), *members("a")])
    assert path.stat().st_size < 50_000
    assert read(path, max_row_bytes=10**6) == [("row_too_large", "0"), *pairs("a")]
    encrypted = bytearray(write_zip(path, [("0.jpg", RED), ("0.txt", b"t")]).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(signature) + offset] |= 1
    path.write_bytes(encrypted)
    assert read(path) == [("encrypted_member", "0")]
    damaged = bytearray(write_zip(path, members("a", "b")).read_bytes())
    damaged[40] ^= 0xFF
    path.write_bytes(damaged)
    assert read(path) == [("damaged_member", "a"), *pairs("b")]
    path.write_bytes(bytes(damaged[:-30]))
    with pytest.raises(DataError, match=r"0\.zip: the zip is damaged or truncated"):
        read(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_compressed_tars_are_recognised_by_their_content(tmp_path, compress):
    path = write_tar(tmp_path / "0.tar", members("a", "b"))
    data = compress(path.read_bytes())
    path.write_bytes(data)
    assert read(path) == pairs("a", "b")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"0\.tar: the tar is damaged or truncated"):
        read(path)


def test_archives_one_after_the_other_are_read(tmp_path):
    first, second = write_tar(tmp_path / "a", members("0", "1")), write_tar(tmp_path / "b", members("1", "2"))
    path = tmp_path / "0.tar"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert read(path) == pairs("0", "1", "1", "2")
    path.write_bytes(first.read_bytes() + b"signature")
    assert read(path) == [*pairs("0"), "data after the end mark", *pairs("1")]


def test_members_that_are_not_adjacent_are_named_with_the_remedy(tmp_path):
    content = members("0", "1", "2")
    items = read(write_tar(tmp_path / "0.tar", content[0::2] + content[1::2]))
    assert items[3:] == [("not_adjacent", key) for key in "012"]
    odd = odd_of(write_tar(tmp_path / "1.tar", [*members("0"), *members("1"), ("0.json", b'{"caption": "t"}')]))
    assert odd.name == "not_adjacent" and "tar --sort=name" in odd.detail


def test_a_key_of_many_pairs_is_read_in_pieces(tmp_path):
    keys = [f"train.v1.{number}" for number in range(1_000)]
    assert sorted(read(write_tar(tmp_path / "0.tar", members(*keys)))) == sorted(pairs(*keys))
    content = members(*keys)
    items = read(write_tar(tmp_path / "0.tar", content[0::2] + content[1::2]))
    assert sum(item[0] == "not_adjacent" for item in items) > 500


def test_columns_name_endings_and_fields(tmp_path):
    content = [("0.a.jpg", RED), ("0.b.jpg", BLUE), ("0.txt", b"s"), ("0.json", b'{"TEXT": "t", "caption": "u"}')]
    path = write_tar(tmp_path / "0.tar", content)
    assert read(path, columns={"image": "b.jpg", "caption": "TEXT"}) == [("0", BLUE, "t")]
    assert read(path, columns={"image": "a.jpg"}) == [("0", RED, "s")]
    assert odd_of(path, columns={"image": "a.jpg", "caption": "NONE"}).detail == (
        "expected a caption in the field 'NONE' of a .json or in a file .NONE"
    )


def test_metadata_are_strict_json(tmp_path):
    fields = b'{"url": "https://a/b.jpg", "punsafe": NaN, "clip_similarity_vitl14": 0.5, "pwatermark": 1e999}'
    (sample,) = read_items(write_tar(tmp_path / "0.tar", [*members("0"), ("0.json", fields)]))
    assert sample.meta == {"origin": "0.tar:0", "addresses": ["https://a/b.jpg"], "clip_similarity_vitl14": 0.5}


CONTENT = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d.1", "d.2", "e", "._x", "README"]),
        st.sampled_from(["jpg", "txt", "json", "png", "cls", "seg.png"]),
    ),
    max_size=24,
)


@settings(max_examples=60)
@given(CONTENT, st.integers(1, 4000))
def test_ranges_give_the_items_of_the_whole(tmp_path_factory, names, target):
    path = tmp_path_factory.mktemp("t") / "0.tar"
    write_tar(
        path, [(f"{key}.{ending}", b"{}" if ending == "json" else f"{n}".encode()) for n, (key, ending) in enumerate(names)]
    )
    whole, root = RawFile(name="0.tar", num_bytes=path.stat().st_size, version=""), LocalRoot(path.parent)
    ranges = FORMATS["img2dataset"].split(root, whole, target)
    assert sum(file.num_bytes for file in ranges) == whole.num_bytes
    first, second = (list(Reading("captions", "img2dataset", root, files, CLEAN)) for files in ([whole], ranges))
    assert first == second


MIDDLES = st.sampled_from(["", ".1", ".2", ".a.b", ".input", ".output"])
NAMES = st.tuples(st.sampled_from("xy"), MIDDLES, st.sampled_from([".jpg", ".png", ".txt", ".json", ".cls"]))


@settings(max_examples=150)
@given(st.lists(NAMES, max_size=12))
def test_pairs_are_of_one_name_and_every_image_is_accounted_for(tmp_path_factory, names):
    content = [("".join(name), "".join(name).encode() if name[2] != ".json" else b"{}") for name in names]
    items = read_items(write_tar(tmp_path_factory.mktemp("t") / "0.tar", content))
    images = {
        image.decode(): next(item.texts()) for item in items if isinstance(item, Sample) for image in item.images if image
    }
    for image, caption in images.items():
        (key, middle), (other_key, other) = (name.rpartition(".")[0].partition(".")[::2] for name in (image, caption or image))
        assert key == other_key
        assert middle == other or not middle or not other or {middle, other} <= {"input", "output"}
    left_out = {item.name.partition(":")[2] for item in items if isinstance(item, LeftOut)}
    odd = {item.origin.partition(":")[2] for item in items if isinstance(item, Odd)}
    for name, middle, suffix in names:
        if suffix in (".jpg", ".png"):
            full = f"{name}{middle}"
            assert f"{full}{suffix}" in images.keys() | left_out or full in odd or (odd and name in odd)


def test_ranges_read_links_of_others(tmp_path):
    content = [*members("0", "1", "2"), ("3.jpg", "0.jpg"), ("3.txt", b"it is 3")]
    path = write_tar(tmp_path / "0.tar", content)
    whole = RawFile(name="0.tar", num_bytes=path.stat().st_size, version="")
    ranges = FORMATS["img2dataset"].split(LocalRoot(tmp_path), whole, 1000)
    assert len(ranges) == 4
    assert [short(item) for item in Reading("captions", "img2dataset", LocalRoot(tmp_path), ranges, CLEAN)] == pairs(*"0123")


# -- peers ------------------------------------------------------------------------------------------------------------------


def test_what_webdataset_writes_is_read(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "%05d.tar"), maxcount=10, verbose=0) as writer:
        for number, ending in enumerate(("jpg", "png", "webp", "jpg")):
            image = encoded_image(number, image_format={"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ending])
            caption = {"txt": f"number {number}"} if number < 3 else {"json": {"caption": "number 3"}}
            writer.write({"__key__": f"{number:06d}", ending: image, **caption})
    items = read(tmp_path / "00000.tar")
    assert [(key, caption) for key, _, caption in items] == [(f"{n:06d}", f"number {n}") for n in range(4)]
    assert all(image for _, image, _ in items)


def test_groups_without_dots_are_those_of_webdataset(tmp_path):
    content = [*members("a", "b/c"), ("d.jpg", RED), ("d.json", b'{"caption": "x"}'), *members("e")]
    path = write_tar(tmp_path / "0.tar", content)
    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert [item[0] for item in read(path)] == theirs


# -- damage -----------------------------------------------------------------------------------------------------------------


def test_damaged_archives_raise_nothing_but_data_errors(tmp_path):
    generator = random.Random(1)
    content = [*members("a", "b.1", "b.2"), ("c.jpg", "a.jpg"), ("c.json", json.dumps({"caption": ["x"]}).encode())]
    whole = write_tar(tmp_path / "0.tar", content).read_bytes()
    zipped = write_zip(tmp_path / "0.zip", [(n, c) for n, c in content if isinstance(c, bytes)]).read_bytes()
    variants = [(tmp_path / "0.tar", whole), (tmp_path / "0.tar", gzip.compress(whole)), (tmp_path / "0.zip", zipped)]
    for number in range(300):
        path, data = variants[number % 3]
        damaged = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(damaged))
            damaged[place : place + generator.choice((1, 8, 300))] = generator.randbytes(generator.choice((0, 1, 8, 300)))
        path.write_bytes(bytes(damaged))
        try:
            items = list(FORMATS[{".zip": "img2dataset-zip"}.get(path.suffix, "img2dataset")].read(raw_input(path), CLEAN))
        except DataError:
            continue
        assert all(isinstance(item, Sample | Odd | LeftOut) for item in items)


def raw_input(path):
    from mm1.data.prepare.files.raw import RawInput

    return RawInput("captions", LocalRoot(path.parent), RawFile(name=path.name, num_bytes=path.stat().st_size, version=""))


def test_discovery_knows_archives(tmp_path):
    write_tar(tmp_path / "0.tar", members("a"))
    write_zip(tmp_path / "1.zip", members("b"))
    found = discover("captions", LocalRoot(tmp_path))
    assert {form: [file.name for file in files] for form, files in found.files.items()} == {
        "img2dataset": ["0.tar"],
        "img2dataset-zip": ["1.zip"],
    }
