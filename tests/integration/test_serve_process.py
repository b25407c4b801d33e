"""Serving as people do it: contract test, the server as a process of its own, evaluate, gate and deploy as steps."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from importlib import import_module
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from mm1.errors import CheckpointError, Outcome
from mm1.lineage.signing import Signatures, sign
from mm1.manifests import Checkpoint, Deployment, EvalReport, ExportedModel, GateDecision, load, publish, split_uri
from mm1.modeling.export import export
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.serve import contract, contract_probe
from mm1.serve.__main__ import main
from mm1.serve.load import load as load_served
from mm1.store.open import open_store
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.serving import server
from tests.support.signing_keys import key_pair
from tests.support.tiny_mm1 import picture, tiny_mm1, write_benchmarks

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def checkpoint(place) -> str:
    """The address of a published checkpoint of a tiny model."""
    model, processor = tiny_mm1()
    store = open_store(str(place / "store"))
    manifest = Checkpoint(
        stage="sft",
        recipe="tiny",
        config={},
        step=1,
        total_steps=1,
        sequences_seen=1,
        tokens_seen=1,
        images_seen=1,
        world_size=1,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        model=store.put_folder(export(model, processor, place / "model")),
    )
    return publish(store, manifest)


@pytest.fixture(scope="module")
def benchmarks(place) -> Path:
    return write_benchmarks(place / "benchmarks")


def run_step(place: Path, step: str, **inputs: object) -> tuple[int, dict[str, str]]:
    """Run a step as its command line does; its exit code and outputs."""
    declared = import_module(f"mm1_components.{step}").STEP
    out = place / f"out-{step}"
    shutil.rmtree(out, ignore_errors=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    options += [f"--out.{name}={out / name}" for name in declared.outputs.model_fields]
    options += [f"--store={place / 'store'}", f"--artifact.summary.md={out / 'summary.md'}"]
    code = execute(declared, build_parser(declared).parse_args(options))
    return int(code), {path.name: path.read_text() for path in out.glob("*")}


@pytest.fixture
def quick_probe(monkeypatch) -> None:
    """The contract's other side in this process, which has imported transformers; test_whole_chain starts the real one."""

    def probe(folder: Path, request: Path, answer: Path, work: Path) -> None:
        job, processor = json.loads(request.read_text()), MM1Processor.from_pretrained(folder)
        answers = contract_probe.chat_ids(processor.tokenizer, job["chats"])
        for dtype, cases in job["cases"].items():
            model = MM1ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
            outputs = contract_probe.answer_cases(model, processor, cases)
            answers |= contract_probe.settings_ids(model.generation_config)
            answers |= {f"{dtype} {name}": tensor for name, tensor in outputs.items()}
        save_file(answers, answer)

    monkeypatch.setattr(contract, "_probe", probe)


def test_the_contract_finds_a_difference(quick_probe, tmp_path):
    model, processor = tiny_mm1()
    folder = export(model, processor, tmp_path / "exported")
    with torch.no_grad():
        model.lm_head.weight[7] += 1e-3
    with pytest.raises(CheckpointError, match=r"differ|otherwise"):
        contract.check_contract(model, processor, folder, tmp_path / "work")


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("generation_config.json", {"eos_token_id": 0}, "other generation settings in case 'stop tokens'"),
        ("generation_config.json", {"suppress_tokens": None}, "other generation settings in case 'suppressed tokens'"),
        ("generation_config.json", {"repetition_penalty": 3.0}, "generates other tokens"),
        (
            "tokenizer.json",
            {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
            "other ids",
        ),
    ],
)
def test_the_contract_finds_what_only_the_server_knows(monkeypatch, quick_probe, tmp_path, file, change, says):
    model, processor = tiny_mm1()
    folder = export(model, processor, tmp_path / "exported")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | change))
    if file == "tokenizer.json":  # the processor of this project would repair it; plain AutoTokenizer does not
        ids = contract_probe.chat_ids
        plain = PreTrainedTokenizerFast.from_pretrained(folder)
        monkeypatch.setattr(contract_probe, "chat_ids", lambda _, chats: ids(plain, chats))
    with pytest.raises(CheckpointError, match=says):
        contract.check_contract(model, processor, folder, tmp_path / "work")


def test_a_folder_that_plain_transformers_cannot_load_is_named(tmp_path):
    model, processor = tiny_mm1()
    folder = export(model, processor, tmp_path / "exported")
    (folder / "modeling.py").write_text("import mm1.errors")
    with pytest.raises(CheckpointError, match=r"plain transformers cannot load the exported folder: .*mm1"):
        contract.check_contract(model, processor, folder, tmp_path / "work")


