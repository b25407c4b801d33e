"""``mm1 export``: a model out of the store, by run, task, address or digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.manifests import Checkpoint, Deployment, ExportedModel, digest_of_manifest
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows import cli
from tests.support.report_figures import make_checkpoint
from tests.support.stored_runs import mix, raw, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def checkpoint(store: Store, stage: str) -> Checkpoint:
    """A checkpoint whose model's folder has its stage in it."""
    made = make_checkpoint(store, stage, "mm1_tiny", 20, (), mix(store, raw(store, "x")))
    files = {"config.json": store.put_bytes(stage.encode()), "sub/vocab.json": store.put_bytes(b"{}")}
    return made.model_copy(update={"model": files})


@pytest.fixture
def run(store: Store) -> dict[str, str]:
    """Task -> address of a run with two trainings and a deployment."""
    pretrained, tuned = checkpoint(store, "pretrain"), checkpoint(store, "sft")
    addresses = {"pretrain": record(store, "r", "pretrain", pretrained, started="2026-01-01T00:00:00+00:00")}
    addresses["sft"] = record(store, "r", "sft", tuned, started="2026-01-01T00:01:00+00:00")
    digest = digest_of_manifest(tuned)
    files = {"config.json": store.put_bytes(b"exported")}
    exported = ExportedModel(parents=(digest,), checkpoint=digest, files=files, contract={})
    record(store, "other", "export", exported)
    deployment = Deployment(deployed=True, reason="", exported=digest_of_manifest(exported), sample={})
    addresses["deploy"] = record(store, "r", "deploy", deployment, started="2026-01-01T00:02:00+00:00")
    return addresses


def exported(store: Store, folder: Path, *argv: str) -> str:
    assert cli.main(["export", *argv, "--to", str(folder), "--store", store.uri]) == 0
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return (folder / "config.json").read_text()


def test_a_run_gives_what_it_deployed(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    assert exported(store, tmp_path / "out", "r") == "exported"


def test_a_task_an_address_and_a_digest_give_their_checkpoint(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    assert exported(store, tmp_path / "1", "r", "--task", "pretrain") == "pretrain"
    assert exported(store, tmp_path / "2", run["sft"]) == "sft"
    assert exported(store, tmp_path / "3", run["pretrain"].rsplit("/", 1)[-1][:12]) == "pretrain"
    assert (tmp_path / "3" / "sub" / "vocab.json").read_text() == "{}"


def test_without_a_deployment_it_is_the_last_checkpoint(store: Store, tmp_path: Path) -> None:
    record(store, "r", "pretrain", checkpoint(store, "pretrain"), started="2026-01-01T00:00:00+00:00")
    record(store, "r", "sft", checkpoint(store, "sft"), started="2026-01-01T00:01:00+00:00")
    assert exported(store, tmp_path / "out", "r") == "sft"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["r", "--task", "pretrian"], "did you mean 'pretrain'"),
        (["rr"], "did you mean 'r'"),
        (["empty"], "has no model"),
    ],
)
def test_what_holds_no_model_is_named(
    store: Store, run: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    record(store, "empty", "mix", mix(store, raw(store, "x")))
    assert cli.main(["export", *argv, "--to", str(tmp_path / "out"), "--store", store.uri]) == 80
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_with_files_in_it_is_left_alone(
    store: Store, run: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert cli.main(["export", "r", "--to", str(tmp_path), "--store", store.uri]) == 80
    assert "already exists" in capsys.readouterr().err


def test_a_damaged_file_ends_with_its_class_and_no_folder(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    blob = store.put_bytes(b"exported")
    path = store.local_path(blob)
    path.chmod(0o644)
    path.write_bytes(b"exportee")
    assert cli.main(["export", "r", "--to", str(tmp_path / "out"), "--store", store.uri]) == 86
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
