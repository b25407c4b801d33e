"""Verification cards without training: what they hold, how two are compared, and what `mm1 verify` says before it starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mm1.errors import ConfigurationError
from mm1.lineage.card import NO_PROOF, Card, Code, Hardware, Results, ResumeProof, Speed, StepCall, read_card
from mm1.lineage.card_check import check_proof, compare_cards
from mm1.recipes import registry
from mm1.store.open import open_store
from mm1_workflows import cli
from mm1_workflows.cli.card_runs import CardRuns
from tests.support.stored_runs import mix, raw, record

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
CARDS = Path(__file__).parents[3] / "cards"


def card(**changes: object) -> Card:
    run = StepCall(task="pretrain", step="pretrain", inputs={"data": f"@{B}", "recipe": "mm1_tiny"}, manifest=A)
    made = (
        StepCall(task="ingest", step="ingest", inputs={"captions": "world:0"}, manifest=C),
        StepCall(task="mix", step="data_mix", inputs={"data": f"@{C}", "one_source": True}, manifest=B),
    )
    return Card(
        recipe="mm1_tiny",
        stage="pretrain",
        status="partial",
        reasons=(NO_PROOF,),
        command=run.command(),
        run=run,
        made_by=made,
        config=D,
        code=Code(commit="v1", digest=D),
        hardware=Hardware(processor="x", cores=2, memory_gb=8, processes=1, threads=2),
        versions={"torch": "2"},
        results=Results(manifest=A, steps=9, tokens=90, losses={"all": 2.0}, validation_losses={"text": 2.5}),
        speed=Speed(tokens_per_s=100.0),
    ).model_copy(update=changes)


def wrong(now: Card, tolerance: float = 0.05) -> list[str]:
    return [finding.field for finding in compare_cards(card(), now, tolerance) if not finding.fine]


def with_results(base: Card, **changes: object) -> Card:
    return base.model_copy(update={"results": base.results.model_copy(update=changes)})


def test_a_card_survives_its_file_and_ignores_where_manifests_are(tmp_path: Path) -> None:
    card().write(tmp_path / "card.yaml")
    assert read_card(tmp_path / "card.yaml") == card()
    stored = {"data": f"s3://bucket/x/manifests/{B}.json", "recipe": "mm1_tiny"}
    assert StepCall.of("pretrain", "pretrain", stored, f"file:///y/manifests/{A}.json") == card().run
    assert card().made_by[1].command("/s") == (
        f"python -m mm1_components.data_mix --data /s/manifests/{C}.json --one-source true --store /s"
    )


@pytest.mark.parametrize(
    ("text", "message"), [("[", "expected YAML"), ("recipe: x\n", "expected the card.yaml"), (None, "cannot be read")]
)
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_card(tmp_path / "card.yaml")


def test_in_the_same_circumstances_every_bit_counts() -> None:
    assert wrong(card(code=Code(commit="v2", digest=D), speed=Speed(tokens_per_s=7.0))) == []
    assert wrong(with_results(card(), manifest=B)) == ["manifest"]
    assert wrong(with_results(card(), losses={"all": 2.000001})) == ["loss all"]
    assert wrong(with_results(card(), validation_losses={})) == ["validation loss text"]


@pytest.mark.parametrize(
    "other",
    [
        {"code": Code(commit="v1", digest=A)},
        {"versions": {"torch": "3"}},
        {"hardware": Hardware(processor="y", cores=2, memory_gb=8, processes=1, threads=2)},
        {"hardware": Hardware(processor="x", cores=2, memory_gb=8, processes=2, threads=2)},
        {"hardware": Hardware(processor="x", cores=2, memory_gb=8, processes=1, threads=4)},
    ],
)
def test_elsewhere_losses_are_within_a_tolerance(other: dict[str, object]) -> None:
    now = with_results(card(**other), manifest=B, losses={"all": 2.08})
    assert wrong(now) == []
    assert wrong(now, tolerance=0.01) == ["loss all"]
    assert wrong(with_results(now, losses={"all": 3.0}, steps=8, tokens=80)) == ["steps", "tokens", "loss all"]
    same_code = now.code.digest == card().code.digest
    assert wrong(now.model_copy(update={"config": A})) == (["configuration"] if same_code else [])


def test_a_proof_completes_a_card_if_it_is_the_last_thing_missing() -> None:
    proof = ResumeProof(stopped_after=3, equal=True)
    assert card().with_proof(proof).status == "complete"
    assert card(reasons=("short run", NO_PROOF)).with_proof(proof).reasons == ("short run",)
    failed = card().with_proof(ResumeProof(stopped_after=3, equal=False))
    assert failed.status == "partial" and "another manifest" in failed.reasons[0]
    assert not check_proof(card(), ResumeProof(stopped_after=3, equal=False)).fine
    assert failed.with_proof(proof).status == "complete", "a later proof replaces one that failed"
    assert len(failed.with_proof(ResumeProof(stopped_after=5, equal=False)).reasons) == 1


def test_steps_that_make_the_data_are_listed_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card().write(tmp_path / "card.yaml")
    assert cli.main(["verify", str(tmp_path / "card.yaml"), "--store", str(tmp_path / "store")]) == 80
    text = capsys.readouterr().err
    assert text.index("mm1_components.ingest --captions world:0") < text.index("mm1_components.data_mix") and "--make" in text
    store = open_store(str(tmp_path / "store"))
    data = mix(store, raw(store, "x"))
    record(store, "r", "mix", data)
    store.write(f"manifests/{C}.json", b"")
    assert [call.task for call in CardRuns(card(), store, tmp_path).missing()] == ["mix"]
    with pytest.raises(ConfigurationError, match="does not name the step"):
        CardRuns(card(made_by=()), store, tmp_path).missing()


def changed(part: str, **changes: object) -> dict[str, object]:
    return {part: {**card().model_dump()[part], **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("results", steps=0), "results.steps"),
        (changed("results", tokens=-1), "results.tokens"),
        ({"tolerance": -0.1}, "tolerance"),
        (changed("run", inputs={"data": f"@{B}", "recipe": "mm1_tiny_moe"}), "command"),
    ],
)
def test_an_edited_card_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**card().model_dump(mode="json"), **changes}))
    with pytest.raises(ConfigurationError, match=message):
        read_card(tmp_path / "card.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "../../x"}, "no step '../../x'"),
        ({"step": "gate"}, "step gate has no input"),
        ({"step": "ingest", "inputs": {}}, "expected a step that trains"),
        ({"inputs": {"data": f"@{B}", "store": "/elsewhere"}}, "no input 'store'"),
        ({"inputs": {"recipe": "mm1_tiny"}}, "data is required"),
    ],
)
def test_a_card_calls_only_steps_with_their_inputs(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    run = card().run.model_copy(update=changes)
    with pytest.raises(ConfigurationError, match=message):
        CardRuns(card(run=run), open_store(str(tmp_path)), tmp_path)


def test_steps_that_read_what_later_ones_make_are_no_endless_loop(tmp_path: Path) -> None:
    first, second = card().made_by
    loop = (first.model_copy(update={"step": "data_mix", "inputs": {"data": f"@{B}"}}), second)
    with pytest.raises(ConfigurationError, match="does not name the step"):
        CardRuns(card(made_by=loop), open_store(str(tmp_path)), tmp_path).missing()


@pytest.mark.parametrize("options", [["--stop-after", "9"], ["--tolerance", "-1"], ["--tolerance", "nan"]])
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str]) -> None:
    card().write(tmp_path / "card.yaml")
    assert cli.main(["verify", str(tmp_path / "card.yaml"), "--store", str(tmp_path), *options]) == 80


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_cards_are_those_of_recipes_and_name_no_machine(path: Path) -> None:
    committed = read_card(path)
    assert committed.recipe == path.stem and path.stem in registry.names()
    assert committed.resume.equal if committed.resume else NO_PROOF in committed.reasons
    assert {call.manifest for call in committed.made_by} >= set(committed.run.needs)
    text = path.read_text().replace("STORE/manifests/", "")
    assert "file://" not in text and not re.search(r"(^|[\s='\"])/\w", text), "a path of a machine"
