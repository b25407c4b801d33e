"""``mm1 export``: a model out of the store, by run, task, address or digest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mm1.checkpoint.folder import load_folder
from mm1.lineage.signing import Signatures
from mm1.manifests import Checkpoint, Deployment, ExportedModel, digest_of_manifest
from mm1.modeling.export import export
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows import cli
from tests.support.report_figures import make_checkpoint
from tests.support.signing_keys import key_pair
from tests.support.stored_runs import mix, raw, record, report
from tests.support.tiny_mm1 import tiny_mm1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(*tiny_mm1(), tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def checkpoint(store: Store, stage: str, folder: Path, parents: tuple[str, ...] = ()) -> Checkpoint:
    """A checkpoint of a tiny model."""
    data = mix(store, raw(store, "x"))
    record(store, "data", "ingest", raw(store, "x"))
    record(store, "data", "mix", data)
    made = make_checkpoint(store, stage, "mm1_tiny", 20, (digest_of_manifest(data), *parents), data)
    return made.model_copy(update={"model": store.put_folder(folder)})


@pytest.fixture
def run(store: Store, folder: Path) -> dict[str, str]:
    """Task -> address of a run with two trainings, an evaluation and a deployment."""
    pretrained = checkpoint(store, "pretrain", folder)
    tuned = checkpoint(store, "sft", folder, (digest_of_manifest(pretrained),))
    addresses = {"pretrain": record(store, "r", "pretrain", pretrained, started="2026-01-01T00:00:00+00:00")}
    addresses["sft"] = record(store, "r", "sft", tuned, started="2026-01-01T00:01:00+00:00")
    digest = digest_of_manifest(tuned)
    scored = report(store, 0.75).model_copy(update={"checkpoint": digest, "parents": (digest,)})
    record(store, "r", "evaluate", scored, inputs={"checkpoint": addresses["sft"]}, started="2026-01-01T00:02:00+00:00")
    files = store.put_folder(folder) | {"marker.txt": store.put_bytes(b"exported")}
    exported = ExportedModel(parents=(digest,), checkpoint=digest, files=files, contract={})
    record(store, "other", "export", exported)
    deployment = Deployment(deployed=True, reason="", exported=digest_of_manifest(exported), sample={})
    addresses["deploy"] = record(store, "r", "deploy", deployment, started="2026-01-01T00:03:00+00:00")
    return addresses


def exported(store: Store, folder: Path, *argv: str) -> Path:
    assert cli.main(["export", argv[0], str(folder), *argv[1:], "--store", store.uri]) == 0
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert not list(folder.parent.glob(f".{folder.name}*"))
    return folder


def test_a_run_gives_what_it_deployed(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    assert (exported(store, tmp_path / "out", "r") / "marker.txt").read_text() == "exported"
    assert cli.main(["export", run["deploy"], "--to", str(tmp_path / "same")]) == 0
    assert (tmp_path / "same" / "marker.txt").is_file()


def test_a_task_an_address_and_a_digest_give_their_checkpoint(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    pretrained = exported(store, tmp_path / "1", "r", "--task", "pretrain")
    tuned = exported(store, tmp_path / "2", run["sft"])
    again = exported(store, tmp_path / "3", run["pretrain"].rsplit("/", 1)[-1][:12])
    digests = [run[task].rsplit("/", 1)[-1].removesuffix(".json") for task in ("pretrain", "sft", "pretrain")]
    for folder, digest in zip((pretrained, tuned, again), digests, strict=True):
        assert f"from checkpoint `{digest}`" in (folder / "README.md").read_text()
        load_folder(folder)
    assert (pretrained / "README.md").read_bytes() == (again / "README.md").read_bytes()


def test_without_a_deployment_it_is_the_last_checkpoint(store: Store, folder: Path, tmp_path: Path) -> None:
    record(store, "r", "pretrain", checkpoint(store, "pretrain", folder), started="2026-01-01T00:00:00+00:00")
    record(store, "r", "sft", checkpoint(store, "sft", folder), started="2026-01-01T00:01:00+00:00")
    assert "| sft |" in (exported(store, tmp_path / "out", "r") / "README.md").read_text()


def test_the_model_card_has_recipe_data_and_scores_and_its_code_runs(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    folder = exported(store, tmp_path / "out", run["sft"])
    card = (folder / "README.md").read_text()
    for line in (
        "| pretrain | mm1\\_tiny | 20 of 20 |",
        "| sft | mm1\\_tiny | 20 of 20 |",
        "| text | 100.0% | 3 | 0 | 9 |",
        "| text | jsonl | 3 | 3 |",
        "| vqa | test | accuracy | 4 | none | 0.750 ± 0.020 | 256 | – |",
        "The context is 512 tokens, of which each image takes 4.",
        "The manifests record no licence",
    ):
        assert line in card, card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_card_without_scores_and_lineage_claims_nothing(store: Store, folder: Path, tmp_path: Path) -> None:
    data = mix(store, raw(store, "x"))  # never published
    alone = make_checkpoint(store, "sft", "evil | name\n# [x](javascript:1) <img>", 20, (digest_of_manifest(data),), data)
    record(
        store,
        "r",
        "sft",
        alone.model_copy(update={"model": store.put_folder(folder), "total_steps": 40, "trainer": {"s": store.put_bytes(b"")}}),
    )
    card = (exported(store, tmp_path / "out", "r") / "README.md").read_text()
    assert "No evaluation of this checkpoint is in the store." in card and "Nothing was measured" in card
    assert "No mixture of this checkpoint is in the store." in card
    assert "The training of this checkpoint was not finished." in card
    assert "| evil \\| name \\# \\[x\\](javascript:1) \\<img\\> | 20 of 40 |" in card


def test_weights_are_written_in_another_dtype_and_in_shards(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    folder = exported(store, tmp_path / "out", "r", "--dtype", "bfloat16", "--max-shard-size", "30KB")
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 2 and max(file.stat().st_size for file in files) < 60_000
    with safe_open(files[0], "pt") as tensors:
        assert all(tensors.get_tensor(name).dtype == torch.bfloat16 for name in tensors.keys())  # noqa: SIM118
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    load_folder(folder)


def test_a_signed_folder_is_verified(
    store: Store, run: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = key_pair(tmp_path)
    for number, argv in enumerate((["r"], ["r", "--task", "sft"])):
        folder = exported(store, tmp_path / str(number), *argv, "--sign-key", str(private))
        Signatures.of(public, required=True).check(folder)
        assert "model_signing verify key" in capsys.readouterr().out
    weak, _ = key_pair(tmp_path, "weak", "ed25519")
    assert cli.main(["export", "r", str(tmp_path / "out"), "--sign-key", str(weak), "--store", store.uri]) == 80
    assert "got Ed25519" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["r", "OUT", "--task", "pretrian"], "did you mean 'pretrain'"),
        (["rr", "OUT"], "did you mean 'r'"),
        (["empty", "OUT"], "has no model"),
        (["r"], "expected one folder"),
        (["r", "OUT", "--to", "OUT"], "expected one folder"),
        (["r", "OUT", "--dtype", "fp8"], "--dtype: expected float32, bfloat16, float16"),
        (["r", "OUT", "--max-shard-size", "big"], "--max-shard-size: expected a size such as 5GB"),
        (["r", "OUT", "--sign-key", "/nowhere"], "private key cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_named(
    store: Store, run: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    record(store, "empty", "mix", mix(store, raw(store, "x")))
    out = tmp_path / "out"
    assert cli.main(["export", *[str(out) if word == "OUT" else word for word in argv], "--store", store.uri]) == 80
    assert message in capsys.readouterr().err and not out.exists()


def test_a_folder_with_files_in_it_is_left_alone(
    store: Store, run: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    for target, says in ((mine, "already exists"), (mine / "file", "is a file")):
        assert cli.main(["export", "r", str(target), "--store", store.uri]) == 80
        assert says in capsys.readouterr().err
    assert cli.main(["export", "r", str(mine), "--force", "--store", store.uri]) == 80
    assert "not the folder of a model" in capsys.readouterr().err and (mine / "file").read_text() == "mine"
    old = exported(store, tmp_path / "old", "r")
    (old / "stale.py").write_text("")
    exported(store, old, "r", "--force")
    assert not (old / "stale.py").exists() and (old / "marker.txt").is_file()
    (tmp_path / "empty").mkdir()
    exported(store, tmp_path / "empty", "r")


def test_a_damaged_file_ends_with_its_class_and_the_former_folder(store: Store, run: dict[str, str], tmp_path: Path) -> None:
    old = exported(store, tmp_path / "out", "r")
    blob = store.put_bytes(b"exported")
    path = store.local_path(blob)
    path.chmod(0o644)
    path.write_bytes(b"exportee")
    assert cli.main(["export", "r", str(old), "--force", "--store", store.uri]) == 86
    assert cli.main(["export", "r", str(tmp_path / "new"), "--store", store.uri]) == 86
    assert (old / "marker.txt").read_text() == "exported" and not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))
