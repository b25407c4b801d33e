"""Local copies of a bucket's blobs: verified, fetched again when damaged, in a folder that only this user can enter."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mm1.errors import CheckpointError, ConfigurationError, NetworkError
from mm1.store import blob_cache, s3
from mm1.store.base import BlobRef, blob_key, digest_of
from mm1.store.blob_cache import BlobCache
from mm1.store.private import private_folder
from mm1.store.s3 import S3Store
from tests.support.s3_server import s3_server

CONTENT = b"weights, whole in the bucket"
REF = BlobRef(sha256=digest_of(CONTENT), num_bytes=len(CONTENT))


class Bucket:
    """Gives the next of some contents at each download."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = list(contents)
        self.num_fetched = 0

    def fetch(self, ref: BlobRef, path: Path) -> None:
        path.write_bytes(self.contents[min(self.num_fetched, len(self.contents) - 1)])
        self.num_fetched += 1

    def cache(self, folder: Path) -> BlobCache:
        return BlobCache(folder, "s3://bucket/p", self.fetch)


def flip(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def keep_times(path: Path) -> None:
    """Damage a file so that size and modification time stay."""
    state = path.stat()
    flip(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [flip, keep_times, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(CONTENT + b"x"), Path.unlink],
    ids=["a bit", "a bit, same times", "empty", "too long", "gone"],
)  # fmt: skip
@pytest.mark.parametrize("same_process", [True, False])
def test_a_damaged_copy_is_fetched_again(tmp_path: Path, damage, same_process: bool) -> None:
    bucket = Bucket(CONTENT)
    cache = bucket.cache(tmp_path / "cache")
    path = cache.path(REF)
    damage(path)
    cache = cache if same_process else bucket.cache(tmp_path / "cache")
    assert cache.path(REF).read_bytes() == CONTENT and bucket.num_fetched == 2
    assert cache.path(REF).read_bytes() == CONTENT and bucket.num_fetched == 2


def test_a_damaged_memory_of_the_verification_costs_a_digest_and_no_download(tmp_path: Path) -> None:
    bucket = Bucket(CONTENT)
    bucket.cache(tmp_path / "cache").path(REF)
    for path in (tmp_path / "cache" / "verified").iterdir():
        path.write_bytes(b"\xff")
    assert bucket.cache(tmp_path / "cache").path(REF).read_bytes() == CONTENT and bucket.num_fetched == 1


def test_a_copy_is_hashed_once_until_the_machine_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    digest = blob_cache.digest_of_file
    monkeypatch.setattr(blob_cache, "digest_of_file", lambda path: hashed.append(path) or digest(path))
    bucket = Bucket(CONTENT)
    for _ in range(3):
        cache = bucket.cache(tmp_path / "cache")  # as in another process
        cache.path(REF), cache.path(REF)
    assert len(hashed) == 1
    monkeypatch.setattr(blob_cache, "_boot", lambda: "after a crash")
    bucket.cache(tmp_path / "cache").path(REF)
    assert len(hashed) == 2 and bucket.num_fetched == 1


def test_damage_is_told_apart_from_transfers(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"s3://bucket/p/blobs/.*damaged in the store; delete it"):
        Bucket(b"always the same").cache(tmp_path / "a").path(REF)
    with pytest.raises(NetworkError, match="damaged in transit"):
        Bucket(b"one", b"other").cache(tmp_path / "b").path(REF)
    assert Bucket(b"one", CONTENT).cache(tmp_path / "c").path(REF).read_bytes() == CONTENT
    assert [path for name in "ab" for path in (tmp_path / name).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["open", "group", "link", "file", "owner"])
def test_a_folder_that_others_could_write_to_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cache"
    if kind in ("open", "group", "owner"):
        folder.mkdir()
        folder.chmod({"open": 0o777, "group": 0o770, "owner": 0o700}[kind])
    if kind == "owner":
        if os.getuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 65534, 65534)
    if kind == "link":
        (tmp_path / "real").mkdir()
        folder.symlink_to(tmp_path / "real")
    if kind == "file":
        folder.write_text("")
    with pytest.raises(ConfigurationError, match=f"{folder}.*with mode 0700, got"):
        Bucket(CONTENT).cache(folder).path(REF)
    with pytest.raises(ConfigurationError, match="with mode 0700"):
        Bucket(CONTENT).cache(folder).subfolder("ranges")


def test_a_folder_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        assert private_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(previous)
    (tmp_path / "readable").mkdir(mode=0o755)
    assert private_folder(tmp_path / "readable").stat().st_mode & 0o777 == 0o700


def test_the_default_cache_of_a_bucket_is_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(s3, "RETRIES", 0)
    with s3_server(monkeypatch, "cache-tests") as uri:
        store = S3Store(uri)
        ref = store.put_bytes(CONTENT)
        flip(store.local_path(ref))
        assert store.local_path(ref).read_bytes() == CONTENT
        flip(store.local_path(ref))
        assert (store.get_folder({"x": ref}, tmp_path / "out") / "x").read_bytes() == CONTENT
        assert store.block_folder.parent == tmp_path / f"mm1-blobs-{os.getuid()}"
        assert store.block_folder.parent.stat().st_mode & 0o777 == 0o700
        store.write(blob_key(ref), CONTENT[::-1])
        store.local_path(ref).unlink()
        with pytest.raises(CheckpointError, match=r"x: .*damaged in the store"):
            store.get_folder({"x": ref}, tmp_path / "again")
