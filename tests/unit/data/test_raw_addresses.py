"""Several addresses for one source: lists, patterns and ranges, on this machine and in buckets."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from mm1.data.prepare.locations.addresses import parse_addresses
from mm1.data.prepare.locations.joined import JoinedRoot, labels_of
from mm1.data.prepare.locations.names import inside
from mm1.data.prepare.locations.roots import BucketRoot, RawRoot
from mm1.errors import ConfigurationError, DataError, NetworkError
from mm1.manifests import RawPart
from mm1.store.s3 import S3Store
from mm1_components import ingest
from mm1_components.wrapper.checks import field_value
from mm1_components.wrapper.sources import fingerprints, raw_root
from tests.support.s3_server import s3_server


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def texts(text: str) -> list[str]:
    return [address.text for address in parse_addresses(text)]


def names(root: RawRoot) -> list[str]:
    return [file.name for file in root.list()]


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that contain their own path; the working directory."""
    for name in ("cc/0.tar", "cc/1.tar", "cc/notes.txt", "cc/deep/2.tar", "cc/.3.tar", "sbu/0.tar", "disk/cc/0.tar"):
        put(tmp_path / name, name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(text: str, folder: Path) -> dict[str, str]:
    root = raw_root(text, "captions", folder / "work")
    return {name: root.local(name).read_text() for name in names(root)}


# -- splitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a", ["/a"]),
        ("/a /b", ["/a", "/b"]),
        (" /a,/b , s3://abc/x\n\tfile:///c ", ["/a", "/b", "s3://abc/x", "file:///c"]),
        ("s3://abc/my data", ["s3://abc/my data"]),
        ("/my data,and more /b", ["/my data,and more", "/b"]),
        ("a b,c", ["a", "b", "c"]),
        ("a ./b ../c ~/d", ["a", "./b", "../c", "~/d"]),
        ('["/my data", "s3://abc/x, y"]', ["/my data", "s3://abc/x, y"]),
        ("s3://abc/{a,b}/{0..2}.tar", ["s3://abc/{a,b}/{0..2}.tar"]),
        ("s3://ab{c,d}/x", ["s3://abc/x", "s3://abd/x"]),
        ("/d/*.tar /e/x", ["/d/*.tar", "/e/x"]),
        ("[ab].tar", ["[ab].tar"]),
        ("world:0", ["world:0"]),
        ("http://host/{a,b}", ["http://host/{a,b}"]),
        ("", [""]),
        ("  ", ["  "]),
    ],
)
def test_what_is_one_address(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a", 1]', "JSON list of addresses"),
        ('["a"', "given|JSON|expected"),
        ('["a",]', "JSON list of addresses"),
        ('["a", ""]', "JSON list of addresses"),
        ("/a /a", "give each file once"),
        ("/a/ /a", "give each file once"),
        ("/a/*.tar /a/*.tar", "give each file once"),
        ("/a /a/*.tar", "give each file once"),
        ("s3://abc/x,s3://abc/x", "give each file once"),
        ("/d/{0..999999}.tar", "more than 100,000 names"),
        ("/d/{0..999}{0..999}{0..999}.tar", "more than 100,000 names"),
        ("/d/" + "{a,b}" * 40, "more than 100,000 names"),
        ("/d/*/../x", "expected a pattern without"),
        ("/d/{a,../b}/x", "expected a pattern without"),
        ("s3://abc/*//x", "expected a pattern without"),
    ],
)
def test_lists_that_are_refused(text: str, message: str) -> None:
    if text == '["a"':
        assert texts(text)
        return
    with pytest.raises(ConfigurationError, match=message):
        parse_addresses(text)


