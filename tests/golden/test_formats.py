"""Today's code reads what earlier versions wrote: manifests, shards, a checkpoint, and unfinished training that goes on.

``formats/<version>.tar.xz`` is a store of about 70 kB, written once by `make golden` and never changed: a version that
cannot read one breaks the stores of those who use it. Before a version is released, its own file may be deleted and made anew.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
import torch

from mm1.checkpoint.read import load_model, load_state
from mm1.checkpoint.resume import newest_checkpoint
from mm1.data.reader import ShardIndex
from mm1.manifests import Checkpoint, DataMix, RawData, digest_of_manifest, load, load_digest, manifest_key
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.config import RunConfig
from tests.support.format_samples import KEY, KINDS, handlers_kept, unpack, write_samples
from tests.support.tiny_runs import job_of, one_process

pytestmark = pytest.mark.golden
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/golden/formats"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CURRENT = FOLDER / f"{VERSION}.tar.xz"
LARGEST_BYTES = 80_000
NEWER = {"IngestPlan", "FilteredParts", "ShardedParts", "StudyPlan", "StudyReport"}
"""Kinds that the release whose files are read did not have."""


@pytest.fixture(scope="module", params=sorted({CURRENT, *FOLDER.glob("*.tar.xz")}), ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """A copy of the store that a version wrote."""
    archive: Path = request.param
    if os.environ.get("MM1_UPDATE_GOLDEN") and not archive.is_file():
        FOLDER.mkdir(exist_ok=True)
        one_process()
        write_samples(archive)
    assert archive.is_file(), f"{archive.relative_to(ROOT)} is missing: `make golden` writes it for a new version"
    assert archive.stat().st_size < LARGEST_BYTES
    return unpack(archive, tmp_path_factory.mktemp("formats"))


def test_every_kind_of_manifest_is_read(store: LocalStore) -> None:
    digests = [key.removeprefix("manifests/").removesuffix(".json") for key in store.list("manifests/")]
    manifests = {digest: load_digest(store, digest) for digest in digests}
    kinds = {type(manifest).__name__ for manifest in manifests.values()}
    assert kinds | NEWER == KINDS, "add the new kind to tests/support/format_samples.py, and to NEWER"
    assert all(digest_of_manifest(manifest) == digest for digest, manifest in manifests.items())


def test_shards_and_their_indices_are_read(store: LocalStore) -> None:
    raw = _only(store, RawData)
    for name, source in raw.sources.items():
        keys = []
        for shard in source.shards:
            index = ShardIndex(store.local_path(shard.index), shard.name, shard.tar)
            keys += [index.key(row) for row in range(len(index))]
        assert keys == [f"{name}-{number:09d}" for number in range(8)]


def test_a_checkpoint_is_read(store: LocalStore, tmp_path: Path) -> None:
    checkpoint = newest_checkpoint(store, KEY)
    assert checkpoint is not None and checkpoint.step == 1
    model, processor = load_model(store, checkpoint, tmp_path)
    inputs = processor(text="a red circle")
    with torch.no_grad():
        assert model(torch.as_tensor(inputs["input_ids"]).view(1, -1)).logits.isfinite().all()
    state = load_state(store, checkpoint)
    assert state.optimizer.names and state.run


def test_unfinished_training_goes_on(store: LocalStore, tmp_path: Path) -> None:
    checkpoint = newest_checkpoint(store, KEY)
    assert checkpoint is not None
    one_process()
    data = f"{store.uri}/{manifest_key(digest_of_manifest(_only(store, DataMix)))}"
    with handlers_kept():
        run = build_run(job_of(RunConfig.model_validate(checkpoint.config), store, data, tmp_path, key=KEY), 0, 1)
        assert run.progress.step == 1
        result = run.go()
    assert result.resumed_from == 1 and load(result.manifest, Checkpoint).step == 3


def _only(store: LocalStore, kind: type) -> object:
    manifests = [load_digest(store, Path(key).stem) for key in store.list("manifests/")]
    (manifest,) = [manifest for manifest in manifests if isinstance(manifest, kind)]
    return manifest
