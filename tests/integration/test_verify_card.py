"""The verification card that a training step writes, and ``mm1 verify``, which runs the training again and resumes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm1.lineage.card import NO_PROOF, read_card
from mm1.store.local import LocalStore
from tests.support.tiny_runs import SMALL_PARTS, holding_out, small_mix
from tests.support.warm_python import WarmPython

pytestmark = pytest.mark.integration
SMALL_TRAIN = ("train.global_batch=4", "train.micro_batch=4", "train.validate_every=10", "log.progress_every_s=0.01")
STEPS = 30


@pytest.fixture(scope="module")
def trained(made_once, warm_python) -> Path:
    """A folder with a store and the card of a training in it."""

    def make(folder: Path) -> None:
        store, _, mix = small_mix(folder)
        data, _ = holding_out(store, mix, "0.3")
        done = step(warm_python, folder, data, STEPS)
        assert done.returncode == 0, done.stderr[-3000:]

    return made_once("card", make)


def step(python: WarmPython, folder: Path, data: str, steps: int):
    overrides = " ".join((*SMALL_PARTS, *SMALL_TRAIN, f"train.steps={steps}"))
    options = ["--data", data, "--recipe", "mm1_tiny", "--overrides", overrides, "--seed", "3"]
    options += ["--store", str(folder / "store"), "--run", "cards", "--artifact.card.yaml", str(folder / "card.yaml")]
    return python.run("mm1_components.pretrain", *options, timeout=200)


def verify(python: WarmPython, card: Path, *options: str):
    return python.run("mm1_workflows.cli", "verify", str(card), *options, timeout=300)


def test_a_card_says_what_was_run_on_what_with_which_result(trained: Path) -> None:
    card = read_card(trained / "card.yaml")
    assert (card.recipe, card.stage, card.status, card.results.steps) == ("mm1_tiny", "pretrain", "partial", STEPS)
    assert NO_PROOF in card.reasons and f"short run: {STEPS} of the recipe's 500 steps" in card.reasons
    assert card.run.inputs["seed"] == 3 and card.run.inputs["processes"] == card.hardware.processes == 1
    assert set(card.results.validation_losses) == {"captions", "interleaved", "text"} < set(card.results.losses)
    assert card.hardware.processor and card.hardware.threads == 1 and card.versions["torch"]
    assert LocalStore(trained / "store").exists(f"manifests/{card.results.manifest}.json")
    text = (trained / "card.yaml").read_text()
    assert str(trained) not in text and "STORE/manifests/" in card.command, "no paths of this machine"


def test_a_card_is_verified_with_a_resume_proof(trained: Path, tmp_path: Path, warm_python: WarmPython) -> None:
    path = tmp_path / "card.yaml"
    path.write_text((trained / "card.yaml").read_text())
    done = verify(warm_python, path, "--store", str(trained / "store"), "--stop-after", "2", "--write")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "ok, bit by bit" in done.stdout and "verified" in done.stdout
    before, after = read_card(trained / "card.yaml"), read_card(path)
    assert after.resume is not None and after.resume.equal
    assert 2 <= after.resume.stopped_after < STEPS
    assert set(before.reasons) - set(after.reasons) == {NO_PROOF}
    assert after.model_copy(update={"resume": None, "reasons": before.reasons}) == before


def test_data_that_the_store_lacks_is_named_with_the_command_that_makes_it(
    trained: Path, tmp_path: Path, warm_python: WarmPython
) -> None:
    done = verify(warm_python, trained / "card.yaml", "--store", str(tmp_path / "empty"))
    assert done.returncode == 80
    assert "lacks manifests/" in done.stderr and "the card does not name the step" in done.stderr