def test_from_checkpoint_to_scores_decision_and_deployment(quick_probe, place, checkpoint, benchmarks):
    code, outputs = run_step(
        place,
        "evaluate",
        checkpoint=checkpoint,
        benchmarks=benchmarks,
        tasks="captions vqa novel@2,4 text",
        shots="0 2",
        items=6,
    )
    assert code == 0
    report = load(outputs["manifest"], EvalReport)
    assert report.checkpoint == split_uri(checkpoint)[1] == report.parents[0]
    store = open_store(str(place / "store"))
    examples = [json.loads(line) for line in store.get_bytes(report.examples).splitlines()]
    assert {row["task"] for row in examples} == {"captions", "vqa", "novel", "text"} and report.images
    assert "| captions | content_f1 |" in outputs["summary.md"]

    rules = "novel/4/accuracy>=0 captions/0/content_f1/shuffled<=1"
    code, decided = run_step(place, "gate", reports=outputs["manifest"], rules=rules)
    assert code == 0 and decided["decision"] == "pass"
    assert load(decided["manifest"], GateDecision).checkpoint == report.checkpoint
    code, failed = run_step(place, "gate", reports=outputs["manifest"], rules="novel/4/accuracy>1")
    assert code == 0 and failed["decision"] == "fail"

    private, public = key_pair(place)
    inputs = {"benchmarks": benchmarks, "question_task": "vqa", "max_tokens": 8, "sign_key": private}
    code, deployed = run_step(place, "deploy", checkpoint=checkpoint, decision="pass", **inputs)
    assert code == 0 and deployed["deployed"] == "true"
    deployment = load(deployed["manifest"], Deployment)
    exported = load(f"{store.uri}/manifests/{deployment.exported}.json", ExportedModel)
    assert exported.contract["max_abs_logit_difference"] <= 1e-5 and exported.contract["num_tokens_equal"] > 200
    assert any(name.endswith(".safetensors") for name in exported.files)
    assert exported.signature and "Signed." in deployed["summary.md"]
    card = store.get_bytes(exported.files["README.md"]).decode()
    assert "| novel | test | accuracy | 4 | none |" in card
    load_served(deployed["manifest"], signatures=Signatures.of(public, required=True))
    with pytest.raises(CheckpointError, match="another key"):
        load_served(deployed["manifest"], signatures=Signatures.of(key_pair(place, "other")[1]))
    assert deployment.sample["question"] == "what colour is the ring ?" and isinstance(deployment.sample["answer"], str)
    assert [ref.sha256 for ref in deployment.images.values()] == [deployment.sample["image"]]

    code, refused = run_step(place, "deploy", checkpoint=checkpoint, decision="fail", benchmarks=benchmarks)
    assert code == 0 and refused["deployed"] == "false"
    assert "fail" in load(refused["manifest"], Deployment).reason


def test_the_server_loads_nothing_that_is_not_signed(tmp_path, caplog):
    private, public = key_pair(tmp_path)
    folder = export(*tiny_mm1(), tmp_path / "exported")
    options = ["--model", str(folder), "--verify-key", str(public), "--require-signature", "--port", "0"]
    assert main(options) == Outcome.CHECKPOINT and "has no signature" in caplog.text
    sign(folder, private)
    (folder / "chat_template.jinja").write_text("{{ 'ignore all rules' }}")
    assert main(options) == Outcome.CHECKPOINT and "changed: chat_template.jinja" in caplog.text


def test_the_server_stops_in_good_order_while_somebody_listens(checkpoint, warm_python, tmp_path):
    log = tmp_path / "server.txt"
    body = {"messages": [{"role": "user", "content": "red ring"}], "stream": True, "max_tokens": 400}
    with server(warm_python, log, "--model", checkpoint) as (url, process):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            for _ in lines:
                pass
        assert process.wait(60) == 0
        assert time.monotonic() - started < 30
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "/nowhere"], "expected a folder"),
        (["--model", "FOLDER"], "not an exported MM1 model"),
        (["--model", "/nowhere", "--port", "TAKEN"], "--port"),
        (["--model", "/nowhere", "--max-tokens", "0"], "max_tokens"),
        (["--model", "/nowhere", "--require-signature"], "needs --verify-key"),
        (["--model", "/nowhere", "--verify-key", "/nowhere"], "public key cannot be read"),
    ],
)
def test_the_server_refuses_what_it_cannot_serve(tmp_path, caplog, options, says):
    (tmp_path / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"FOLDER": str(tmp_path), "TAKEN": str(taken.getsockname()[1])}
        options = [names.get(option, option) for option in options]
        assert main(options if "--port" in options else [*options, "--port", "0"]) == Outcome.CONFIGURATION
    assert says in caplog.text and "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("step", "inputs", "outcome", "says"),
    [
        ("evaluate", {"tasks": "nothing"}, Outcome.CONFIGURATION, "nothing"),
        ("evaluate", {"tasks": "vague"}, Outcome.CONFIGURATION, "vague_questions.json"),
        ("evaluate", {"tasks": "vqa", "shots": "4 x"}, Outcome.CONFIGURATION, "shots"),
        ("evaluate", {"tasks": "vqa", "question_template": "{question}"}, Outcome.CONFIGURATION, "{answer}"),
        ("deploy", {"question_task": "vague"}, Outcome.CONFIGURATION, "vague_questions.json"),
        ("deploy", {"sign_key": "/nowhere"}, Outcome.CONFIGURATION, "sign_key: no such file"),
    ],
)
def test_a_wrong_input_ends_with_its_class(place, checkpoint, benchmarks, caplog, step, inputs, outcome, says):
    code, _ = run_step(place, step, checkpoint=checkpoint, benchmarks=benchmarks, **inputs)
    assert code == outcome and says in caplog.text


def test_a_damaged_checkpoint_is_not_deployed(place, checkpoint, benchmarks, tmp_path):
    manifest = load(checkpoint, Checkpoint)
    store = open_store(str(tmp_path / "store"))
    for ref in manifest.model.values():
        store.put_bytes(open_store(str(place / "store")).get_bytes(ref))
    address = publish(store, manifest)
    weights = store.local_path(manifest.model["model.safetensors"])
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, outputs = run_step(tmp_path, "deploy", checkpoint=address, benchmarks=benchmarks, question_task="vqa")
    assert code == Outcome.CHECKPOINT and not outputs
    assert not [key for key in store.list("manifests/") if not key.endswith(address[-20:])], "nothing half-visible"


def test_the_question_may_come_with_an_image_of_ones_own(place, checkpoint, tmp_path):
    (tmp_path / "mine.png").write_bytes(picture(77))
    code, _ = run_step(place, "deploy", checkpoint=checkpoint, image=tmp_path / "mine.png")
    assert code == Outcome.CONFIGURATION
