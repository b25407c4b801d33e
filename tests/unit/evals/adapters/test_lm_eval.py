"""Our tasks and our model in lm-evaluation-harness: the same numbers as in this project's harness."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from mm1.errors import ConfigurationError
from mm1.evals.adapters.opening import load_by_name
from mm1.evals.adapters.rounds import HarnessRound, request_from
from mm1.evals.adapters.write_tasks import main as write_main
from mm1.evals.metrics.choices import best_choice
from mm1.evals.models.own import OwnModel
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message, Request
from tests.support.answered_benchmarks import SHOTS, score, write_answered
from tests.support.tiny_mm1 import picture, tiny_mm1

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")


@pytest.fixture(scope="module")
def model():
    return OwnModel(Generator(*tiny_mm1()))


@pytest.fixture(scope="module")
def benchmarks(model, tmp_path_factory):
    return write_answered(model, tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def harness_model(model):
    from mm1.evals.adapters.lm_eval import HarnessModel

    return HarnessModel(model=model)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


def scores_in_harness(harness_model, task) -> dict[str, float]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)  # without its own tasks, thousands of files
    evaluation = lm_eval.simple_evaluate(model=harness_model, tasks=[task], task_manager=manager, bootstrap_iters=0)
    results = evaluation["results"][task.config.task]
    return {key.removesuffix(",none"): value for key, value in results.items() if isinstance(value, float)}


@pytest.mark.parametrize("name", SHOTS)
def test_our_tasks_have_the_same_scores_in_the_harness(model, harness_model, benchmarks, name):
    from mm1.evals.adapters.lm_eval import HarnessTask

    task = HarnessTask(config={"task": f"mm1_{name}", "benchmarks": str(benchmarks), "name": name, "shots": SHOTS[name]})
    expected = score(model, benchmarks, name)
    assert scores_in_harness(harness_model, task) == pytest.approx(expected, abs=1e-6)
    assert 0 < next(iter(expected.values())) < 1


def test_tasks_are_found_by_their_yaml_files(model, harness_model, benchmarks, tmp_path):
    from lm_eval.tasks import TaskManager

    write_main([str(tmp_path), "--benchmarks", str(benchmarks), "--tasks", "vqa@0,4", "--items", "5", "--seed", "1"])
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    assert manager.all_subtasks == ["mm1_vqa_0shot", "mm1_vqa_4shot"]
    task = manager.load(["mm1_vqa_4shot"])["tasks"]["mm1_vqa_4shot"]
    assert len(task.round.trials) == 5 and task.round.planned.shots == 4


@pytest.mark.parametrize(("folder", "task"), [("missing", "vqa"), ("", "no_such_task"), ("", "vqa@x")])
def test_yaml_files_of_unknown_tasks_and_folders_are_not_written(benchmarks, tmp_path, folder, task, capsys):
    with pytest.raises(SystemExit):
        write_main([str(tmp_path / "out"), "--benchmarks", str(benchmarks / folder), "--tasks", task])
    assert "error: " in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_groups_and_python_files_have_yaml_files(benchmarks, tmp_path):
    program = tmp_path / "own.py"
    program.write_text(
        "from dataclasses import replace\nfrom mm1.evals.tasks.questions import vqa\nown = replace(vqa, name='own')\n"
    )
    write_main([str(tmp_path / "out"), "--benchmarks", str(benchmarks), "--tasks", "textcore", "vqav2:val@4", str(program)])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"mm1_piqa_0shot.yaml", "mm1_vqav2_val_4shot.yaml", "mm1_own_0shot.yaml"} <= names


def test_tasks_of_the_harness_have_the_same_scores_with_our_model(model, harness_model, benchmarks):
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    rows = [json.loads(line) for line in (benchmarks / "test/text.jsonl").read_text().splitlines()]
    rows = [row | {"label": row["choices"].index(row["answer"])} for row in rows if "choices" in row]
    config = {
        "task": "choices",
        "output_type": "multiple_choice",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
    }
    scores = scores_in_harness(harness_model, ConfigurableTask(config=config))
    scored = model.score([Request((row["prompt"],)) for row in rows], [[f" {text}" for text in row["choices"]] for row in rows])
    for length, name in (("none", "acc"), ("characters", "acc_norm")):
        pairs = zip(scored, rows, strict=True)
        chosen = [best_choice([each.logprob for each in row], item["choices"], length) for row, item in pairs]
        assert scores[name] == pytest.approx(sum(map(int.__eq__, chosen, [row["label"] for row in rows])) / len(rows), abs=1e-6)


# -- the model class ----------------------------------------------------------------------------------------------------


def instance(kind: str, *arguments: object):
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_images_stand_where_the_prompt_has_their_marks(model, harness_model):
    from PIL import Image

    pictures = [Image.open(BytesIO(picture(seed))) for seed in (1, 2)]
    settings = {"until": ["\n"], "max_gen_toks": 6}
    (text,) = harness_model.generate_until(
        [instance("generate_until", "<image>what<image> is", settings, {"visual": pictures})]
    )
    prompt = (picture(1), "what", picture(2), " is")
    assert text == model.generate([Request(prompt)], max_new_tokens=6, stop=("\n",))[0].text
    assert request_from("what", pictures).prompt[2] == "what"
    with pytest.raises(ConfigurationError, match="1 image marks <image> and 2 images"):
        request_from("<image> what", pictures)


def test_settings_of_each_request_count(model, harness_model):
    requests = [
        instance("generate_until", "the big", {"until": until, "max_gen_toks": length})
        for until, length in (([], 2), ("\n", 5))
    ]
    short, long = harness_model.generate_until(requests)
    assert long.startswith(short) and len(long) > len(short)
    with pytest.raises(ValueError, match="generates greedily"):
        harness_model.generate_until([instance("generate_until", "x", {"do_sample": True, "temperature": 0.7})])


def test_conversations_use_the_template_of_the_model(model, harness_model):
    context = harness_model.apply_chat_template([{"role": "user", "content": "what is this ?"}])
    (text,) = harness_model.generate_until([instance("generate_until", context, {"max_gen_toks": 6})])
    conversation = Conversation((Message("user", ("what is this ?",)),))
    assert text == model.generate([conversation], max_new_tokens=6)[0].text


@pytest.mark.parametrize("words", [2, 900])
def test_whole_texts_are_scored_in_windows(model, harness_model, words):
    import torch

    text = " ".join(["red ring big dax"] * words)
    (value,) = harness_model.loglikelihood_rolling([instance("loglikelihood_rolling", text)])
    tokens = [model.generator.processor.tokenizer.eos_token_id, *model.generator.processor.encode(text)]
    expected, length = 0.0, 512
    for start in range(0, len(tokens) - 1, length):
        # The last window is as long as the others, and scores the remaining tokens only.
        window = tokens[max(0, min(start, len(tokens) - 1 - length)) : start + length + 1]
        remaining = min(length, len(tokens) - 1 - start)
        with torch.inference_mode():
            logits = model.generator.model(input_ids=torch.tensor([window[:-1]])).logits[0]
        logprobs = torch.log_softmax(logits.float(), -1)
        expected += float(logprobs.gather(1, torch.tensor(window[1:])[:, None])[-remaining:].sum())
    assert value == pytest.approx(expected, rel=1e-4)


def test_the_class_is_registered_and_names_what_it_lacks():
    from lm_eval.api.registry import get_model

    import mm1.evals.adapters.lm_eval as adapter

    assert get_model("mm1") is adapter.HarnessModel
    assert get_model("local-completions")  # the harness's own classes are still there
    with pytest.raises(ConfigurationError, match="expected pretrained=FOLDER"):
        adapter.HarnessModel()
    with pytest.raises(ConfigurationError, match="unknown setting 'pretraind'"):
        load_by_name("folder", {"pretraind": "x", "batch_size": 1, "device": "cpu"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "vqa"}, "missing benchmarks"),
        ({"name": "novel", "benchmarks": "here", "shots": 4}, "fixed: expected 8, got 4"),
        ({"name": "unknown", "benchmarks": "here"}, "unknown"),
    ],
)
def test_wrong_tasks_are_refused(benchmarks: Path, fields, message):
    fields = fields | ({"benchmarks": str(benchmarks)} if "benchmarks" in fields else {})
    with pytest.raises(ConfigurationError, match=message):
        HarnessRound.of(fields)