@example(",")
@example(", ,")
@example("{,}")
@example("world:0*")
@given(st.text("/ab*,{}[]. \"'0~:s3\\\ud83d\0é", max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        addresses = parse_addresses(text)
    except ConfigurationError:
        return
    assert addresses and len({address.base for address in addresses}) == len(addresses)


def test_a_path_that_exists_is_that_path(sets: Path) -> None:
    for name in ("my data", "a,b", "a*.json", "{0..3}", "x[1].tar", '["a"]', "unbalanced{"):
        put(sets / name / "0.tar", name)
        assert texts(name) == [name] and texts(str(sets / name)) == [str(sets / name)]
        assert contents(name, sets) == {"0.tar": name}
    put(sets / "ab.json", "another")
    put(sets / "files" / "a*.json", "star")
    put(sets / "files" / "ab.json", "plain")
    assert contents("files/a*.json", sets) == {"a*.json": "star"}
    assert contents("files/a?.json", sets) == {"a*.json": "star", "ab.json": "plain"}


# -- patterns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cc/*.tar", ["0.tar", "1.tar"]),
        ("cc/?.tar", ["0.tar", "1.tar"]),
        ("cc/[!0].tar", ["1.tar"]),
        ("cc/{0..1}.tar", ["0.tar", "1.tar"]),
        ("cc/{1,0}.tar", ["0.tar", "1.tar"]),
        ("cc/{0.tar,notes.*}", ["0.tar", "notes.txt"]),
        ("cc/0.tar cc/1.tar", ["0.tar", "1.tar"]),
        ("cc/1.tar,cc/0.tar", ["0.tar", "1.tar"]),
        ("cc/**/*.tar", ["0.tar", "1.tar", "deep/2.tar"]),
        ("cc/d*", ["deep/2.tar"]),
        ("cc/.*.tar", [".3.tar"]),
        ("*/0.tar", ["cc/0.tar", "sbu/0.tar"]),
        ("{cc,sbu}/*.tar", ["cc/0.tar", "cc/1.tar", "sbu/0.tar"]),
        ("cc", ["0.tar", "1.tar", "deep/2.tar", "notes.txt"]),
        ("cc/0.tar", ["0.tar"]),
    ],
)
def test_patterns_and_ranges(sets: Path, text: str, expected: list[str]) -> None:
    for variant in (text, f"{sets}/{text}" if " " not in text and "," not in text else text):
        root = raw_root(variant, "captions", sets / "work")
        assert not isinstance(root, JoinedRoot) and names(root) == expected
        assert all(root.local(name).is_file() for name in expected)
    assert root.is_file == (text == "cc/0.tar")


