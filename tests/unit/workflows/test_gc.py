"""Garbage collection while work is going on, and of what killed writers left."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minio.error import S3Error

from mm1.errors import ConfigurationError
from mm1.lineage import gc, serving
from mm1.lineage.gc import find_garbage, remove
from mm1.lineage.records import record_key
from mm1.manifests import Deployment, ExportedModel, digest_of_manifest, publish
from mm1.store.base import Store
from mm1.store.local import LocalStore
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from mm1_workflows import cli
from tests.support.s3_server import s3_server
from tests.support.stored_runs import raw, record, report

DAY = 24 * 3600.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return open_store(str(tmp_path / "store"))


def age(store: Store, seconds: float, prefix: str = "") -> None:
    root = Path(store.uri.removeprefix("file://"))
    for path in root.rglob("*"):
        if path.relative_to(root).as_posix().startswith(prefix):
            os.utime(path, (time.time() - seconds,) * 2)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def running(store: Store, run: str, task: str, started: float, alive: float | None, **more: object) -> None:
    """Write the record of a running task, with its last sign of life some seconds ago."""
    values = {"state": "running", "started": ago(started), "outcome": None, "ended": None, "seconds": None}
    record(store, run, task, **values, **({} if alive is None else {"alive": ago(alive)}), **more)
    age(store, alive or started, f"runs/{run}/{task}.json")


def newer_runs(store: Store) -> None:
    for number in range(3):
        record(store, f"short{number}", "evaluate", started=ago(2 * 3600))


def test_a_task_that_trains_for_weeks_keeps_its_run(store: Store) -> None:
    manifest = raw(store, "what the running training reads")
    record(store, "long", "ingest", manifest, started=ago(40 * DAY))
    newer_runs(store)
    age(store, 40 * DAY)
    running(store, "long", "pretrain", started=39 * DAY, alive=200)
    garbage = find_garbage(store, keep=3)
    assert garbage.keys == [] and garbage.running == ["long"]
    with pytest.raises(ConfigurationError, match=r"long is running \(pretrain\)"):
        remove(store, garbage)


def test_inputs_of_a_running_task_are_kept_from_its_start(store: Store) -> None:
    given = raw(store, "given by parameter")
    uri = publish(store, given)
    age(store, 2 * DAY)
    running(store, "sft", "pretrain", started=DAY, alive=60, inputs={"data": uri})
    assert find_garbage(store, keep=0).keys == []
    age(store, 2 * DAY)  # the sign of life, too: killed
    assert f"manifests/{digest_of_manifest(given)}.json" in find_garbage(store, keep=0).keys


@pytest.mark.parametrize(
    ("started", "alive", "is_running"),
    [(39 * DAY, 3500, True), (39 * DAY, 3700, False), (60, 3700, False), (29 * DAY, None, True), (31 * DAY, None, False)],
)
def test_each_task_is_judged_by_its_own_sign_of_life(
    store: Store, started: float, alive: float | None, is_running: bool
) -> None:
    record(store, "r", "ingest", started=ago(50 * DAY))
    running(store, "r", "pretrain", started, alive)
    assert find_garbage(store, keep=0).running == (["r"] if is_running else [])


def test_ages_are_those_of_the_stores_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_bytes(b"orphan")
    running(store, "r", "pretrain", started=DAY, alive=100)
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this machine's is wrong
    garbage = find_garbage(store, keep=0)
    assert garbage.running == ["r"] and garbage.num_young == 1 and garbage.keys == []


def test_parts_of_an_unfinished_ingest_are_kept_for_a_month(store: Store) -> None:
    part = raw(store, "stands for a filtered part")
    entry = "cache/ingest_parts/" + "a" * 64 + ".json"
    publish(store, part)
    store.write_json(entry, {"outputs": {"manifest": f"@{digest_of_manifest(part)}"}})
    age(store, 20 * DAY)
    assert entry in find_garbage(store, keep=0).keys
    running(store, "r", "ingest", started=20 * DAY, alive=19 * DAY)
    assert find_garbage(store, keep=1).keys == []
    record(store, "r", "ingest", state="failed", outcome=87, started=ago(20 * DAY))
    assert not set(find_garbage(store, keep=1).keys)
    record(store, "r", "ingest", started=ago(20 * DAY))
    assert {entry, f"manifests/{digest_of_manifest(part)}.json"} < set(find_garbage(store, keep=1).keys)


def test_what_a_retraining_is_about_is_kept(store: Store) -> None:
    kept, old = (publish(store, raw(store, name)).rpartition("/")[2] for name in ("kept", "old"))
    store.write_json("retraining/mm1.json", {"last": {"data": kept.removesuffix(".json")}})
    age(store, 2 * 3600)
    removed = set(find_garbage(store, keep=0).keys)
    assert f"manifests/{old}" in removed and f"manifests/{kept}" not in removed


def test_a_task_that_starts_after_the_listing_stops_the_removal(store: Store) -> None:
    store.put_bytes(b"orphan")
    age(store, 2 * DAY)
    garbage = find_garbage(store, keep=0)
    running(store, "r", "pretrain", started=5, alive=5)
    with pytest.raises(ConfigurationError, match="is running"):
        remove(store, garbage)
    assert len(list(store.list("blobs/"))) == 1


def test_what_killed_writers_left_is_removed_and_counted(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = raw(store, "kept")
    ref = manifest.sources["text"].shards[0].tar
    record(store, "r", "ingest", manifest)
    root = Path(store.uri.removeprefix("file://"))
    left = [
        root / "blobs" / ref.sha256[:2] / f".{ref.sha256}.mxr3dr1w",
        root / "blobs" / ref.sha256[:2] / f".{ref.sha256}.0a1b2c3d",
        root / "blobs" / f".{ref.sha256}.e1b2.part.minio",
        root / "runs" / "r" / ".ingest.json.abcdefg_",
        root / ".scratch" / "checkpoint-0-x" / "model" / "weights.safetensors",
        root / ".scratch" / "file",
        tmp_path / "tmp" / "mm1-0123456789ab-01234567" / "file",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    command = ["gc", "--store", store.uri, "--keep", "9"]
    assert cli.main([*command, "--list"]) == 0
    assert "would delete nothing" in capsys.readouterr().out  # too young
    age(store, 2 * 3600)
    for path in (*(tmp_path / "tmp").rglob("*"),):
        os.utime(path, (0, 0))
    young = root / ".scratch" / "checkpoint-1-y" / "model" / "weights.safetensors"
    young.parent.mkdir(parents=True)
    young.write_bytes(b"being written")
    os.utime(young.parent.parent, (0, 0))
    assert cli.main([*command, "--list"]) == 0
    listing = capsys.readouterr().out
    assert f"blobs/{ref.sha256[:2]}/.{ref.sha256}.mxr3dr1w" in listing and "mm1-0123456789ab-01234567" in listing
    assert cli.main([*command, "--yes"]) == 0
    assert "7 temporary files" in capsys.readouterr().out
    assert not any(path.exists() for path in left) and young.exists()
    assert store.get_bytes(ref) == b"kept"


def test_a_task_with_a_hidden_name_has_a_record_that_is_listed(store: Store) -> None:
    key = record_key("r", ".x")
    store.write_json(key, {})
    assert list(store.list("runs/")) == [key]


def test_unfinished_uploads_and_local_files_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch, "gc-tests") as uri:
        store = S3Store(uri, tmp_path / "cache")
        assert abs(store.now() - time.time()) < 5
        store.write("clock", b"an object of that name")
        assert abs(store.now() - time.time()) < 5
        store.client._create_multipart_upload(store.bucket, "some/prefix/blobs/aa/x", {})
        store.client._create_multipart_upload(store.bucket, "other/blobs/aa/x", {})
        half = tmp_path / "cache" / "blobs" / "aa" / ".x.0a1b2c3d"
        store.scratch().mkdir(parents=True)
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
        assert [name.partition(" ")[0] for name in store.leftovers(3600)] == ["blobs/aa/x"]  # moto's uploads are of 2010
        left = store.leftovers(-60)
        assert sorted(name.partition(" ")[0] for name in left) == ["blobs/aa/.x.0a1b2c3d", "blobs/aa/x"]
        for remove_it in left.values():
            remove_it()
        assert not half.exists() and store.leftovers(-60) == {}

        def denied(*_: object, **__: object) -> None:
            raise S3Error(None, "AccessDenied", "", None, None, None)

        monkeypatch.setattr(store.client, "_list_multipart_uploads", denied)
        assert store.leftovers(-60) == {}


def test_the_clock_of_a_folder_that_cannot_be_written_is_this_machines(tmp_path: Path) -> None:
    assert abs(LocalStore(tmp_path / "none").now() - time.time()) < 5
    assert not (tmp_path / "none").exists()
    assert gc.ALIVE_FOR_S > 5 * 300


def test_what_is_served_and_what_a_rollback_would_serve_stay_with_their_evaluations(store: Store) -> None:
    deployments, reports = [], []
    for number in range(3):
        checkpoint = str(number) * 64
        exported = ExportedModel(checkpoint=checkpoint, files={}, contract={})
        reports.append(report(store, 0.5).model_copy(update={"checkpoint": checkpoint}))
        deployments.append(Deployment(deployed=True, reason="passed", exported=digest_of_manifest(exported)))
        for manifest in (exported, reports[-1], deployments[-1]):
            publish(store, manifest)
        change = serving.Change(
            action="promoted",
            deployment=digest_of_manifest(deployments[-1]),
            time=datetime.now(UTC) + timedelta(seconds=number),
            by="run weekly",
            reason="passed",
        )
        serving.record(store, "mm1", change)
    age(store, DAY)
    removed = {f"manifests/{digest_of_manifest(manifest)}.json" for manifest in (reports[0], deployments[0])}
    removed.add(f"manifests/{deployments[0].exported}.json")
    assert set(find_garbage(store, keep=0).keys) == removed
    store.delete(f"manifests/{digest_of_manifest(deployments[2])}.json")  # its evaluations are then unknown
    assert f"manifests/{digest_of_manifest(reports[2])}.json" in find_garbage(store, keep=0).keys
