"""What is in the component images, and that each does the work it is made for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mm1_components.wrapper.cache import code_digest
from tests.images.box import Box, Work, make_work
from tests.unit.test_torch_free import light_modules

ROOT = Path(__file__).parents[2]
STEPS = ("ingest", "data_mix", "pretrain", "sft", "evaluate", "gate", "deploy", "report")
DIGESTS = (
    "import json, sys; from mm1_components.wrapper.cache import code_digest; "
    "print(json.dumps([*map(code_digest, sys.argv[1:])]))"
)
INSTALLED = (
    "import importlib.metadata as m, json, re; "
    "print(json.dumps(sorted({re.sub('[-_.]+', '-', d.name).lower(): d.version for d in m.distributions()}.items())))"
)
IMPORTED = (
    "import importlib, json, pkgutil, sys\n"
    "for name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_work(tmp_path_factory.mktemp("work"))


def locked(name: str) -> list[list[str]]:
    text = (ROOT / "components/images" / name / "requirements.lock").read_text()
    return sorted([name, version] for name, version in re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", text, re.MULTILINE))


def test_it_runs_as_a_user_without_rights_on_a_read_only_system(box: Box) -> None:
    code = "import json, os; print(json.dumps([os.getuid(), os.access('/opt/mm1', os.W_OK), os.access('/tmp', os.W_OK)]))"
    user, code_writable, scratch_writable = box.python(code)
    assert user > 0
    assert (code_writable, scratch_writable) == (False, True)
    assert re.fullmatch(r"\d+(:\d+)?", box.facts()["Config"]["User"])  # a name would not do for runAsNonRoot


def test_its_labels_say_what_it_is_and_where_it_comes_from(box: Box) -> None:
    labels = box.facts()["Config"]["Labels"]
    told = {name.removeprefix("org.opencontainers.image."): text for name, text in labels.items()}
    assert told["title"] == f"mm1-{box.name}"
    assert told["licenses"] == "Apache-2.0"
    assert re.match(r"[0-9a-f]{7,40}", told["revision"])
    assert told["version"] != "0" and "source" in told


def test_bill_of_materials_lock_and_what_is_installed_agree(box: Box) -> None:
    parts = json.loads(box.run("cat", "/opt/mm1/sbom.json").stdout)["components"]
    assert sorted([part["name"], part["version"]] for part in parts) == locked(box.name)
    assert box.python(INSTALLED) == locked(box.name)


def test_the_code_digest_is_that_of_the_host(box: Box) -> None:
    modules = [f"mm1_components.{step}" for step in STEPS]
    assert box.python(DIGESTS, *modules) == [code_digest(module) for module in modules]


def test_light_modules_import_and_torch_is_only_in_the_trainer(box: Box) -> None:
    loaded = box.python(IMPORTED, *light_modules())
    assert not {"torch", "transformers", "deepspeed"} & set(loaded)
    has_torch = box.run("python", "-c", "import torch", check=False).returncode == 0
    assert has_torch == (box.name == "trainer")


def test_it_does_a_step_of_its_kind(box: Box, work: Work) -> None:
    done = box.run("sh", "-ec", work.steps[box.name], data=work.folder)
    assert re.search(r"file:///tmp/store/manifests/[0-9a-f]{64}\.json$", done.stdout.strip()), done.stderr[-3000:]
