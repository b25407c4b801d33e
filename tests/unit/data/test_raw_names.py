"""Names of raw files and what lies in their folders: links, loops, pipes, hidden files, bytes that are not UTF-8."""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
import unicodedata
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.data.prepare.locations.names import inside, true_name
from mm1.data.prepare.locations.roots import MAX_READ_BYTES, LocalRoot, shown
from mm1.errors import DataError
from mm1.manifests import RawPart
from mm1.store.base import digest_of
from mm1_components.wrapper.cache import folder_fingerprint

BYTES_NAME = os.fsdecode(b"caf\xe9.jsonl")
ANY_NAME = st.text(st.characters(exclude_categories=()), max_size=12) | st.text("\\xu0e9\n\udce9é", max_size=8)


def put(path: Path, data: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def names(root: LocalRoot) -> list[str]:
    return [file.name for file in root.list()]


# -- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/plain name.tar", "a/plain name.tar"),
        ("grüße/日本語/😀👩‍👩‍👧.tar", "grüße/日本語/😀👩‍👩‍👧.tar"),
        ("back\\slash\\", "back\\slash\\"),
        ("caf\udce9", r"caf\xe9"),
        (r"caf\xe9", r"caf\\xe9"),
        ("a\nb\t\x7f", r"a\x0ab\x09\x7f"),
        ("a\x85\u2028b", r"a\u0085\u2028b"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("\ud83d", r"\ud83d"),
        ("\\\udce9", r"\\\xe9"),
    ],
)
def test_how_names_are_shown(name: str, expected: str) -> None:
    assert shown(name) == expected and true_name(expected) == name


@given(ANY_NAME)
def test_a_shown_name_is_printable_encodable_and_leads_back(name: str) -> None:
    text = shown(name)
    assert true_name(text) == name
    assert text.encode().decode() == text and not {unicodedata.category(character) for character in text} & {"Cc", "Cs"}
    assert text == name or "\\" in text


@given(st.lists(ANY_NAME, unique=True, max_size=6))
def test_different_names_are_shown_differently(names: list[str]) -> None:
    assert len({shown(name) for name in names}) == len(names)


@given(st.binary(min_size=1, max_size=20).filter(lambda data: not {0, ord("/")} & set(data)))
def test_every_name_of_the_file_system_leads_back_to_its_bytes(data: bytes) -> None:
    assert os.fsencode(true_name(shown(os.fsdecode(data)))) == data


def test_a_file_is_opened_by_its_true_bytes(tmp_path: Path) -> None:
    put(tmp_path / "x" / BYTES_NAME, "bytes")
    put(tmp_path / "x" / r"caf\xe9.jsonl", "backslash")
    put(tmp_path / "x" / "café.jsonl", "UTF-8")
    put(tmp_path / "x" / os.fsdecode(b"d\xff") / "line\nbreak.png", "folder")
    root = LocalRoot(tmp_path / "x")
    assert names(root) == [r"caf\\xe9.jsonl", r"caf\xe9.jsonl", "café.jsonl", r"d\xff/line\x0abreak.png"]
    contents = ["backslash", "bytes", "UTF-8", "folder"]
    assert [root.local(name).read_text() for name in names(root)] == contents
    assert [root.read(name).decode() for name in names(root)] == contents
    assert root.read(inside(r"d\xff", "line\nbreak.png", "x")) == b"folder"  # as a row writes it
    part = RawPart(source="text", number=0, format="jsonl", files=tuple(root.list()))
    assert RawPart.model_validate_json(part.model_dump_json()) == part
    json.dumps(names(root), ensure_ascii=False).encode()
    assert len(folder_fingerprint(tmp_path / "x")) == 64


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a*", "[x]", "{a,b}", "a?", r"caf\xe9", "a b", "é"])
def test_libraries_open_the_file_that_has_the_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "x" / f"{name}-folder"
    folder.mkdir(parents=True)
    for number, stem in enumerate((name, "ab", "axx", "x")):
        table = pa.table({"text": [f"{stem.encode(errors='surrogateescape')!r} {number}"]})
        pq.write_table(table, tmp_path / "made.parquet")
        (tmp_path / "made.parquet").rename(folder / f"{stem}.parquet")
        (folder / f"{stem}.json").write_text(json.dumps([number]))
    for root in (LocalRoot(tmp_path / "x"), LocalRoot(tmp_path / "x", work=tmp_path / "work")):
        files = {true_name(file.name): root.local(file.name) for file in root.list()}
        path = files[f"{name}-folder/{name}.parquet"]
        assert path.suffix == ".parquet" and pq.ParquetFile(path).num_row_groups == 1
        assert pq.read_table(path)["text"].to_pylist() == [f"{name.encode(errors='surrogateescape')!r} 0"]
        assert pa.input_stream(str(path)).read(4) == b"PAR1"
        query = "SELECT json FROM read_json_objects(?, format='array')"
        assert duckdb.execute(query, [str(files[f"{name}-folder/{name}.json"])]).fetchall() == [("0",)]
        assert root.local(f"{shown(name)}-folder/x.json") == root.local(f"{shown(name)}-folder/x.json")