def test_leading_zeros_and_steps(sets: Path) -> None:
    for number in range(12):
        put(sets / "n" / f"{number:05d}.tar")
    assert names(raw_root("n/{00008..00010}.tar", "captions", sets)) == ["00008.tar", "00009.tar", "00010.tar"]
    assert names(raw_root("n/{00000..00011..5}.tar", "captions", sets)) == ["00000.tar", "00005.tar", "00010.tar"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cc/*.parquet", r"captions: no file of .*cc matches '\*\.parquet'"),
        ("cc/{0..6}.tar", r"matches '2\.tar', '3\.tar', '4\.tar' and 2 more; check"),
        ("cc sbu/*.zip", r"no file of .*sbu matches"),
        ("cc nowhere", "no such file or folder: 'nowhere'; relative paths start at"),
        ("nowhere/*.tar", "captions: no such file or folder: 'nowhere'"),
        ("/no where", "as a JSON list"),
        ("/dev/null", "expected a file or a folder, got a device"),
        ("broken", "it is a link to 'nothing', which does not exist"),
    ],
)
def test_what_matches_nothing_is_named(sets: Path, text: str, message: str) -> None:
    (sets / "broken").symlink_to("nothing")
    with pytest.raises(ConfigurationError, match=message):
        raw_root(text, "captions", sets)


# -- several roots ------------------------------------------------------------------------------------------------------


def test_files_of_several_addresses_carry_a_label(sets: Path) -> None:
    put(sets / "sbu" / ".hidden", "1")
    assert contents("sbu cc/*.tar", sets) == {"sbu:/0.tar": "sbu/0.tar", "cc:/0.tar": "cc/0.tar", "cc:/1.tar": "cc/1.tar"}
    assert contents("cc/0.tar disk/cc", sets) == {f"{sets.name}-cc:/0.tar": "cc/0.tar", "disk-cc:/0.tar": "disk/cc/0.tar"}
    root = raw_root("sbu cc", "captions", sets)
    assert root.left_out() == [("sbu:/.hidden", 1, "hidden file"), ("cc:/.3.tar", 9, "hidden file")]
    assert isinstance(root, JoinedRoot) and root.label_of("cc:/deep/2.tar") == "cc" and not root.is_file
    assert root.location("cc:/0.tar") == str(sets / "cc" / "0.tar")
    assert RawPart(source="captions", number=0, format="x", files=tuple(root.list())).files[0].name == "sbu:/0.tar"
    assert len(raw_root(" ".join(str(put(sets / f"d{n}" / "x")) for n in range(99)), "captions", sets).address) < 300


def test_the_same_file_twice_is_refused(sets: Path) -> None:
    (sets / "link").symlink_to("cc")
    for text in ("cc cc/deep", "cc ./link", "cc */0.tar"):
        with pytest.raises(ConfigurationError, match=r"is in two addresses, .*give each file once"):
            raw_root(text, "captions", sets).list()


def test_a_row_leads_to_no_other_address(sets: Path) -> None:
    root = raw_root("cc sbu", "captions", sets)
    assert root.read(inside("cc:/deep", "../0.tar", root.address)) == b"cc/0.tar"
    assert root.read(inside("cc:", "deep/2.tar", root.address)) == b"cc/deep/2.tar"
    for folder, name in (
        ("cc:", "../sbu:/0.tar"),
        ("cc:/deep", "../../sbu:/0.tar"),
        ("cc:", ".."),
        ("cc:", "../0.tar"),
        ("cc:", "/x"),
    ):
        with pytest.raises(DataError, match="points outside"):
            root.read(inside(folder, name, root.address))
    for name in ("0.tar", "sbu/0.tar", "other:/0.tar", "cc:", "cc:/../sbu/0.tar", "cc:/"):
        with pytest.raises(DataError, match="points outside"):
            root.local(name)


def test_labels(sets: Path) -> None:
    def labels(text: str) -> list[str]:
        return labels_of(parse_addresses(text))

    assert labels("/a/x /b/y") == ["x", "y"]
    assert labels("/a/x /b/x s3://abc/x") == ["a-x", "b-x", "abc-x"]
    assert labels("/data/x s3://data/x") == ["data-x", "data-x-2"]
    assert labels("/a-b/c /a/b-c s3://abc /e:f /g/.h") == ["c", "b-c", "abc", "e_f", "h"]
    assert labels("/ s3://abc") == ["root", "abc"]
    assert labels(f"/a {os.fsdecode(b'/b/x')}\udce9") == ["a", r"x\xe9"]


@given(st.lists(st.text("ab/-.:", min_size=1, max_size=6).map("/x/{}".format), min_size=1, max_size=5))
def test_labels_are_unique_and_one_piece(paths: list[str]) -> None:
    try:
        addresses = parse_addresses(json.dumps(paths))
    except ConfigurationError:
        return
    labels = labels_of(addresses)
    assert len(set(labels)) == len(addresses) and not any("/" in label or ":" in label or label[0] == "." for label in labels)


# -- cache keys and checks ----------------------------------------------------------------------------------------------


def fingerprint(text: str) -> str:
    values = {name: info.default for name, info in ingest.STEP.inputs.model_fields.items()}
    return fingerprints(ingest.STEP.inputs, values | {"captions": text})["captions"]


def test_a_fingerprint_covers_the_files_of_all_addresses(sets: Path) -> None:
    assert fingerprint("cc sbu") == fingerprint("cc, sbu") == fingerprint('["cc", "sbu"]') != fingerprint("sbu cc")
    assert fingerprint("cc/{0..1}.tar") == fingerprint("cc/[01].tar") == fingerprint("cc/0.tar cc/1.tar") != fingerprint("cc")
    before = fingerprint("cc/*.tar sbu")
    put(sets / "cc" / "notes.txt", "does not match")
    assert fingerprint("cc/*.tar sbu") == before
    put(sets / "sbu" / "1.tar")
    assert fingerprint("cc/*.tar sbu") != before
    with pytest.raises(ConfigurationError, match="captions: no such file"):
        fingerprint("cc nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a gs://b/x", "expected path or .*got 'gs://b/x'"),
        ("/a s3://A_B/x", "a bucket name of 3 to 63"),
        ("/a world:0", "expected 'world:0' alone"),
        ("s3://abc/a/../b", "expected a prefix without '//'"),
        ("s3://abc/a//b/*.tar", "expected a prefix without '//'"),
        ("s3://*/x", "a bucket name of 3 to 63"),
        ("s3://a_{b,c}/x", "a bucket name of 3 to 63"),
        ("world:0*", "expected world:<seed>"),
        ("/a {b,/c}/../d", "expected a pattern without"),
        ("{,}", "expected a pattern without"),
        ("/a/caf\udce9", "expected UTF-8, got .*give a pattern that matches it"),
        ("/a {", "^$"),
    ],
)
def test_every_address_of_a_list_is_checked(text: str, message: str) -> None:
    if message == "^$":
        assert field_value(ingest.STEP.inputs, "captions", text) == text
        return
    with pytest.raises(ConfigurationError, match=f"captions: .*{message}"):
        field_value(ingest.STEP.inputs, "captions", text)


