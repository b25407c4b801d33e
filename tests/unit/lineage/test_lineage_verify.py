"""``mm1 lineage --verify``: from a deployment back to the raw shards, every digest and signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mm1.lineage.signing import sign
from mm1.manifests import Deployment, ExportedModel, digest_of_manifest, manifest_key, publish
from mm1.store.base import BlobRef, Store, blob_key
from mm1.store.open import open_store
from mm1_workflows import cli
from tests.support.report_figures import make_checkpoint
from tests.support.signing_keys import key_pair
from tests.support.stored_runs import mix, raw, record


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    key_pair(folder)
    key_pair(folder, "other")
    return folder


class Chain:
    """A deployment of a signed model, with all that it was made from."""

    def __init__(self, store: Store, work: Path, key: Path | None) -> None:
        self.store = store
        self.raw = raw(store, "the shard")
        data = mix(store, self.raw)
        (work / "config.json").write_text("{}")
        files = store.put_folder(work)
        checkpoint = make_checkpoint(store, "sft", "mm1_tiny", 5, (digest_of_manifest(data),), data)
        checkpoint = checkpoint.model_copy(update={"model": {"model.safetensors": store.put_bytes(b"weights")}})
        parent = digest_of_manifest(checkpoint)
        signature = store.put_file(sign(work, key)) if key else None
        self.exported = ExportedModel(parents=(parent,), checkpoint=parent, files=files, contract={}, signature=signature)
        deployment = Deployment(deployed=True, reason="", exported=digest_of_manifest(self.exported))
        for manifest in (self.raw, data, checkpoint, self.exported):
            publish(store, manifest)
        self.checkpoint, self.address = checkpoint, record(store, "r", "deploy", deployment)

    @property
    def shard(self) -> BlobRef:
        return self.raw.sources["text"].shards[0].tar


@pytest.fixture
def chain(tmp_path: Path, keys: Path) -> Chain:
    (tmp_path / "model").mkdir()
    return Chain(open_store(str(tmp_path / "store")), tmp_path / "model", keys / "mm1.key")


def test_all_of_it_is_counted(chain: Chain, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = chain.address.rsplit("/", 1)[-1].removesuffix(".json")
    names = (chain.address, digest, f"mm1@{digest[:12]}", "r")
    for name in names:
        argv = ["lineage", name, "--verify-key", str(keys / "mm1.pub"), "--store", chain.store.uri]
        assert cli.main(argv) == 0
        output = capsys.readouterr().out
        for kind in ("Deployment", "ExportedModel", "Checkpoint", "DataMix", "RawData"):
            assert f"{kind} " in output
        assert "verified: 5 manifests, 5 blobs" in output and ", 1 signature\n" in output
    assert cli.main(["lineage", "r", "--verify", "--store", chain.store.uri]) == 0
    assert "0 signatures, 1 exported model whose signature was not checked" in capsys.readouterr().out


def overwrite(chain: Chain, key: str) -> None:
    path = chain.store.root / key  # type: ignore[attr-defined]
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Chain], object], int, str]] = {
    "a damaged shard": (lambda chain: overwrite(chain, blob_key(chain.shard)), 86, "does not match its digest"),
    "a missing shard": (lambda chain: chain.store.delete(blob_key(chain.shard)), 81, "does not exist"),
    "damaged weights": (
        lambda chain: overwrite(chain, blob_key(chain.checkpoint.model["model.safetensors"])),
        86,
        "does not match its digest",
    ),
    "a damaged exported file": (
        lambda chain: overwrite(chain, blob_key(chain.exported.files["config.json"])),
        86,
        "1 problem:",
    ),
    "a damaged manifest": (lambda chain: overwrite(chain, manifest_key(chain.exported.checkpoint)), 81, "damaged"),
    "a missing manifest": (lambda chain: chain.store.delete(manifest_key(chain.exported.checkpoint)), 81, "does not exist"),
    "a damaged signature": (lambda chain: overwrite(chain, blob_key(chain.exported.signature or "")), 86, "1 problem:"),
    "two faults": (
        lambda chain: (overwrite(chain, blob_key(chain.shard)), chain.store.delete(manifest_key(chain.exported.checkpoint))),
        81,
        "1 problem",  # what the missing manifest was made from cannot be known
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(chain: Chain, keys: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    make, code, says = FAULTS[fault]
    make(chain)
    argv = ["lineage", chain.address, "--verify", "--verify-key", str(keys / "mm1.pub")]
    assert cli.main(argv) == code
    captured = capsys.readouterr()
    assert says in captured.err and "wrong: " in captured.out and "verified" not in captured.out


def test_another_key_and_no_signature_are_found(
    chain: Chain, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lineage", chain.address, "--verify-key", str(keys / "other.pub")]) == 86
    assert "another key" in capsys.readouterr().err
    (tmp_path / "plain").mkdir()
    unsigned = Chain(chain.store, tmp_path / "plain", None)
    assert cli.main(["lineage", unsigned.address, "--verify-key", str(keys / "mm1.pub")]) == 86
    assert "has no signature" in capsys.readouterr().err
    assert cli.main(["lineage", chain.address, "--verify-key", str(keys / "mm1.key")]) == 80
    assert "is a private key" in capsys.readouterr().err
