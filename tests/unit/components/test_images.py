"""What the component images are built from: locks, build contexts, the build's command line, digests in a profile."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mm1_components.wrapper.cache import code_digest
from mm1_workflows.authoring import profiles
from tests.unit.test_torch_free import light_modules

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "components" / "images"
DIGEST = "sha256:" + "ab" * 32
STEPS = ("ingest", "data_mix", "pretrain", "sft", "evaluate", "gate", "deploy", "report")
NOT_IN_IMAGES = {"torch", "transformers", "deepspeed", "triton"}
HOSTS = {"lm_eval", "lmms_eval", "datasets", "vllm"}
"""Extras: they import this project, in an environment of their own."""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("images_build", FOLDER / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", path.read_text(), re.MULTILINE))


# -- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["cpu", "trainer"])
def test_versions_are_those_of_the_project(image: str) -> None:
    ours, root = locked(FOLDER / image / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert len(ours) > 20
    different = {name: version for name, version in ours.items() if root.get(name) != version}
    assert different == {}, "`make lock` brings them together"


@pytest.mark.parametrize("image", ["cpu", "trainer"])
def test_every_package_of_a_lock_has_hashes(image: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (FOLDER / image / "requirements.lock").read_text(), flags=re.MULTILINE)[1:]
    assert [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_light_image_has_no_torch_and_the_trainer_has_all_of_the_light_one() -> None:
    cpu, trainer = (locked(FOLDER / image / "requirements.lock") for image in ("cpu", "trainer"))
    assert NOT_IN_IMAGES & cpu.keys() == set()
    assert not [name for name in cpu if name.startswith("nvidia-")]
    assert NOT_IN_IMAGES - trainer.keys() == set()
    assert cpu.items() <= trainer.items()


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"mm1", "mm1_components", "mm1_workflows"}


def missing(files: list[Path], lock: Path) -> set[str]:
    distributions, have = importlib.metadata.packages_distributions(), locked(lock)
    wanted = set().union(*map(imported, files)) - HOSTS
    owners = {name: {re.sub(r"[-_.]+", "-", one).lower() for one in distributions.get(name, ())} for name in wanted}
    return {name for name, of_name in owners.items() if not of_name & have.keys()}


def files_of(module: str) -> list[Path]:
    base = ROOT / ("model" if module.split(".")[0] == "mm1" else "components") / Path(*module.split("."))
    return [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]


def test_the_trainers_lock_has_whatever_library_and_steps_import() -> None:
    files = [*(ROOT / "model/mm1").rglob("*.py"), *(ROOT / "components/mm1_components").rglob("*.py")]
    assert missing(files, FOLDER / "trainer" / "requirements.lock") == set()


def test_the_light_lock_has_whatever_light_modules_import() -> None:
    # Light to import, not to run.
    in_trainer = ("mm1_components.deploy", "mm1_components.evaluate", "mm1.lineage.signing")
    light = [module for module in light_modules() if module not in in_trainer]
    files = [path for module in light for path in files_of(module)]
    assert len(files) > 40
    assert missing(files, FOLDER / "cpu" / "requirements.lock") - NOT_IN_IMAGES == set()


# -- what goes in -----------------------------------------------------------------------------------------------------


def stage_of(name: str) -> str:
    """The lines of a stage of the Containerfile."""
    stages = re.split(r"^FROM \S+ AS ", (FOLDER / "Containerfile").read_text(), flags=re.MULTILINE)[1:]
    return next(stage for stage in stages if stage.split("\n")[0] == name)


def copied() -> list[tuple[list[str], str]]:
    """What the images have of the checkout, and where."""
    lines = re.findall(r"^COPY (.*)$", stage_of("code"), re.MULTILINE)
    return [(line.split()[:-1], line.split()[-1]) for line in lines]


def test_code_laid_out_as_in_an_image_has_the_digest_of_the_checkout(tmp_path: Path) -> None:
    for sources, target in copied():
        for source in sources:
            place = tmp_path / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    code = "import json, sys; from mm1_components.wrapper.cache import *; print(json.dumps([*map(code_digest, sys.argv[1:])]))"
    modules = [f"mm1_components.{step}" for step in STEPS]
    paths = ":".join(str(tmp_path / "opt/mm1" / room) for room in ("model", "components", "workflows"))
    found = subprocess.run(
        [sys.executable, "-P", "-c", code, *modules], env={"PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True
    )
    assert json.loads(found.stdout or "[]") == [code_digest(module) for module in modules], found.stderr


@pytest.mark.parametrize("image", ["thin", "cpu", "trainer"])
def test_every_image_has_the_same_code_and_no_root(image: str) -> None:
    stage = stage_of(image)
    assert "COPY --from=code /opt/mm1 /opt/mm1\n" in stage
    assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["65532:65532"]


# -- digests in a profile ---------------------------------------------------------------------------------------------

PROFILE = """# A site's profile.
store: s3://ours/store  # where it is