# -- buckets ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    with s3_server(monkeypatch, "raw"):
        yield S3Store("s3://raw")


def test_patterns_in_buckets(bucket: S3Store, tmp_path: Path) -> None:
    for key in (
        "p/cc/0.tar",
        "p/cc/1.tar",
        "p/cc/deep/2.tar",
        "p/cc/.x/3.tar",
        "p/sbu/0.tar",
        "p/cc-2/0.tar",
        "p/a[1].tar",
        "p/a1.tar",
    ):
        bucket.write(key, key.encode())

    def read(text: str) -> dict[str, str]:
        return contents(text, tmp_path)

    assert read("s3://raw/p/cc/*.tar") == {"0.tar": "p/cc/0.tar", "1.tar": "p/cc/1.tar"}
    assert [*read("s3://raw/p/cc/**/*.tar")] == ["0.tar", "1.tar", "deep/2.tar"]
    assert [*read("s3://raw/p/{cc,sbu}/{0..0}.tar")] == ["cc/0.tar", "sbu/0.tar"]
    assert [*read("s3://raw/p/c*")] == ["cc-2/0.tar", "cc/0.tar", "cc/1.tar", "cc/deep/2.tar"]
    assert read("s3://raw/p/a[1].tar") == {"a[1].tar": "p/a[1].tar"}
    assert [*read("s3://raw/p/a?.tar")] == ["a1.tar"]
    assert read("s3://raw/p/cc/0.tar s3://raw/p/sbu") == {"0.tar:/0.tar": "p/cc/0.tar", "sbu:/0.tar": "p/sbu/0.tar"}
    put(tmp_path / "here" / "0.tar", "local")
    assert read(f"s3://raw/p/sbu,{tmp_path}/here") == {"sbu:/0.tar": "p/sbu/0.tar", "here:/0.tar": "local"}
    assert fingerprint("s3://raw/p/cc/*.tar") == fingerprint("s3://raw/p/cc/{0..1}.tar") != fingerprint("s3://raw/p/cc")
    for text in ("s3://raw/p/cc/*.zip", "s3://raw/p/{cc,no}/*.tar", "s3://raw/p/cc/{0..2}.tar", "s3://raw/no/*"):
        with pytest.raises(ConfigurationError, match=r"captions: no file of s3://raw/.* matches"):
            read(text)


ODD_KEYS = ["/tmp/abs.jsonl", "a//b.jsonl", "../up.jsonl", "a/../b.jsonl", "./c.jsonl", "a/./d.jsonl", "slash/", "//"]
GOOD_KEYS = [
    "back\\slash.jsonl",
    "x" * 250 + "/" + "y" * 600 + ".jsonl",
    "pre",
    "pre/fix.jsonl",
    "ü b+c%2F?#&.jsonl",
    "%2e%2e/x.jsonl",
    "~root.jsonl",
]


