"""Values that some step would refuse are refused before anything starts or is sent, in the same words everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hera.workflows import DAG, ExistingVolume, Parameter, Workflow

from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1_components import pretrain
from mm1_components.wrapper.checks import Producer, Producers, check_errors, run_checks
from mm1_components.wrapper.declaration import Step
from mm1_workflows import cli, steps
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.parameters import defaults_of
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import check_braces, check_values

ROOT = Path(__file__).resolve().parents[3]
PRETRAIN = str(ROOT / "workflows/pretrain.py")
MANIFEST = "s3://mm1/store/manifests/" + "a" * 64 + ".json"
WRONG = [
    ("overrides=model.decoder.hidden_size=32", "the decoder comes from init, so it has no effect"),
    ("recipe=mm1_tny", "did you mean 'mm1_tiny'"),
    ("text_recipe=mm1_tiny_sft", "got mm1_tiny_sft of stage sft"),
    ("overrides=train.stepz=20", "did you mean 'steps'"),
    ("overrides=train.steps=many", "train.steps"),
    ("overrides='train.steps=2", "overrides"),
    ("tasks=captionz", "did you mean 'captions'"),
    ("tasks=vqa@x", "expected numbers of demonstrations after @"),
    ("tasks=vqa vqa", "expected different values, got vqa vqa"),
    ("shots=zero", "expected numbers separated by spaces"),
    ("split=tets", "did you mean 'test'"),
    ("weights=captoins=1", "weights: unknown source 'captoins'; did you mean 'captions'?"),
    ("weights=captions", "expected source=share"),
    ("text=", "the source text is not ingested, and the text base is trained on text only: give text=..., or decoder=..."),
    ("weights=captions/=1", "expected a source or source/group, for example captions/cc12m, got 'captions/'"),
    ("weights=captoins/cc12m=1", "weights: unknown source 'captoins'; did you mean 'captions'?"),
    ("weights_by=tokens", "weights_by"),
    ("holdout=1.5", "holdout: expected a share from 0 to 1 or a number of samples"),
    ("holdout=captoins=5", "holdout: unknown source 'captoins'; did you mean 'captions'?"),
    ("holdout=synthetic=5", "holdout: 'synthetic' is not ingested; ingested sources: captions, interleaved, text"),
    ("preset=papr", "did you mean 'paper'"),
    ("thresholds=qualty>=1", "did you mean 'quality'"),
    ("as_of=9999-12-31T23:59:59-14:00", "expected a year from 1970 to 2261"),
    ("as_of=tomorrow", "expected an ISO 8601 time"),
    ("overrides=train.restart_data=true", "train.restart_data=true has no effect without the input resume"),
    ("overrides=schedule.shape=wsd train.steps=20", "and a decay of 2 steps exceed train.steps=20"),
    ("image_size=30", "cannot be divided into the tower's patches of 8 pixels"),
    ("recipe=mm1_3b", "the recipe expects sequence.length=4096"),
    ("sequence_length=5", "parameter sequence_length: expected at least 8, got '5'"),
    ("processes=3", "train.global_batch=16 sequences cannot be split over 3 processes: start 1, 2, 4, 8, 16 of them"),
    ("nodes=3", "train.global_batch=16 sequences cannot be split over"),
    ("overrides=optim.name=adamw train.zero_stage=2 train.expert_parallel=3", "does not divide the"),
    ("text_overrides=optim.name=adamw train.zero_stage=2 train.expert_parallel=2", "the model has no experts: set it to 1"),
    ("image_tokens=5", "data: image_tokens: expected a square number such as 64 or 144, got 5"),
    ("text_overrides=model.decoder.num_kv_heads=2", "num_kv_heads=2 does not divide num_heads=3"),
    ("text_overrides='train.frozen=[\"(\"]'", "train.frozen: '(' is not a regular expression"),
    (
        "text_overrides=model.connector.type=attention_pool model.connector.num_heads=7",
        "does not divide model.decoder.hidden_size=96",
    ),
    ("overrides=optim.lr=NaN", "optim.lr: expected law or a number from 0 to 1e+30, got nan"),
    ("overrides=train.seed=5", "override train.seed has no effect: set the input seed"),
    ("overrides=model={}", "override model={}: the decoder comes from init, so it has no effect"),
    ("overrides=train={}", "train.steps: is required"),
    ('overrides=train.frozen=["x"]', "train.frozen: expected a list, got '[x]'"),
    (f"seed={10**30}", "parameter seed: expected an integer of at most 18 digits"),
    (f"items={10**30}", "parameter items: expected an integer of at most 18 digits"),
    ("vocabulary=100000000", "parameter vocabulary: expected at most 16777216"),
    ("nodes=0", "parameter nodes: expected at least 1, got '0'"),
    ("items=-1", "parameter items: expected at least 1, got '-1'"),
    ("pool=nope", "pool 'nope' does not exist in this profile"),
    ("captions=world:x", "expected world:<seed>"),
    ("weights={{workflow.name}}", "expected a value without '{{'"),
]
WRONG_IN_THE_WHOLE_CHAIN = [
    ("rules=foo/0/accuracy>=0.5", "rules: foo/0/accuracy is not evaluated for the checkpoint to deploy"),
    (
        "rules=captions/3/content_f1>=0.5",
        'captions/3/content_f1 is not evaluated for the checkpoint to deploy; set "captions@0,3" in parameter chat_tasks',
    ),
    ("rules=captions/0/content_f2>=0.5", "unknown metric 'content_f2'; did you mean 'content_f1'"),
    ("rules=text/0/accuracy/shuffled<=0.5", "text/0/accuracy/shuffled is not evaluated"),
    ("rules=vqa/8/accuracy/shuffled<=0.5", "vqa/8/accuracy/shuffled is not evaluated"),
    ("chat_tasks=captions vqa", "rules: vague/4/accuracy is not evaluated"),
    ("chat_tasks=captions vague@0 novel text instruct", "rules: vague/4/accuracy is not evaluated"),
    ("tasks=vqa@1000", "shots: expected at most 512 (the toy world's demonstrations of vqa), got 1000"),
    ("tasks=novel@12", "expected at most 8 (the toy world's demonstrations of novel)"),
    ("tasks=text@4", "expected at most 0 (the toy world's demonstrations of text)"),
    ("shots=0 1000", "expected at most 512"),
]
ONLY_ON_A_CLUSTER = [
    ("captions=/home/me/data", "pods have no access to '/home/me/data'"),
    ("vision=towers/clip", "pods have no access to 'towers/clip'"),
    ("store=/tmp/store", "pods cannot write to '/tmp/store'"),
    ("store=file:///tmp/store", "pods cannot write to"),
    (f"data=file:///tmp/store/manifests/{'a' * 64}.json", "pods have no access to"),
]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("value", "words"), WRONG)
def test_wrong_values_are_refused_alike_here_and_on_a_cluster(
    value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.hera(["submit", PRETRAIN, "-p", value, "--dry-run=client"]) == 80
    assert words in said(capsys)
    here = ["run", PRETRAIN, "-p", value, "--folder", str(tmp_path / "runs"), "--store", str(tmp_path / "store")]
    assert cli.main(here) == 80
    assert words in said(capsys)
    assert not (tmp_path / "runs").exists(), "nothing has started"


@pytest.mark.parametrize(("value", "words"), WRONG_IN_THE_WHOLE_CHAIN)
def test_rules_and_shots_that_cannot_hold(value: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "mm1:full", "-p", value, "--dry-run=client"]) == 80
    assert words in said(capsys)


@pytest.mark.parametrize(
    "value",
    [
        "rules=captions/00/cider>=0.1 vague/4/accuracy/shuffled<=0.4 novel/8/accuracy/shuffled<=0.9",
        "rules=instruct/0/accuracy>=0.5",
        "shots=0 4 512",
    ],
)
def test_rules_and_shots_that_can_hold(value: str) -> None:
    assert cli.main(["submit", "mm1:full", "-p", value, "--dry-run=client"]) == 0


def test_rules_about_tasks_of_a_folder(tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("volumes: [{claim: data, mount_path: /data}]\n")
    values = ["-p", "benchmarks=/data/x", "-p", "chat_tasks=signs@2000 vqa", "-p", "rules=signs/2000/accuracy/shuffled<=0.5"]
    submit = ["submit", "mm1:full", "--profile", str(profile), "--dry-run=client"]
    assert cli.main([*submit, *values]) == 0


def test_only_the_deploy_step_mounts_the_signing_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "site.yaml"
    submit = ["submit", "mm1:full", "--profile", str(profile), "--dry-run=client", "-p", "sign_key=/etc/mm1/sign/mm1.key"]
    profile.write_text("name: site\n")
    assert cli.main(submit) == 80
    assert "sign_key: pods have no access to '/etc/mm1/sign/mm1.key'" in said(capsys)
    profile.write_text("signing_secret: mm1-sign\n")
    assert cli.main(submit) == 0
    templates = load(str(ROOT / "workflows/full.py"), str(profile)).document["spec"]["templates"]
    volumes = {item["name"]: [volume for volume in item.get("volumes") or [] if "secret" in volume] for item in templates}
    (step,) = (name for name, secrets in volumes.items() if secrets)
    assert step == "step-deploy" and volumes[step][0]["secret"]["secretName"] == "mm1-sign"


@pytest.mark.parametrize(("value", "words"), ONLY_ON_A_CLUSTER)
def test_paths_of_this_machine_are_refused_for_pods(value: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, "-p", value, "--dry-run=client"]) == 80
    assert words in said(capsys)


@pytest.mark.parametrize(
    "value", ["captions=s3://data/cc12m", "captions=world:7", f"data={MANIFEST}", "pool=eval-l40s", "tasks=captions@0,4 vqa"]
)
def test_right_values_pass(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, "-p", value, "--dry-run=client"]) == 0


def complaint(path: str, **values: str) -> str:
    workflow = read_workflow(load(str(ROOT / path)).document)
    try:
        check_values(workflow, defaults_of(workflow) | values, on_cluster=False)
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", ["workflows/pretrain.py", "workflows/full.py"])
@pytest.mark.parametrize("weights", ["mm1", "mm1.5"])
def test_any_sources_can_be_left_out_and_the_text_base_needs_text_or_a_decoder(path: str, weights: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    sources = ("captions", "interleaved", "text")
    for number in range(1, 8):
        left_out = {name: "" for bit, name in enumerate(sources) if not number >> bit & 1}
        message = complaint(path, weights=weights, **left_out)
        if "text" in left_out:
            assert "task text-base: data: the source text is not ingested" in message
            assert "weights" not in message
        else:
            assert not message
        assert not complaint(path, weights=weights, decoder=str(tmp_path), **left_out)
    nothing = dict.fromkeys(sources, "")
    assert "nothing to ingest" in complaint("workflows/pretrain.py", **nothing)
    message = complaint("workflows/full.py", weights=weights, decoder=str(tmp_path), **nothing)
    assert message == (
        f"task mix: weights: {weights} mixes captions, interleaved, text, but the ingested sources are instructions: "
        "set weights of those, for example instructions=1"
    )


def test_explicit_weights_need_their_sources() -> None:
    message = complaint("workflows/pretrain.py", weights="captions=1,interleaved=1", interleaved="")
    assert (
        "task mix: weights: 'interleaved' has a weight but is not ingested: give interleaved=, or weights without it" in message
    )
    assert "'instructions' has a weight but is not ingested" in complaint("workflows/full.py", instructions="")
    assert "sources: captions, interleaved, text" in complaint("workflows/full.py", instructions="")
    assert not complaint("workflows/sft.py", checkpoint=MANIFEST)


def test_a_path_that_is_not_there_is_refused_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path / "runs"), "--store", str(tmp_path / "store")]
    assert cli.main(["run", PRETRAIN, "-p", f"vision={tmp_path}/nothing", *folder]) == 80
    assert "vision: no such file or folder" in said(capsys)
    (tmp_path / "empty").mkdir()
    assert cli.main(["run", PRETRAIN, "-p", f"vision={tmp_path}/empty", *folder]) == 80
    assert "has no config.json" in said(capsys)
    assert cli.main(["run", PRETRAIN, "-p", f"tokenizer={tmp_path}/empty", *folder]) == 80
    assert "tokenizer.json" in said(capsys)


@pytest.mark.parametrize("layout", ["clip", "open_clip", "composite"])
def test_a_tower_that_does_not_fit_the_images_names_its_own_size(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"patch_size": 14, "image_size": 224}
    name, tree = {
        "clip": ("config.json", sizes),
        "open_clip": ("open_clip_config.json", {"model_cfg": {"vision_cfg": sizes}}),
        "composite": ("config.json", {"vision_config": sizes}),
    }[layout]
    (tmp_path / name).write_text(json.dumps(tree))
    arguments = ["run", PRETRAIN, "-p", f"vision={tmp_path}", "--folder", str(tmp_path / "runs")]
    assert cli.main(arguments) == 80
    assert "image_size=224, the tower's own size" in said(capsys)


@pytest.mark.parametrize(
    "layout", [[], ["-p", "processes=2"], ["-p", "nodes=4", "-p", "processes=4"], ["-p", "nodes=2", "-p", "pool=train-h100"]]
)
def test_processes_that_divide_the_batch_pass(layout: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, *layout, "--dry-run=client"]) == 0


def test_the_ranks_of_a_node_are_the_gpus_of_its_pool(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, "-p", "nodes=4", "--dry-run=client"]) == 80
    assert "cannot be split over 32 processes" in said(capsys)


def test_a_decoder_that_is_published_without_training_takes_images_of_any_size_and_no_processes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    workflow = read_workflow(load(PRETRAIN).document)
    sizes = {"sequence_length": "4096", "max_images": "16", "image_tokens": "144", "image_size": "378"}
    values = defaults_of(workflow) | sizes | {"recipe": "mm1_3b", "processes": "32"}
    check_values(workflow, values | {"decoder": str(tmp_path)}, on_cluster=False)
    with pytest.raises(ConfigurationError) as caught:
        check_values(workflow, values, on_cluster=False)
    assert "task text-base: data: images of 378 pixels cannot be divided" in str(caught.value)
    assert "task text-base: train.global_batch=16 sequences cannot be split over 32 processes" in str(caught.value)


def mounted(path: str, *, claim: bool) -> Document:
    with (
        Workflow(generate_name="x-", entrypoint="main", arguments=[Parameter(name="captions", value=path)]) as w,
        DAG(name="main"),
    ):
        steps.ingest(captions=w.get_parameter("captions"))
    if claim:
        w.build()
        template = next(template for template in w.templates if template.name == "step-ingest")
        template.volumes = [*template.volumes, ExistingVolume(name="data", claim_name="data", mount_path="/data")]
    document: Document = w.to_dict()
    return document


@pytest.mark.parametrize(
    ("path", "claim", "seen"),
    [
        ("/data/cc12m", True, True),
        ("/data", True, True),
        ("/database", True, False),
        ("/data/cc12m", False, False),
        ("/tmp/x", True, False),
    ],
)
def test_a_path_below_a_mounted_claim_is_seen_by_pods(path: str, claim: bool, seen: bool) -> None:
    workflow = read_workflow(mounted(path, claim=claim))
    if seen:
        check_values(workflow, defaults_of(workflow), on_cluster=True)
        return
    with pytest.raises(ConfigurationError, match="pods have no access to"):
        check_values(workflow, defaults_of(workflow), on_cluster=True)


def test_literals_are_checked_when_a_file_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from hera.workflows import DAG, Workflow\nfrom mm1_workflows import steps\n"
        "with Workflow(generate_name='mine-', entrypoint='main') as w:\n"
        "    with DAG(name='main'):\n        steps.ingest(text='world:0', preset='papr')\n"
    )
    assert cli.main(["compile", str(file), "--engine", "argo", "--to", str(tmp_path / "out")]) == 80
    assert "task ingest: preset: unknown filter preset 'papr'; did you mean 'paper'" in said(capsys)
    assert cli.main(["lint", str(file)]) == 80
    assert "P022 task ingest" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["argument", "default"])
def test_the_choices_of_a_parameter_are_checked(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, default = tmp_path / "mine.py", "grene" if place == "default" else "red"
    file.write_text(
        "from hera.workflows import DAG, Parameter, Workflow\nfrom mm1_workflows import steps\n"
        f"colour = Parameter(name='colour', value='{default}', enum=['red', 'green'])\n"
        "with Workflow(generate_name='mine-', entrypoint='main', arguments=[colour]) as w:\n"
        "    with DAG(name='main'):\n        steps.report(title='{{workflow.parameters.colour}}')\n"
    )
    given = [] if place == "default" else ["-p", "colour=grene"]
    for start in (["submit", str(file), "--dry-run=client"], ["run", str(file), "--folder", str(tmp_path / "runs")]):
        assert cli.main([*start, *given]) == 80
        assert "parameter colour: unknown value 'grene'; did you mean 'green'?" in said(capsys)
        assert cli.main([*start, "-p", "colour=blue"]) == 80
        assert "known: green, red" in said(capsys)
    assert cli.main(["submit", str(file), "--dry-run=client", "-p", "colour=green"]) == 0
    assert cli.main(["lint", str(file)]) == (80 if place == "default" else 0)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ('shots="{{item}}", with_items=["0", "x y"]', "task evaluate: shots: expected numbers separated by spaces"),
        ('shots="0 {{item}}", with_items=["4", "²"]', "task evaluate: shots: expected numbers"),
        ("tasks='{{item}}', with_param='[\"captions\",\"captns\"]'", "did you mean 'captions'"),
        ('benchmarks="{{item}}", with_items=["world:0", ""]', "benchmarks: expected path or world:<seed>, got ''"),
        ('items="{{item}}", with_items=["4", "0"]', "items: expected at least 1, got '0'"),
        ('tasks="{{item}}", with_param="{{workflow.parameters.names}}"', "did you mean 'captions'"),
        ('tasks="{{item}}", with_items=["captions", "vqa@4"]', ""),
        ('shots="{{item}}", with_items=[]', ""),
    ],
)
def test_each_item_of_a_loop_is_checked(loop: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from hera.workflows import DAG, Parameter, Workflow\nfrom mm1_workflows import steps\n"
        "names = Parameter(name='names', value='[\"vqa\", \"captns\"]')\n"
        "with Workflow(generate_name='mine-', entrypoint='main', arguments=[names]) as w:\n"
        f"    with DAG(name='main'):\n        steps.evaluate(checkpoint='{MANIFEST}', {loop})\n"
    )
    assert cli.main(["submit", str(file), "--dry-run=client"]) == (80 if words else 0)
    assert words in said(capsys)
    assert cli.main(["lint", str(file)]) == (80 if words else 0)
    assert words in " ".join(capsys.readouterr().out.split())
    if "workflow.parameters" in loop:
        assert cli.main(["submit", str(file), "--dry-run=client", "-p", 'names=["vqa"]']) == 0
        assert cli.main(["submit", str(file), "--dry-run=client", "-p", "names=vqa"]) == 80
        assert "expected a JSON list of strings to loop over, got 'vqa'" in said(capsys)


def test_one_complaint_about_several_tasks_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.hera(["submit", PRETRAIN, "-p", "thresholds=x", "--dry-run=client"]) == 80
    text = said(capsys)
    assert "task text-mix, task mix: thresholds" in text and text.count("thresholds:") == 1


def test_what_follows_from_a_complaint_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "mm1:full", "-p", "tasks=captionz", "--dry-run=client"]) == 80
    text = said(capsys)
    assert "task evaluate-base: unknown task 'captionz'" in text and "gate" not in text


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("full", {"chat_tasks": "instruct"}, 'captions/0/content_f1 .*; add "captions@0" to parameter chat_tasks'),
        ("full", {"rules": "vqa/8/accuracy>=0"}, 'vqa/8/accuracy .*; add "vqa@8" to parameter chat_tasks'),
        ("full", {"rules": "captions/8/cider>=0"}, 'captions/8/cider .*; set "captions@0,8" in parameter chat_tasks'),
        ("deploy", {"rules": "captions/0/cider>=serving-1 instruct/0/accuracy>=0"}, 'add "captions@0" to parameter tasks'),
        ("deploy", {"rules": "instruct/0/accuracy>=serving-0.1"}, "set serving, or add a floor"),
        ("evaluate_model", {"tasks": "text", "shots": "0"}, 'captions/0/content_f1 .*; add "captions@0" to parameter tasks'),
    ],
)
def test_rules_about_what_the_deployed_checkpoint_is_not_scored_on_are_refused_before_a_run(file, values, said) -> None:
    workflow = read_workflow(load(str(ROOT / f"workflows/{file}.py")).document)
    known = defaults_of(workflow) | ({} if file == "full" else {"checkpoint": MANIFEST})
    check_values(workflow, known, on_cluster=True)
    with pytest.raises(ConfigurationError, match=said):
        check_values(workflow, known | values, on_cluster=True)


def test_what_is_wrong_in_one_stage_is_not_said_of_the_next() -> None:
    workflow = read_workflow(load(str(ROOT / "workflows/full.py")).document)
    with pytest.raises(ConfigurationError, match=r"^task pretrain: optim\.lr: .* got -1$"):
        check_values(workflow, defaults_of(workflow) | {"overrides": "optim.lr=-1"}, on_cluster=True)


# -- the checks of a step ---------------------------------------------------------------------------------------------


def check_both(a: int, b: int) -> None:
    if a > b:
        raise ConfigurationError(f"a={a} is above b={b}")


def check_maker(a: int, data: Producer) -> None:
    if data.known("size") and data.inputs["size"] < a:
        raise ConfigurationError(f"{data.step} makes {data.inputs['size']}")


STEP: Step = Step(
    name="x",
    inputs=pretrain.Inputs,
    outputs=pretrain.STEP.outputs,
    run=lambda *_: None,
    summary="",
    checks=(check_both, check_maker),
)


def test_a_check_runs_when_all_its_inputs_are_known() -> None:
    assert [str(error) for error in check_errors(STEP, {"a": 2, "b": 1})] == ["a=2 is above b=1"]
    assert list(check_errors(STEP, {"a": 2})) == []
    assert [str(error) for error in check_errors(STEP, {"a": 2}, {"data": Producers([Producer("mix", {"size": 1})])})] == [
        "mix makes 1"
    ]
    assert list(check_errors(STEP, {"a": 2}, {"data": Producers([Producer("mix")])})) == []
    with pytest.raises(ConfigurationError, match="a=2"):
        run_checks(STEP, {"a": 2, "b": 1, "data": MANIFEST})


STEPS = {"sft": "sft", "vision": "pretrain_vision"}
"""Stage -> the step that trains its recipes, if it is not pretrain."""


def train_inputs(**values: object) -> dict[str, object]:
    return {name: field.default for name, field in pretrain.Inputs.model_fields.items() if not field.is_required()} | values


def mix_of(**sizes: int | str) -> Producer:
    defaults = {"sequence_length": 128, "max_images": 24, "image_tokens": 4, "image_size": 32, "weights": "mm1"}
    return Producer("data_mix", {**defaults, "image_layout": "single", **sizes})


@pytest.mark.parametrize(
    ("recipe_before", "sizes", "words"),
    [
        ("mm1_tiny", {"image_size": 64}, ""),
        ("mm1_tiny", {"image_size": 60}, "image_size=32, the tower's own size, or another multiple of 8"),
        ("mm1_tiny", {"image_size": 64, "image_tokens": 16}, "those of init take 4: build the mixture with image_tokens=4"),
        ("mm1_tiny_lm", {"image_size": 64, "image_tokens": 16}, ""),
        ("mm1_tiny_clip", {"image_size": 64, "image_tokens": 16}, ""),
        ("mm1_tiny_clip", {"image_size": 60}, "image_size=32, the tower's own size, or another multiple of 8"),
    ],
)
def test_a_phase_at_another_resolution_fits_the_model_before(recipe_before: str, sizes: dict[str, int], words: str) -> None:
    base = Producer("pretrain", train_inputs(recipe="mm1_tiny_lm", data=mix_of()))
    step = STEPS.get(registry.get(recipe_before).stage, "pretrain")
    before = Producer(step, train_inputs(recipe=recipe_before, data=mix_of(), init=base))
    values = train_inputs(recipe="mm1_tiny")
    del values["init"]  # another task produces it
    producers = {"init": Producers([before]), "data": Producers([mix_of(**sizes)])}
    errors = [str(error) for error in check_errors(pretrain.STEP, values, producers)]
    assert len(errors) == bool(words) and words in " ".join(errors)


@pytest.mark.parametrize(("recipe", "refused"), [("mm1_tiny_clip", True), ("mm1_tiny_aim", False)])
def test_pairs_of_whole_images_and_captions_are_not_made_of_tiles(recipe: str, refused: bool) -> None:
    producers = {"data": Producers([mix_of(image_layout="static")])}
    errors = [
        str(error) for error in check_errors(steps.declaration("pretrain_vision"), train_inputs(recipe=recipe), producers)
    ]
    assert len(errors) == refused and all("model.clip compares whole images" in error for error in errors)


def test_a_run_that_continues_another_one_needs_neither_init_nor_folders() -> None:
    values = train_inputs(recipe="mm1_tiny", resume=MANIFEST, store="s3://mm1/store")
    assert list(check_errors(pretrain.STEP, values)) == []
    errors = check_errors(pretrain.STEP, {**values, "vision": "/models/clip", "store": "s3://mm1/other"}, runs_here=False)
    assert [str(error) for error in errors] == [
        "vision: all parts come from the checkpoint to resume: leave vision empty",
        "resume: the checkpoint is in s3://mm1/store, but the run uses s3://mm1/other: set --store s3://mm1/store "
        "(with mm1 submit: -p store=s3://mm1/store)",
    ]


@pytest.mark.parametrize("recipe", registry.names())
def test_every_recipe_passes_the_checks_of_its_step(recipe: str) -> None:
    stage = registry.get(recipe).stage
    step = steps.declaration(STEPS.get(stage, "pretrain"))
    assert list(check_errors(step, {"recipe": recipe, "overrides": "", "seed": 0})) == []


def test_braces_are_refused_and_named() -> None:
    check_braces({"question": "{question} {answer} ."})
    with pytest.raises(ConfigurationError, match="parameter question"):
        check_braces({"question": "what is {{item}}"})