images:
  cpu: registry.example.org/mm1-cpu:1
  # mirrored by hand
  other: registry.example.org/other:2

queue: mm1
"""


def test_digests_are_written_and_the_rest_of_the_file_stays(build: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(PROFILE)
    build.pin(path, {"cpu": f"r/mm1-cpu@{DIGEST}", "trainer": f"r/mm1-trainer@{DIGEST}"})
    content = yaml.safe_load(path.read_text())
    assert content["images"] == {
        "cpu": f"r/mm1-cpu@{DIGEST}", "trainer": f"r/mm1-trainer@{DIGEST}", "other": "registry.example.org/other:2",
    }  # fmt: skip
    for line in ("# A site's profile.", "store: s3://ours/store  # where it is", "queue: mm1"):
        assert line in path.read_text().splitlines()
    assert profiles.read(str(path)).image("cpu") == f"r/mm1-cpu@{DIGEST}"


def test_a_new_profile_is_one_that_can_be_used(build: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "new" / "images.yaml"
    build.pin(path, {"cpu": f"r/mm1-cpu@{DIGEST}"})
    assert profiles.read(str(path)).image("cpu") == f"r/mm1-cpu@{DIGEST}"


NAMES = st.sampled_from(["cpu", "trainer", "other", "thin"])
KEYS = st.dictionaries(st.sampled_from(["store", "queue", "environment_secret"]), st.sampled_from(["a", "b c", "d: e"]))


@given(KEYS, st.dictionaries(NAMES, st.just("old:1")), KEYS, st.dictionaries(NAMES, st.just(f"new@{DIGEST}")), st.booleans())
def test_pinning_changes_images_only_and_twice_is_as_good_as_once(
    tmp_path_factory: pytest.TempPathFactory,
    build: ModuleType,
    before: dict[str, str],
    images: dict[str, str],
    after: dict[str, str],
    new: dict[str, str],
    flow: bool,
) -> None:
    path = tmp_path_factory.mktemp("pin") / "profile.yaml"
    after = {key: value for key, value in after.items() if key not in before}
    written = f"images: {json.dumps(images)}\n" if flow else yaml.safe_dump({"images": images})
    path.write_text("".join([yaml.safe_dump(before) if before else "", written, yaml.safe_dump(after) if after else ""]))
    build.pin(path, new)
    once = path.read_text()
    assert yaml.safe_load(once) == before | {"images": images | new} | after
    build.pin(path, new)
    assert path.read_text() == once


def test_a_file_that_is_no_profile_is_refused_and_left_alone(build: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- a\n")
    with pytest.raises(build.BuildError, match="not a profile"):
        build.pin(path, {"cpu": "x"})
    assert path.read_text() == "- a\n"


# -- the build's command line -----------------------------------------------------------------------------------------


def stand_in(folder: Path, name: str, lines: str) -> None:
    """A program of that name that appends its arguments to calls.txt."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {folder}/calls.txt\n{lines}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