def test_the_address_itself_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"r\xe9")
    put(folder / "a.jsonl", "a")
    root = LocalRoot(folder)
    assert root.address.endswith(r"r\xe9") and root.local("a.jsonl").read_text() == "a"
    assert LocalRoot(folder / "a.jsonl").location("a.jsonl").endswith(r"r\xe9/a.jsonl")
    with pytest.raises(DataError) as error:
        root.read("../x")
    str(error.value).encode()


# -- what a name may not do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret", "a/../../secret", "/etc/passwd", "", ".", "a//b", "./a", "a/.", "..", "a\x00b", r"a\x00b"]
)
def test_no_name_of_a_manifest_leads_out(tmp_path: Path, name: str) -> None:
    put(tmp_path / "secret")
    put(tmp_path / "x" / "a" / "b")
    with pytest.raises(DataError, match="points outside"):
        LocalRoot(tmp_path / "x").local(name)
    with pytest.raises(DataError, match="points outside"):
        LocalRoot(tmp_path / "x").read(name)


@pytest.mark.parametrize(
    ("folder", "name"), [("", "../x"), ("a", "../../x"), ("a", "/x"), ("a/b", "../../.."), ("", "a/../../x")]
)
def test_no_name_of_a_row_leads_out(folder: str, name: str) -> None:
    with pytest.raises(DataError, match="points outside the root"):
        inside(folder, name, "the root")
    assert inside("a/b", "../c/./x.png", "the root") == "a/c/x.png"


@pytest.mark.parametrize(
    "name", ["x" * 300, "a/" * 3000 + "b", "\ud83d.png", "nothing.png", "a.txt/b", "folder", "loop", "pipe"]
)
def test_a_name_that_no_file_has_is_a_missing_file(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a.txt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert LocalRoot(tmp_path).read(name) is None
    with pytest.raises(DataError, match=r"is not a file any more|points outside"):
        LocalRoot(tmp_path).local(name)


def test_a_row_refers_to_no_giant_file(tmp_path: Path) -> None:
    with (tmp_path / "giant.png").open("wb") as file:
        file.truncate(MAX_READ_BYTES + 1)
    with pytest.raises(DataError, match=r"'giant.png' has 256,000,001 bytes"):
        LocalRoot(tmp_path).read("giant.png")


# -- links --------------------------------------------------------------------------------------------------------------


def test_links_of_the_owner_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "sets" / "one.jsonl", "1")
    put(tmp_path / "disk" / "0.png", "picture")
    put(tmp_path / "cache" / ".blobs" / "abc", "blob")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sets").symlink_to(tmp_path / "disk" / "sets")
    (folder / "again").symlink_to("sets")
    (folder / "image.png").symlink_to("../disk/0.png")
    (folder / "blob.jsonl").symlink_to(tmp_path / "cache" / ".blobs" / "abc")
    (tmp_path / "link").symlink_to(folder)
    for address in (folder, tmp_path / "link"):
        root = LocalRoot(address)
        assert names(root) == ["again/one.jsonl", "blob.jsonl", "image.png", "sets/one.jsonl"] and root.left_out() == []
        assert [root.local(name).read_bytes() for name in names(root)] == [b"1", b"blob", b"picture", b"1"]
        assert root.read(inside("", "image.png", "x")) == b"picture" and root.read("sets/one.jsonl") == b"1"
    assert root.list()[0].num_bytes == 1


