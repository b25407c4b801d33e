"""Both stores behave alike: blobs, pointers, listing, damage, refusal."""

import errno
import os
from pathlib import Path

import pytest

from mm1.errors import CheckpointError, ConfigurationError, DataError, NetworkError
from mm1.store.base import BlobRef, blob_key, digest_of
from mm1.store.local import LocalStore, atomic_path
from mm1.store.open import find_store, open_store
from mm1.store.s3 import S3Store
from tests.support.s3_server import s3_server


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch, "store-tests") as uri:
        yield uri


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    if request.param == "file":
        return open_store(f"file://{tmp_path}/store")
    return S3Store(request.getfixturevalue("bucket") + f"/{tmp_path.name}", cache=tmp_path / "cache")


def test_blob_goes_to_its_content_address_and_comes_back(store):
    ref = store.put_bytes(b"hello")
    assert ref == BlobRef(sha256=digest_of(b"hello"), num_bytes=5)
    assert store.get_bytes(ref) == b"hello"
    assert list(store.list("blobs/")) == [blob_key(ref)]
    assert store.put_bytes(b"hello") == ref
    assert store.local_path(ref).read_bytes() == b"hello"


def test_folder_round_trip(store, tmp_path):
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "sub" / "w.bin").write_bytes(b"\0" * 1000)
    files = store.put_folder(source)
    assert list(files) == ["config.json", "sub/w.bin"]
    back = store.get_folder(files, tmp_path / "back")
    assert (back / "sub" / "w.bin").read_bytes() == b"\0" * 1000


def test_folder_names_cannot_climb_out(store, tmp_path):
    ref = store.put_bytes(b"x")
    with pytest.raises(DataError, match="points outside"):
        store.get_folder({"../evil": ref}, tmp_path / "inside")


def test_damaged_blob_is_noticed(store):
    ref = store.put_bytes(b"precious")
    store.write(blob_key(ref), b"precioux")
    with pytest.raises(CheckpointError, match=ref.sha256):
        store.get_bytes(ref)


def test_missing_objects(store):
    assert store.read_json("runs/none.json") is None
    assert not store.exists("nothing")
    with pytest.raises(DataError, match="does not exist"):
        store.read("nothing")
    store.delete("nothing")


def test_pointer_is_overwritten_and_listed(store):
    store.write_json("resume/a.json", {"step": 1})
    store.write_json("resume/a.json", {"step": 2})
    store.write_json("resume/b.json", {})
    assert store.read_json("resume/a.json") == {"step": 2}
    assert list(store.list("resume/")) == ["resume/a.json", "resume/b.json"]
    store.delete("resume/a.json")
    assert list(store.list("resume/")) == ["resume/b.json"]


def test_json_that_is_none_is_named(store):
    store.write("runs/x.json", b"{")
    with pytest.raises(DataError, match="is not valid JSON"):
        store.read_json("runs/x.json")


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(OSError), atomic_path(tmp_path / "target") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_cannot_be_a_store(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown scheme 'ftp'"):
        open_store("ftp://host/x")
    with pytest.raises(ConfigurationError, match="expected s3://bucket/prefix"):
        open_store("s3:///x")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be created"):
        open_store(str(tmp_path / "file" / "store"))


@pytest.mark.parametrize(
    "address",
    ["", "file://", "file://relative", "file://host/folder", "file://localhost/folder", "file:folder", "file:/folder",
     "FILE:///folder", "s3:bucket/prefix", "s3:/bucket/prefix", "S3://bucket/prefix", "s3://bucket/a b", "s3://bucket/a/../b",
     "s3://bucket/a//b", "s3://bucket/./b", "s3://B_/x", "s3://a/x", "s3://192.168.0.1/x", "http://host/x", "a\0b"],
)  # fmt: skip
def test_addresses_that_lead_elsewhere_are_refused_by_name(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    for opened in (open_store, find_store):
        with pytest.raises(ConfigurationError, match=r"store: (expected|unknown scheme)"):
            opened(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a#fragment", "b?x=1", "c%20d", "file:e"])
def test_a_path_is_taken_as_it_is_written(tmp_path, name):
    store = open_store(f"file://{tmp_path}/{name}")
    store.write("a", b"1")
    assert store.uri == f"file://{tmp_path}/{name}" and (tmp_path / name / "a").read_bytes() == b"1"
    assert open_store(store.uri).read("a") == b"1"


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644), (0, 0o666)])
def test_the_umask_decides_the_modes_of_files(tmp_path, umask, mode):
    (tmp_path / "source").write_bytes(b"3")
    previous = os.umask(umask)
    try:
        store = open_store(str(tmp_path / "store"))
        ref = store.put_bytes(b"1")
        store.write_json("runs/r/t.json", {})
        store.write_file("cache/x", tmp_path / "source")
        store.scratch().mkdir()
        taken = store.scratch() / "weights"
        taken.write_bytes(b"2")
        store.take_file("blobs/aa/x", taken)
    finally:
        os.umask(previous)
    assert store.get_bytes(ref) == b"1"
    assert {path.stat().st_mode & 0o777 for path in store.root.rglob("*") if path.is_file()} == {mode}


def test_a_blob_that_lost_its_end_is_written_again(store):
    ref = store.put_bytes(b"precious")
    store.write(blob_key(ref), b"prec")
    assert not store.has(ref) and list(store.lost([ref])) == [ref]
    assert store.put_bytes(b"precious") == ref and store.get_bytes(ref) == b"precious"
    assert store.has(ref) and list(store.lost([ref])) == []


@pytest.mark.parametrize("endpoint", ["http://", "http://ho_st:x"])
def test_an_endpoint_that_is_no_address_is_configuration(endpoint, monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT", endpoint)
    with pytest.raises(ConfigurationError, match=r"expected an address .* in S3_ENDPOINT"):
        S3Store("s3://bkt/x").read("x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_store_without_write_permission(tmp_path):
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="not writable"):
        open_store(str(tmp_path / "store"))


def test_a_folder_that_may_not_be_read_is_not_listed_as_empty(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    store.write("runs/r/task.json", b"{}")
    assert list(store.list("runs/")) == ["runs/r/task.json"] and list(store.list("cache/")) == []
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "r":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError):
        list(store.list("runs/"))


def test_reading_makes_no_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r"store file://.*/typo: the folder does not exist; check the address"):
        find_store(str(tmp_path / "typo"))
    empty = find_store(str(tmp_path / "typo"), or_none_yet=True)
    assert list(empty.list("")) == [] and not empty.exists("a") and list(tmp_path.iterdir()) == []
    empty.write("a", b"1")
    assert find_store(str(tmp_path / "typo")).read("a") == b"1"


def test_server_that_is_not_there_is_a_network_error_without_secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setattr("mm1.store.s3.RETRIES", 0)
    with pytest.raises(NetworkError, match="is unreachable") as caught:
        S3Store("s3://bucket", cache=tmp_path).read("x")
    assert "very-secret" not in str(caught.value)