BUILDAH = f"""case "$1" in
inspect) echo '{{"FromImageDigest": "{DIGEST}"}}' ;;
images) echo '[{{"size": "1.5 GB"}}]' ;;
push) while [ "$1" != --digestfile ]; do shift; done; printf sha256:{"cd" * 32} > "$2" ;;
esac"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched first for programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_local_build_passes_what_the_machine_needs_and_pins_the_local_digest(
    build: ModuleType, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(programs, "buildah", BUILDAH)
    config = tmp_path / "pip.conf"
    config.write_text("[global]\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    profile = tmp_path / "images.yaml"
    words = ["build", "--engine=buildah", "--images=thin", "--tag=t", "--base-image=b:1", f"--profile={profile}"]
    assert build.main([*words, "--build-args=--network host -v '/a b:/c:ro'"]) == 0
    (call,) = [line for line in (programs / "calls.txt").read_text().splitlines() if line.startswith("buildah bud")]
    for part in ("--layers", "BASE_IMAGE=b:1", "--network host", "-v /a b:/c:ro", f"--secret=id=pip,src={config}"):
        assert part in call
    assert call.endswith("--file components/images/Containerfile --target thin --tag localhost/mm1-thin:t .")
    assert "--label=org.opencontainers.image.revision=" in call
    wanted = f"localhost/mm1-thin@{DIGEST}"
    assert yaml.safe_load(profile.read_text()) == {"images": {"cpu": wanted, "trainer": wanted}}
    assert "1,500 MB" in capsys.readouterr().out


def test_with_a_registry_the_digest_is_the_registrys(
    build: ModuleType, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(programs, "buildah", BUILDAH)
    profile = tmp_path / "images.yaml"
    words = ["build", "--engine=buildah", "--images=thin", "--tag=t", "--registry=r.example.org/team/", f"--profile={profile}"]
    assert build.main(words) == 0
    assert yaml.safe_load(profile.read_text())["images"]["cpu"] == f"r.example.org/team/mm1-thin@sha256:{'cd' * 32}"
    assert "BASE_IMAGE" not in (programs / "calls.txt").read_text()


def test_a_failed_build_ends_with_an_error_and_pins_nothing(
    build: ModuleType, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(programs, "buildah", 'test "$1" != bud')
    profile = tmp_path / "images.yaml"
    assert build.main(["build", "--engine=buildah", "--images=thin", "--tag=t", f"--profile={profile}"]) == 1
    assert not profile.exists()
    assert "buildah bud failed (exit code 1)" in capsys.readouterr().out


def test_the_first_engine_that_works_is_taken(build: ModuleType, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(build.BuildError, match="not installed or not running"):
        build.find_engine("")
    stand_in(programs, "docker", "exit 1")  # the client without a server
    with pytest.raises(build.BuildError, match="docker"):
        build.find_engine("docker")
    stand_in(programs, "podman", "exit 0")
    assert build.find_engine("").name == "podman"
    with pytest.raises(build.BuildError, match="expected one of"):
        build.find_engine("kaniko")


def test_unknown_images_are_refused(build: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["build", "--images=gpu"])
    assert "expected cpu, trainer, thin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("remote", "wanted"),
    [("https://me:pass@example.org/mm1.git", "https://example.org/mm1.git"), ("/home/me/mm1", "unknown"), ("", "unknown")],
)
def test_the_source_label_holds_neither_passwords_nor_paths(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str, wanted: str
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    if remote:
        subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", remote], check=True)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.source() == wanted


# -- provenance -------------------------------------------------------------------------------------------------------


def test_the_provenance_names_what_the_image_was_made_of(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "PROVENANCE_FOLDER", tmp_path)
    path = build.write_provenance("cpu", "registry.example/team/mm1-cpu:1.0", DIGEST, "", "https://ci.example/jobs/1")
    statement = json.loads(path.read_text())
    assert statement["subject"] == [{"name": "registry.example/team/mm1-cpu", "digest": {"sha256": "ab" * 32}}]
    definition, details = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
    assert details["builder"]["id"] == "https://ci.example/jobs/1"
    assert definition["externalParameters"]["baseImage"].startswith("docker.io/library/python:3.11")
    [commit, *files] = definition["resolvedDependencies"]
    assert re.fullmatch(r"[0-9a-f]{40}", commit["digest"]["gitCommit"]) and "@" not in commit["uri"]
    for each in files:
        assert each["digest"]["sha256"] == hashlib.sha256((ROOT / each["name"]).read_bytes()).hexdigest()
    assert {"Containerfile", "requirements.lock"} <= {Path(each["name"]).name for each in files}
