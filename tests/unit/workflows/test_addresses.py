"""Addresses that inputs cannot read, and files that only the other machine has, are judged as the step will judge them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mm1.errors import ConfigurationError
from mm1.store.address import check_store, same_store, split_bucket
from mm1.store.open import open_store
from mm1_components import deploy, evaluate, ingest, pretrain
from mm1_components.wrapper.checks import check_errors, field_value, run_checks
from mm1_workflows import cli
from mm1_workflows.authoring import profiles

MANIFEST = "s3://mm1/store/manifests/" + "a" * 64 + ".json"
PRETRAIN, DEPLOY, EVALUATE, INGEST = "mm1:pretrain", "mm1:deploy", "mm1:evaluate_model", "mm1:ingest"
LONG = "x" * 5000


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def submitted(workflow: str, *values: str, profile: str = "default") -> int:
    words = [word for value in values for word in ("-p", value)]
    return cli.main(["submit", workflow, *words, "--profile", profile, "--dry-run=client"])


def started(workflow: str, folder: Path, *values: str) -> int:
    words = [word for value in values for word in ("-p", value)]
    return cli.main(["run", workflow, *words, "--folder", str(folder / "runs"), "--store", str(folder / "store")])


# -- kinds of addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("benchmarks=s3://bkt/x", "expected path or world:<seed>, got 's3://bkt/x'"),
        ("benchmarks=", "expected path or world:<seed>, got ''"),
        ("decoder=s3://bkt/x", "expected path, got"),
        ("vision=world:0", "expected path, got 'world:0'"),
        ("tokenizer=s3://bkt/x", "expected path or <store>/manifests/<sha256>.json or serving:<target> or 'train', got"),
        ("tokenizer=", "or 'train', got ''"),
        ("tokenizer=serving:", "target: expected lower-case letters"),
        ("tokenizer=serving:My Model", "target: expected lower-case letters"),
        ("captions=serving:mm1", "expected path or s3://bucket/prefix or world:<seed>, got 'serving:mm1'"),
        ("captions=s3://", "a bucket name of 3 to 63"),
        ("captions=s3:///x", "a bucket name of 3 to 63"),
        ("captions=http://host/x", "expected path or s3://bucket/prefix or world:<seed>, got 'http://host/x'"),
        (f"captions={MANIFEST}", "expected path or s3://bucket/prefix"),
        ("captions=world:²", "expected world:<seed>"),
        ("captions=world:" + "9" * 5000, "expected world:<seed>"),
        (f"data=s3://A_B/manifests/{'a' * 64}.json", "a bucket name of 3 to 63"),
        ("store=", "use a folder or s3://bucket/prefix"),
        ("store=s3://", "parameter store: expected s3://bucket/prefix"),
        ("store=s3:///x", "a bucket name of 3 to 63"),
        ("store=s3://A_B/x", "a bucket name of 3 to 63"),
        ("store=s3://bkt/x y", "without spaces"),
        ("store=gs://bkt/x", "unknown scheme 'gs'"),
        ("store=file://host/x", "file:///folder"),
    ],
    ids=lambda text: text[:40],
)
def test_addresses_that_nothing_reads_are_refused_here_and_on_a_cluster(
    value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submitted(PRETRAIN, value) == 80
    text = said(capsys)
    assert words in text and len(text) < 1500
    assert started(PRETRAIN, tmp_path, value) == 80
    assert words in said(capsys)
    assert not (tmp_path / "runs").exists(), "nothing has started"


@pytest.mark.parametrize(
    "value",
    [
        "captions=s3://bkt",
        "captions=s3://bkt/a b",
        f"tokenizer={MANIFEST}",
        "tokenizer=serving:mm1",
        "benchmarks=world:7",
        "vision=",
        "store=s3://bkt",
    ],
)
def test_addresses_that_are_read(value: str) -> None:
    assert submitted(PRETRAIN, value) == 0


@pytest.mark.parametrize("workflow", [DEPLOY, EVALUATE])
@pytest.mark.parametrize("value", ["", "some/file", "manifests/" + "a" * 64 + ".json"])
def test_a_required_manifest_is_given(workflow: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(workflow, f"checkpoint={value}") == 80
    assert "manifests/<sha256>.json" in said(capsys)


def test_a_step_and_its_early_check_refuse_the_same() -> None:
    for step, name, value in (
        (evaluate.STEP, "checkpoint", ""),
        (evaluate.STEP, "benchmarks", "s3://bkt/x"),
        (deploy.STEP, "checkpoint", "x"),
        (pretrain.STEP, "decoder", "s3://bkt/x"),
        (ingest.STEP, "synthetic", "world:"),
        (ingest.STEP, "tokenizer", ""),
    ):
        with pytest.raises(ConfigurationError) as early:
            field_value(step.inputs, name, value)
        with pytest.raises(ConfigurationError) as late:
            run_checks(step, {name: value})
        assert str(early.value) == str(late.value)
    for step, name in ((ingest.STEP, "data"), (pretrain.STEP, "init"), (pretrain.STEP, "vision"), (deploy.STEP, "image")):
        assert field_value(step.inputs, name, "") == ""


@pytest.mark.parametrize(
    "bucket", ["", "ab", "A_B", "a" * 64, "-ab", "ab-", "a..b", "a.-b", "192.168.1.1", "xn--ab", "ab-s3alias", "a b"]
)
def test_names_that_no_bucket_has(bucket: str) -> None:
    for address in (f"s3://{bucket}/x", f"s3://{bucket}"):
        with pytest.raises(ConfigurationError, match="expected s3://bucket/prefix"):
            split_bucket(address)
        with pytest.raises(ConfigurationError, match="store: expected s3://bucket/prefix"):
            open_store(address)


def test_buckets_and_prefixes() -> None:
    assert split_bucket("s3://my.bucket-1/a/b/") == ("my.bucket-1", "a/b")
    assert split_bucket("s3://abc/what?is#this") == ("abc", "what?is#this")
    for address in ("s3://abc", "runs/store", "~/store", "file:///srv/store", "/srv/my store"):
        check_store(address)


@pytest.mark.parametrize("workflow", ["mm1:full", PRETRAIN, "mm1:sft"])
def test_data_of_another_store_is_refused_before_anything_starts(
    workflow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = open_store(str(tmp_path / "elsewhere")).uri
    name = "a" * 64 + ".json"
    needed = [f"checkpoint={elsewhere}/manifests/{name}"] if workflow == "mm1:sft" else []
    assert started(workflow, tmp_path, f"data={elsewhere}/manifests/{name}", *needed) == 80
    text = said(capsys)
    assert text.count(f"set --store {elsewhere} ") == 1 and "checkpoint: " not in text
    assert not (tmp_path / "runs").exists() and not (tmp_path / "store").exists()
    assert submitted(workflow, f"data=s3://other/x/manifests/{name}", "store=s3://bkt/x", *needed) == 80
    assert "-p store=s3://other/x)" in said(capsys)
    for store in ("s3://bkt/x", "s3://bkt/x/"):
        assert submitted(workflow, f"data=s3://bkt/x/manifests/{name}", f"store={store}", *needed) in (0, 80)
        assert "must be in the store" not in said(capsys)


def test_one_store_has_several_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for address in (
        "store",
        "store/",
        "./link",
        str(tmp_path / "store"),
        f"file://{tmp_path}/store",
        f"file://{tmp_path}/x/../link",
    ):
        assert same_store(address, "store"), address
    assert same_store("s3://abc/x/", "s3://abc/x") and same_store("s3://abc", "s3://abc/")
    for address in ("s3://abc/x", "s3://abd", str(tmp_path / "abc"), "abc"):
        assert not same_store(address, "s3://abc"), address


# -- files of this machine and of pods --------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> tuple[str, Path]:
    """A profile that mounts a claim where this machine has another folder."""
    mount = tmp_path / "models"
    (mount / "data").mkdir(parents=True)
    profile = tmp_path / "site.yaml"
    profile.write_text(yaml.safe_dump({"volumes": [{"claim": "models", "mount_path": str(mount)}]}))
    return str(profile), mount


def test_every_address_of_a_list_is_mounted_in_the_pods(site: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    profile, mount = site
    for value in (f"{mount}/a {mount}/b/*.tar", f"{mount}/a,s3://bkt/{{0..3}}.tar", f"{mount}/my data", f'["{mount}/x, y"]'):
        assert submitted(INGEST, f"captions={value}", profile=profile) == 0, value
    for value in (f"{mount}/a /elsewhere/b", f"/elsewhere/b/*.tar,{mount}/a", f'["{mount}/a", "/elsewhere/b"]'):
        assert submitted(INGEST, f"captions={value}", profile=profile) == 80
        text = said(capsys)
        assert "captions: pods have no access to '/elsewhere/b" in text and str(mount) not in text


def test_every_address_of_a_list_exists_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    for value, words in (
        (f"{tmp_path}/a {tmp_path}/b", f"captions: no such file or folder: '{tmp_path}/b'"),
        (f"{tmp_path}/a/*.tar", "matches '*.tar'"),
        (f"{tmp_path}/a {tmp_path}/a", "give each file once"),
        (f"{tmp_path}/a world:0", "expected 'world:0' alone"),
    ):
        assert started(INGEST, tmp_path, f"captions={value}", "text=world:0") == 80
        assert words in said(capsys)


@pytest.mark.parametrize("name", ["vision", "decoder", "tokenizer", "benchmarks", "captions"])
def test_a_cluster_is_not_judged_by_the_files_of_this_machine(
    name: str, site: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile, mount = site
    for path in (mount, mount / "data", mount / "nothing", f"file://{mount}/data"):
        assert submitted(PRETRAIN, f"{name}={path}", profile=profile) == 0, said(capsys)
    assert submitted(PRETRAIN, f"{name}={mount}/../x", profile=profile) == 80
    assert "pods have no access to" in said(capsys)
    if name != "captions":  # an empty folder of raw files shows when its format is looked for
        assert started(PRETRAIN, tmp_path, f"{name}={mount}") == 80


def test_one_complaint_about_a_path_that_no_pod_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tokenizer", "decoder", "benchmarks"):
        assert submitted(PRETRAIN, f"{name}={tmp_path}") == 80
        text = said(capsys)
        assert f"{name}: pods have no access to '{tmp_path}': mount a claim there (`volumes` in the profile)" in text
        assert text.count(f"{name}: ") == 1 and "bucket" not in text
    assert submitted(PRETRAIN, "captions=~") == 80
    assert "captions: pods have no access to '~': copy it to a bucket (s3://...), or mount a claim there" in said(capsys)


def test_checks_of_files_run_where_the_files_are(tmp_path: Path) -> None:
    values = {"vision": str(tmp_path), "decoder": f"file://{tmp_path}"}
    assert [str(error).partition(":")[0] for error in check_errors(pretrain.STEP, values)] == ["vision", "decoder"]
    assert list(check_errors(pretrain.STEP, values, runs_here=False)) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [("~nosuchuser/x", "cannot expand ~"), (LONG, "file name too long"), ("x/" + LONG, "file name too long")],
    ids=["user", "long", "long-below"],
)
@pytest.mark.parametrize("name", ["captions", "vision", "tokenizer", "benchmarks"])
def test_paths_that_cannot_be_looked_at_are_named_and_shortened(
    name: str, path: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started(PRETRAIN, tmp_path, f"{name}={path}") == 80
    text = said(capsys)
    assert f"{name}: {words}" in text and len(text) < 600
    assert submitted(PRETRAIN, f"{name}={path}") == 80
    assert f"{name}: pods have no access to" in said(capsys)


@pytest.mark.parametrize("store", ["~nosuchuser/x", "", "x/" + LONG], ids=["user", "empty", "long"])
def test_stores_that_cannot_be_opened(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", PRETRAIN, "--store", store, "--folder", str(tmp_path / "runs")]) == 80
    text = said(capsys)
    assert "store" in text and len(text) < 600


def test_a_file_address_is_read_as_its_path(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    assert open_store(open_store(f"file://{tmp_path}/a%20b").uri).uri == f"file://{tmp_path}/a%20b"


def test_pods_write_to_buckets_only(site: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    profile, mount = site
    assert submitted(PRETRAIN, f"store=file://{mount}/store", profile=profile) == 80
    assert "mount claims read-only; set s3://bucket/prefix" in said(capsys)
    Path(profile).write_text(f"store: file://{mount}/store\n")
    with pytest.raises(ConfigurationError, match="store: expected s3://bucket/prefix"):
        profiles.read(profile)