def test_no_key_becomes_a_local_path(bucket: S3Store, tmp_path: Path) -> None:
    endpoint = http.client.HTTPConnection(os.environ["S3_ENDPOINT"].removeprefix("http://"))
    outside = tmp_path / "outside" / "pwned.jsonl"  # the client refuses to write such keys, so they do not go through it
    for key in [*ODD_KEYS, *GOOD_KEYS, str(outside), ".hidden.jsonl", ".h/1.jsonl", ".h/2/3.jsonl"]:
        endpoint.request(
            "PUT",
            quote(f"/raw/t/{key}"),
            body=key.encode(),
            headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"},
        )
        answer = endpoint.getresponse()
        answer.read()
        assert answer.status == 200, key
    stored = {key for key, _, _ in bucket.objects("t/")}
    root = BucketRoot("s3://raw/t", tmp_path / "work")
    assert {"t/" + key for key in GOOD_KEYS} <= stored
    assert sorted(names(root)) == sorted(GOOD_KEYS)
    assert {name: root.local(name).read_text() for name in names(root)} == {key: key for key in GOOD_KEYS}
    assert {root.read(name).decode() for name in names(root)} == set(GOOD_KEYS)
    left_out = {item.name: (item.num_bytes, item.reason) for item in root.left_out()}
    assert left_out.pop(".hidden.jsonl") == (13, "hidden file") and left_out.pop(".h") == (22, "hidden folder")
    assert {reason for _, reason in left_out.values()} == {"unusable object key"}
    assert {f"t/{name}" for name in left_out} == {
        key for key in stored if key[2:] not in GOOD_KEYS and not key[2:].startswith(".h")
    }
    assert not outside.exists()
    assert all(path.parent == tmp_path / "work" for path in (tmp_path / "work").rglob("*"))
    for name in (*ODD_KEYS, str(outside), "nothing.jsonl"):
        with pytest.raises(DataError):
            root.local(name)
    assert root.read("nothing.jsonl") is None and root.read("z" * 2000) is None


def test_no_local_file_is_read_in_place_of_an_object(bucket: S3Store, tmp_path: Path) -> None:
    put(tmp_path / "work" / "a.jsonl", "another")
    secret = put(tmp_path / "secret.jsonl", "secret")
    bucket.write("t/a.jsonl", b"object")
    bucket.write(f"t{secret}", b"object of that name")
    root = BucketRoot("s3://raw/t", tmp_path / "work")
    assert root.local("a.jsonl").read_text() == "object" and root.local("a.jsonl").suffix == ".jsonl"
    assert root.local(str(secret)[1:]).read_text() == "object of that name"
    bucket.write("t/a.jsonl", b"changed")
    assert BucketRoot("s3://raw/t", tmp_path / "work").local("a.jsonl").read_text() == "changed"
    bucket.write("u/b.jsonl", b"1")
    stale = BucketRoot("s3://raw/u", tmp_path / "work")
    bucket.write("u/b.jsonl", b"22")
    with pytest.raises(NetworkError, match="has changed since it was listed"):
        stale.local("b.jsonl")


def test_images_next_to_objects(bucket: S3Store, tmp_path: Path) -> None:
    for key in ("p/a.json", "p/images/0.png", "p/.x/1.png", "secret.png"):
        bucket.write(key, key.encode())
    for root in (
        raw_root("s3://raw/p", "x", tmp_path),
        raw_root("s3://raw/p/a.json", "x", tmp_path),
        raw_root("s3://raw/p/*.json", "x", tmp_path),
    ):
        assert names(root) == (
            ["a.json", "images/0.png"] if root.address.endswith("/p") and len(root.list()) > 1 else ["a.json"]
        )
        assert root.read("images/0.png") == b"p/images/0.png" and root.read("images/9.png") is None
        for name in ("../secret.png", "/secret.png", "images/../../secret.png", "images//0.png"):
            with pytest.raises(DataError, match="points outside"):
                root.read(name)


def test_a_broken_download_leaves_nothing(bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.write("t/a.jsonl", b"object")
    root = BucketRoot("s3://raw/t", tmp_path / "work")
    monkeypatch.setattr("mm1.store.s3.BODY_BACKOFF_S", 0.01)

    def broken(*_: object) -> None:
        raise urllib3.exceptions.ProtocolError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.HTTPResponse, "stream", broken)
        with pytest.raises(NetworkError):
            root.local("a.jsonl")
    assert [*(tmp_path / "work").iterdir()] == []
    assert root.local("a.jsonl").read_text() == "object"