def test_what_is_left_out_has_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    put(folder / "a" / "good.jsonl", "good")
    put(folder / ".DS_Store", "1234")
    put(folder / "a" / "._good.jsonl", "12")
    put(folder / ".git" / "objects" / "x")
    (folder / "a" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "gone.jsonl").symlink_to("nothing")
    (folder / "a" / "through").symlink_to("good.jsonl/x")
    (folder / "first").symlink_to("second")
    (folder / "second").symlink_to("first")
    (folder / ".hidden-loop").symlink_to(".")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "null.jsonl").symlink_to("/dev/null")
    (folder / os.fsdecode(b"\xe9")).symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
    root = LocalRoot(folder)
    assert names(root) == ["a/good.jsonl"]
    assert root.left_out() == [
        (".DS_Store", 4, "hidden file"),
        (".git", 0, "hidden folder"),
        (".hidden-loop", 0, "hidden folder"),
        (r"\xe9", 0, "broken link"),
        ("a/._good.jsonl", 2, "hidden file"),
        ("a/through", 0, "broken link"),
        ("a/up", 0, "link loop"),
        ("first", 0, "link loop"),
        ("gone.jsonl", 0, "broken link"),
        ("null.jsonl", 0, "not a regular file"),
        ("pipe.jsonl", 0, "not a regular file"),
        ("s", 0, "not a regular file"),
        ("second", 0, "link loop"),
        ("self", 0, "link loop"),
    ]


def test_two_folders_that_link_to_each_other(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.txt")
    put(tmp_path / "b" / "2.txt")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    root = LocalRoot(tmp_path)
    assert names(root) == ["a/1.txt", "a/b/2.txt", "b/2.txt", "b/a/1.txt"]
    assert [item.name for item in root.left_out()] == ["a/b/a", "b/a/b"]


def test_deep_folders(tmp_path: Path) -> None:
    deep = put(tmp_path / Path(*["d"] * 200) / "x.jsonl")
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 100)
        assert names(LocalRoot(tmp_path)) == [str(deep.relative_to(tmp_path))]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_that_is_deeper_than_a_path_may_be_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data" / "x.jsonl")
    monkeypatch.chdir(tmp_path / "data")
    for _ in range(25):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    put(Path("y.jsonl"))
    root = LocalRoot(tmp_path / "data")
    assert names(root) == ["x.jsonl"]
    ((name, size, reason),) = root.left_out()
    assert name.startswith("d" * 200) and (size, reason) == (0, "file name too long")


def test_a_file_that_is_named_is_read_although_it_is_hidden(tmp_path: Path) -> None:
    put(tmp_path / ".x.jsonl")
    put(tmp_path / ".cache" / "y.jsonl")
    assert names(LocalRoot(tmp_path / ".x.jsonl")) == [".x.jsonl"]
    assert names(LocalRoot(tmp_path / ".cache")) == ["y.jsonl"]
    assert names(LocalRoot(tmp_path)) == []


# -- fingerprints -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_sees_what_is_read(tmp_path: Path) -> None:
    target = put(tmp_path / "elsewhere" / "a.jsonl", "1")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sets").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(".")
    digests = [folder_fingerprint(folder)]
    put(target, "22")
    digests.append(folder_fingerprint(folder))
    put(tmp_path / "elsewhere" / BYTES_NAME)
    digests.append(folder_fingerprint(folder))
    put(folder / ".hidden")
    digests.append(folder_fingerprint(folder))
    (folder / "broken").symlink_to("nothing")
    digests.append(folder_fingerprint(folder))
    put(folder / "nothing")
    digests.append(folder_fingerprint(folder))
    assert len(set(digests)) == 6 and folder_fingerprint(folder) == digests[-1]
    assert digest_of(b"") not in digests
    (tmp_path / "copy").symlink_to(folder)
    assert folder_fingerprint(tmp_path / "copy") == digests[-1]
    assert folder_fingerprint(target) != folder_fingerprint(folder)
