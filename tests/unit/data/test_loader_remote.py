"""The loader from a bucket: ranges, the cache and its limit, refusals, a server that goes away, damage on the way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from urllib.parse import urlparse

import pytest
import torch

import mm1.data.load.open_mix as open_module
from mm1.data.blocks import BlockCache
from mm1.data.config import LoaderLimits
from mm1.data.load.loader import MixtureLoader
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import RawData
from mm1.store.base import blob_key
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from tests.support.flaky_proxy import FlakyProxy
from tests.support.mixtures import build_mix
from tests.support.s3_server import s3_server

WEIGHTS = {"captions": 0.45, "interleaved": 0.45, "text": 0.1}
SIZES = {"micro_batch": 2, "global_batch": 2, "rank": 0, "world_size": 1}
BLOCK = 1 << 16


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote")
    store = LocalStore(folder / "store")
    return store, *build_mix(store, folder, weights=WEIGHTS)


@pytest.fixture
def bucket(mixture, monkeypatch, tmp_path):
    with s3_server(monkeypatch, "mixtures") as uri:
        store = S3Store(uri, cache=tmp_path / "cache")
        local = mixture[0]
        for key in local.list("blobs/"):
            store.write_file(key, local.root / key)
        monkeypatch.setattr(open_module, "BlockCache", lambda *args: BlockCache(*args, block_bytes=BLOCK))
        yield store


def batches(store, mixture, number, **settings):
    _, raw, mix = mixture
    iterator = iter(MixtureLoader(store, mix, raw, **(SIZES | settings)))
    try:
        return [{name: tensor.clone() for name, tensor in batch.items()} for batch in islice(iterator, number)]
    finally:
        iterator.close()


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bucket_gives_the_batches_of_a_folder(mixture, bucket, num_workers):
    limits = LoaderLimits(cache_bytes=0)
    found = batches(bucket, mixture, 25, num_workers=num_workers, limits=limits)
    assert all(map(same, found, batches(mixture[0], mixture, 25)))


def test_each_block_is_asked_for_once_and_a_second_run_asks_for_none(mixture, bucket, monkeypatch):
    asked = []
    read_range = S3Store.read_range
    monkeypatch.setattr(S3Store, "read_range", lambda *args: asked.append(args[1:]) or read_range(*args))
    batches(bucket, mixture, 40)
    raw: RawData = mixture[1]
    tars = [shard.tar for source in raw.sources.values() for shard in source.shards]
    assert len(asked) == len(set(asked)) <= sum(-(-tar.num_bytes // BLOCK) for tar in tars)
    assert all(size <= BLOCK for _, _, size in asked)
    asked.clear()
    assert batches(bucket, mixture, 10) and not asked


def test_the_cache_keeps_its_limit_and_drops_what_was_used_longest_ago(mixture, bucket):
    limit = 400_000
    limits = LoaderLimits(cache_bytes=0, cache_disk_bytes=limit)
    found = batches(bucket, mixture, 60, limits=limits)
    assert all(map(same, found, batches(mixture[0], mixture, 60)))
    kept = [path for path in bucket.block_folder.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in kept) <= limit
    assert not [path for path in kept if path.name.startswith(".")]


class StoreInStep(LocalStore):
    """A store whose reads return together, so that the blocks of all threads are written at once."""

    barrier = threading.Barrier(8)

    def read_range(self, key, offset, size):
        data = super().read_range(key, offset, size)
        self.barrier.wait(30)
        return data


def test_blocks_that_arrive_at_once_do_not_share_the_same_room(tmp_path):
    block, limit = 1 << 16, 16 << 16
    store = StoreInStep(tmp_path / "store")
    store.make()
    ref = store.put_bytes(bytes(64 * block))
    cache = BlockCache(store, tmp_path / "blocks", limit, block)
    with ThreadPoolExecutor(8) as pool:
        assert all(len(data) == block for data in pool.map(lambda number: cache.block(ref, number), range(64)))
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "blocks").rglob("*") if path.is_file()) <= limit


def test_a_damaged_block_in_the_cache_is_fetched_again(mixture, bucket):
    batches(bucket, mixture, 10)
    for path in bucket.block_folder.rglob("*-*"):
        path.write_bytes(bytes(path.stat().st_size))
    found = batches(bucket, mixture, 10)
    assert all(map(same, found, batches(mixture[0], mixture, 10)))


def test_a_server_that_goes_away_is_waited_for(mixture, bucket, monkeypatch, tmp_path):
    address = urlparse(f"http://{bucket.client._base_url.host}")
    with FlakyProxy(address.hostname, address.port) as proxy:
        monkeypatch.setenv("S3_ENDPOINT", f"http://127.0.0.1:{proxy.port}")
        store = S3Store(bucket.uri, cache=tmp_path / "other")
        _, raw, mix = mixture
        found, iterator = [], iter(MixtureLoader(store, mix, raw, **SIZES, limits=LoaderLimits(cache_bytes=0)))
        for number in range(20):
            if number == 2:
                proxy.go_away(1.5)
            found.append({name: tensor.clone() for name, tensor in next(iterator).items()})
        iterator.close()
    assert all(map(same, found, batches(mixture[0], mixture, 20)))


def test_a_missing_tar_is_damage_that_is_counted(mixture, bucket, caplog):
    raw: RawData = mixture[1]
    bucket.delete(blob_key(raw.sources["captions"].shards[0].tar))
    tolerant = LoaderLimits(max_damaged_share=0.9)
    assert batches(bucket, mixture, 30, limits=tolerant)
    assert "does not exist" in caplog.text and "captions-00000" in caplog.text
    with pytest.raises(DataError, match="samples are damaged"):
        batches(bucket, mixture, 30, limits=LoaderLimits(min_read_samples=20))


def test_a_store_that_refuses_is_one_clear_error(mixture, bucket, monkeypatch):
    from minio.error import S3Error

    def refuse(*args, **kwargs):
        raise S3Error(None, "AccessDenied", "no", "resource", "request", "host")

    monkeypatch.setattr(type(bucket.client), "get_object", refuse)
    with pytest.raises(ConfigurationError, match=r"denied access.*AccessDenied.*credentials"):
        batches(bucket, mixture, 3)


def test_ranges_end_where_the_object_ends(bucket, tmp_path):
    local = open_store(str(tmp_path / "local"))
    for store in (bucket, local):
        store.write("some/thing", b"0123456789")
        assert store.read_range("some/thing", 3, 4) == b"3456"
        assert store.read_range("some/thing", 8, 10) == b"89"
        with pytest.raises(DataError, match="does not exist"):
            store.read_range("some/other", 0, 1)
