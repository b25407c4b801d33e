"""A store restored from a copy of its manifests, blobs and run records, at another address and without everything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mm1.lineage.graph import ancestors
from mm1.manifests import Deployment, load, split_uri
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from mm1_workflows.cli.commands.serve import newest_deployment
from tests.integration.test_verify_card import trained, verify  # noqa: F401  (a fixture)
from tests.integration.test_whole_chain import answer_to_example
from tests.support.s3_server import s3_server
from tests.support.serving import server
from tests.support.toy_chain import RUN
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
KEPT = ("manifests", "blobs", "runs")
"""Folders of a store that a backup must have (docs/how-to/store-care.md)."""


def restored(store: Path, target: Path) -> str:
    """Copy what a backup must have; the address of the copy."""
    for folder in KEPT:
        shutil.copytree(store / folder, target / folder)
    return f"file://{target}"


def test_runs_lineage_and_serving_work_from_a_copy_at_another_address(
    toy_run: Path, tmp_path: Path, warm_python: WarmPython
) -> None:
    """The addresses in the records are those of the lost store, which is not there any more."""
    lost = tmp_path / "runs" / "store"
    shutil.copytree(toy_run / "runs" / "store", lost)
    address = restored(lost, tmp_path / "restored")
    shutil.rmtree(tmp_path / "runs")

    def mm1(*words: str) -> str:
        done = warm_python.run("mm1_workflows.cli", *words, "--store", address, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    assert RUN in mm1("runs") and "done" in mm1("runs", RUN)
    store = open_store(address)
    deployment = newest_deployment(store)
    assert deployment.startswith(address)
    kinds = [type(item).__name__ for item in ancestors(store, split_uri(deployment)[1]).values()]
    assert "RawData" in kinds and "Checkpoint" in kinds
    assert "RawData" in mm1("lineage", RUN)
    mm1("gc", "--yes")  # removes parts of the ingest that only the cache named, and nothing that the model needs
    with server(warm_python, tmp_path / "server.txt", "--model", deployment) as (url, _):
        assert answer_to_example(url) == load(deployment, Deployment).sample["answer"]


def test_a_card_is_verified_from_a_copy_in_a_bucket(
    trained: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    warm_python: WarmPython,
) -> None:
    with s3_server(monkeypatch, "restored") as address:
        store = S3Store(address)
        for folder in KEPT:
            for path in (trained / "store" / folder).rglob("*"):
                if path.is_file():
                    store.client.fput_object(store.bucket, f"{store.prefix}/{path.relative_to(trained / 'store')}", str(path))
        done = verify(warm_python, trained / "card.yaml", "--store", address, "--no-resume")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
