"""The step gate: whose reports count, where the serving model's come from, and what is checked before a run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.errors import ConfigurationError
from mm1.evals.samples import SCHEMA
from mm1.manifests import (
    Checkpoint,
    Deployment,
    EvalReport,
    ExportedModel,
    GateDecision,
    Score,
    load,
    publish,
    split_uri,
)
from mm1.store.base import BlobRef, Store
from mm1.store.open import open_store
from mm1_components import deploy
from mm1_components.gate import STEP, check_rules
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.checks import Producer, Producers, check_errors
from mm1_components.wrapper.execute import execute

BASE, TUNED, SERVED = "a" * 64, "b" * 64, "c" * 64
EMPTY = BlobRef(sha256="0" * 64, num_bytes=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def evaluated(store: Store, checkpoint: str, num_wrong: int, num_items: int = 400, task: str = "vqa", **fields: object) -> str:
    """Publish a report with its answers and return its address."""
    values = [0.0] * num_wrong + [1.0] * (num_items - num_wrong)
    rows = [
        {
            "task": task,
            "split": "test",
            "shots": 0,
            "control": "none",
            "draw": 0,
            "item": str(number),
            "cluster": str(number),
            "values": [("accuracy", value)],
        }
        for number, value in enumerate(values)
    ]
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), table)
    score = Score(
        task=task, split="test", metric="accuracy", shots=0, value=sum(values) / num_items, stderr=0.01, num_items=num_items
    )
    report = EvalReport(
        checkpoint=checkpoint,
        scores=(score,),
        examples=EMPTY,
        samples=store.put_bytes(table.getvalue().to_pybytes()),
        **{"benchmarks": "0" * 64, "config": {"items": num_items}} | fields,
    )
    return publish(store, report)


def gate(store: Store, tmp_path: Path, **inputs: str) -> tuple[int, GateDecision | None, str]:
    """Run the step as its command line does; the decision and summary.md."""
    options = [f"--{name}={value}" for name, value in inputs.items()]
    options += [f"--out.manifest={tmp_path / 'manifest'}", f"--artifact.summary.md={tmp_path / 'summary.md'}"]
    (tmp_path / "manifest").unlink(missing_ok=True)
    code = execute(STEP, build_parser(STEP).parse_args([*options, f"--store={store.uri}"]))
    if code:
        return int(code), None, ""
    return 0, load((tmp_path / "manifest").read_text(), GateDecision), (tmp_path / "summary.md").read_text()


def test_a_checkpoint_is_refused_although_another_has_the_score(store, tmp_path):
    base, tuned = evaluated(store, BASE, 0), evaluated(store, TUNED, 0, task="text")
    code, decision, summary = gate(store, tmp_path, reports=f"{base} {tuned}", rules="vqa/0/accuracy>=0.5 text/0/accuracy>=0.5")
    assert code == 0 and decision.decision == "fail" and decision.checkpoint == TUNED
    assert [rule.passed for rule in decision.rules] == [False, True]
    assert 'add "vqa@0" to the tasks' in decision.rules[0].reason and decision.rules[1].report == split_uri(tuned)[1]
    assert f"Checkpoint {TUNED[:12]}" in summary and "| **not scored** | vqa/0/accuracy >= 0.5 |" in summary
    assert decision.parents == (split_uri(base)[1], split_uri(tuned)[1])


def test_the_checkpoint_can_be_named_and_must_have_a_report(store, tmp_path, caplog):
    base, tuned = evaluated(store, BASE, 0), evaluated(store, TUNED, 400)
    reports = f"{base} {tuned}"
    address = f"{store.uri}/manifests/{{}}.json"
    _, decision, _ = gate(store, tmp_path, reports=reports, rules="vqa/0/accuracy>=0.5", checkpoint=address.format(BASE))
    assert decision.decision == "pass" and decision.checkpoint == BASE
    code, *_ = gate(store, tmp_path, reports=reports, rules="vqa/0/accuracy>=0.5", checkpoint=address.format(SERVED))
    assert code and f"reports: none is of checkpoint {SERVED[:12]}" in caplog.text


@pytest.mark.parametrize(("num_wrong", "expected"), [(2, "pass"), (40, "fail")])
def test_the_candidate_is_compared_with_the_serving_model(store, tmp_path, num_wrong, expected):
    tuned, serving = evaluated(store, TUNED, num_wrong), evaluated(store, SERVED, 0)
    _, decision, summary = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05", serving=serving)
    assert decision.decision == expected and decision.serving == SERVED
    assert decision.parents == (split_uri(tuned)[1], split_uri(serving)[1])
    comparison = decision.rules[0].comparison
    assert comparison.num_items == 400 and comparison.difference == pytest.approx(-num_wrong / 400)
    assert f"serving checkpoint {SERVED[:12]}" in summary and f"{comparison.difference:+.3f}" in summary
    assert load(publish(store, decision), GateDecision) == decision


def leading_to(store: Store, kind: str) -> str:
    """Publish a manifest that leads to a serving model, whose report is in the store."""
    counts = dict.fromkeys(
        ("step", "total_steps", "sequences_seen", "tokens_seen", "images_seen", "world_size", "num_parameters"), 1
    )
    checkpoint = publish(store, Checkpoint(stage="sft", recipe="r", config={}, model={}, **counts))
    digest = split_uri(checkpoint)[1]
    report = evaluated(store, digest, 0)
    exported = publish(store, ExportedModel(checkpoint=digest, files={}, contract={}))
    deployed = publish(store, Deployment(deployed=True, reason="", exported=split_uri(exported)[1]))
    decided = publish(store, GateDecision(checkpoint=digest, decision="pass", rules=()))
    return {"Checkpoint": checkpoint, "EvalReport": report, "ExportedModel": exported, "Deployment": deployed}.get(
        kind, decided
    )


@pytest.mark.parametrize("kind", ["EvalReport", "Checkpoint", "ExportedModel", "Deployment", "GateDecision"])
def test_the_serving_model_is_found_from_any_of_its_manifests(store, tmp_path, kind):
    address, tuned = leading_to(store, kind), evaluated(store, TUNED, 2)
    _, decision, _ = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05", serving=address)
    assert decision.decision == "pass" and decision.rules[0].comparison.value == 1.0


def test_among_several_reports_of_the_serving_model_the_comparable_one_counts(store, tmp_path):
    tuned = evaluated(store, TUNED, 2)
    serving = publish(store, GateDecision(checkpoint=SERVED, decision="pass", rules=()))
    others = [evaluated(store, SERVED, 0, benchmarks=f"{number}" * 64) for number in range(1, 5)]
    _, decision, _ = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05", serving=serving)
    assert decision.rules[0].unjudged == "not comparable" and "different benchmark files" in decision.rules[0].reason
    alike = evaluated(store, SERVED, 0)
    _, decision, _ = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05", serving=serving)
    assert decision.decision == "pass" and decision.rules[0].comparison.report == split_uri(alike)[1]
    assert alike not in others


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (Deployment(deployed=False, reason="no"), "was refused"),
        (GateDecision(checkpoint=SERVED, decision="fail", rules=()), "was refused"),
        (
            GateDecision(checkpoint=SERVED, decision="pass", rules=()),
            "has no EvalReport of checkpoint cccccccccccc; evaluate it",
        ),
    ],
)
def test_a_serving_model_without_scores_is_refused(store, tmp_path, caplog, manifest, said):
    inputs = {"reports": evaluated(store, TUNED, 2), "rules": "vqa/0/accuracy>=serving-0.05"}
    code, *_ = gate(store, tmp_path, serving=publish(store, manifest), **inputs)
    assert code and said in caplog.text


def test_a_first_deployment_needs_a_floor(store, tmp_path, caplog):
    tuned = evaluated(store, TUNED, 2)
    code, *_ = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05")
    assert code and "serving is empty; set serving, or add a floor" in caplog.text
    _, decision, summary = gate(store, tmp_path, reports=tuned, rules="vqa/0/accuracy>=serving-0.05 vqa/0/accuracy>=0.9")
    assert decision.decision == "pass" and [rule.unjudged for rule in decision.rules] == ["first deployment", ""]
    assert "no serving model: first deployment" in summary


# -- before a run -------------------------------------------------------------------------------------------------------

TRAINED = Producer("sft", {"seed": 0}, "sft")
EARLIER = Producer("pretrain", {"seed": 0}, "pretrain")


def evaluation(checkpoint: object = TRAINED, parameters: bool = False, **inputs: object) -> Producer:
    known = {"tasks": "instruct vqa@0", "shots": "0", "controls": True, "split": "test", "checkpoint": checkpoint} | inputs
    return Producer("evaluate", known, "evaluate-sft", {"tasks": "chat_tasks"} if parameters else {})


def complaints(rules: str, *reports: Producer, checkpoint: object = "") -> list[str]:
    values = {"rules": rules, "serving": "x"} | ({} if isinstance(checkpoint, Producer) else {"checkpoint": checkpoint})
    producers = {"reports": Producers(reports)}
    if isinstance(checkpoint, Producer):
        producers["checkpoint"] = Producers([checkpoint])
    return [str(error) for error in check_errors(STEP, values, producers)]


@pytest.mark.parametrize("checkpoint", ["", TRAINED])
def test_the_evaluation_of_the_checkpoint_itself_must_plan_every_score(checkpoint):
    base = evaluation(EARLIER, tasks="captions vqa", shots="0 4")
    assert complaints("vqa/0/accuracy>=0.5 instruct/0/accuracy>=0", base, evaluation(), checkpoint=checkpoint) == []
    (said,) = complaints("captions/0/cider>=1", base, evaluation(parameters=True), checkpoint=checkpoint)
    assert said == (
        'rules: captions/0/cider is not evaluated for the checkpoint to deploy; add "captions@0" to parameter chat_tasks'
    )
    (said,) = complaints("vqa/4/accuracy>=serving-0.1", base, evaluation(), checkpoint=checkpoint)
    assert 'set "vqa@0,4" in input tasks of task evaluate-sft, which has task vqa with 0 shots only' in said
    (said,) = complaints("instruct/0/accuracy/shuffled<=0.1", evaluation(), checkpoint=checkpoint)
    assert "controls=true adds the image-shuffled control, if task instruct has it" in said


def test_reports_of_one_checkpoint_complement_each_other_before_a_run_too():
    plain, chat = evaluation(tasks="captions@0"), evaluation(tasks="instruct", style="chat")
    assert complaints("captions/0/cider>=1 instruct/0/accuracy>=0", plain, chat, checkpoint=TRAINED) == []


def test_a_gate_without_any_report_of_its_checkpoint_is_refused_before_a_run():
    (said,) = complaints("vqa/0/accuracy>=0.5", evaluation(EARLIER), checkpoint=TRAINED)
    assert said.startswith("reports: none is of the checkpoint to deploy")
    same_step = Producer("sft", {"seed": 0}, "sft-again")
    assert complaints("vqa/0/accuracy>=0.5", evaluation(same_step), checkpoint=TRAINED), "another task of the same step"


def test_a_checkpoint_of_an_earlier_run_is_the_same_in_any_store():
    one, other = (f"s3://{bucket}/manifests/{TUNED}.json" for bucket in ("a", "b"))
    assert complaints("vqa/0/accuracy>=0.5", evaluation(one), checkpoint=other) == []
    assert complaints("vqa/4/accuracy>=0.5", evaluation(one), checkpoint=other)
    assert complaints("vqa/0/accuracy>=0.5", evaluation(one), checkpoint=one.replace("b", "d", 1).replace(TUNED, BASE))


def test_splits_are_planned_by_name():
    report = evaluation(tasks="vqa@0 captions:dev@0")
    assert complaints("vqa:test/0/accuracy>=0 captions:dev/0/cider>=0 captions/0/cider>=0", report) == []
    assert complaints("vqa:dev/0/accuracy>=0", report)


def test_what_is_unknown_before_a_run_is_judged_in_it():
    for unknown in ("tasks", "shots", "controls", "split", "checkpoint"):
        inputs = {name: value for name, value in evaluation().inputs.items() if name != unknown}
        assert complaints("captions/0/cider>=1", Producer("evaluate", inputs, "evaluate")) == []
    assert complaints("captions/0/cider>=1", Producer("other", {}, "other")) == []


def test_a_decision_about_another_checkpoint_does_not_deploy():
    def complain(checkpoint: object, /, **inputs: object) -> list[str]:
        producers = {"decision": Producers([Producer("gate", inputs, "gate")])}
        if isinstance(checkpoint, Producer):
            producers["checkpoint"] = Producers([checkpoint])
        values = {} if isinstance(checkpoint, Producer) else {"checkpoint": checkpoint}
        return [str(error) for error in check_errors(deploy.STEP, values, producers)]

    address = f"s3://a/manifests/{TUNED}.json"
    for same in ({"checkpoint": TRAINED}, {"reports": evaluation()}, {"checkpoint": "", "reports": evaluation()}, {}):
        assert complain(TRAINED, **same) == []
    for other in ({"checkpoint": EARLIER}, {"reports": evaluation(EARLIER)}, {"checkpoint": address}):
        (said,) = complain(TRAINED, **other)
        assert "decision is about another checkpoint" in said
    assert complain(address, checkpoint=address) == []
    assert complain(address, checkpoint=TRAINED)


@pytest.mark.parametrize("rule", ["textcore/0/mean>=serving-0.1", "pope/0/f1>serving", "mme/0/mme_perception>=serving-10"])
def test_scores_without_a_value_per_item_are_not_compared(rule):
    with pytest.raises(ConfigurationError, match="no values per item"):
        check_rules(rule)
    check_rules(rule.partition(">")[0] + ">=0.1")
