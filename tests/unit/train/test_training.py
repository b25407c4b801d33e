"""The trainer in one process: steps, states, learning."""

import io
import json
import signal
from collections import defaultdict

import pyarrow.parquet as pq
import pytest
import torch
from torch.distributed import distributed_c10d
from transformers import Qwen3Config, Qwen3ForCausalLM

from mm1.checkpoint.read import load_model
from mm1.checkpoint.resume import skipped_batches
from mm1.data.load.loader import MixtureLoader
from mm1.errors import CheckpointError, ConfigurationError, DivergedError, Outcome, Preempted
from mm1.manifests import Checkpoint, load, load_digest
from mm1.train import build as build_module
from mm1.train import run_loader
from mm1.train.batch_plan import check_experts
from mm1.train.build import build_run
from mm1.train.callback import Callback
from mm1.train.config import TrainJob
from mm1.train.import_decoder import publish_imported
from mm1.train.model_origin import settle_parts
from tests.support.tiny_runs import job_of, small_run


def build(config, mixture, tmp_path, key="work"):
    store, data, _ = mixture
    return build_run(job_of(config, store, data, tmp_path / key, key=f"{tmp_path.name}-{key}"), 0, 1)


def weights_of(run):
    """All weights, whole, whatever the engine has made of them."""
    return run.engine.weights() or {
        name: parameter.detach().clone() for name, parameter in run.checkpoints.model.named_parameters()
    }


def losses_of(checkpoint, store):
    return pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).column("loss").to_pylist()


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("mm1_tiny", ()),
        ("mm1_tiny_moe", ()),
        ("mm1_tiny", ("train.zero_stage=1", "optim.clip=0")),
        ("mm1_tiny", ("train.zero_stage=2", "optim.clip=0")),
        ("mm1_tiny_moe", ("train.zero_stage=1", "optim.clip=0")),
        ("mm1_tiny", ("optim.name=adamw", "optim.lr=law")),
        ("mm1_tiny", ("optim.name=adamw", "train.zero_stage=2", "train.dtype=bfloat16")),
        ("mm1_tiny", ("train.gradient_checkpointing=true",)),
        ("mm1_tiny", ("train.dtype=bfloat16",)),
        ("mm1_tiny_moe", ("optim.name=adamw", "train.zero_stage=3")),
        ("mm1_tiny", ("optim.name=adamw", "train.zero_stage=3", "train.dtype=bfloat16", "train.offload=optimizer")),
        ("mm1_tiny_moe", ("optim.name=adafactor",)),
        ("mm1_tiny", ("optim.name=adafactor", "train.dtype=bfloat16")),
        ("mm1_tiny_moe", ("optim.name=adafactor", "train.zero_stage=2", "train.dtype=bfloat16")),
        ("mm1_tiny", ("optim.name=adafactor", "train.zero_stage=3", "train.offload=optimizer")),
    ],
)
def test_every_trainable_tensor_changes_in_a_step(alone, mixture, tmp_path, recipe, overrides):
    # A step with images, so that the tower has a gradient.
    run = build(small_run(recipe, "train.micro_batch=4", *overrides), mixture, tmp_path)
    before = weights_of(run)
    while True:
        batch = next(run.loop.batches)
        if "pixel_values" in batch:
            break
    for _ in range(2):
        run.loop.step([dict(batch)], 1.0)
    same = [name for name, parameter in weights_of(run).items() if torch.equal(parameter, before[name])]
    assert same == []


def test_frozen_parts_stay_and_the_text_stage_trains_the_language_model_only(alone, mixture, tmp_path):
    run = build(small_run("mm1_tiny_lm"), mixture, tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in run.checkpoints.model.named_parameters()}
    run.loop.step([next(run.loop.batches), next(run.loop.batches)], 1.0)
    changed = {name for name, parameter in run.checkpoints.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if not name.startswith(("model.vision_tower.", "model.connector."))}


@pytest.mark.parametrize("recipe", ["mm1_tiny", "mm1_tiny_moe"])
def test_a_resumed_run_ends_in_the_same_checkpoint(alone, mixture, tmp_path, capsys, recipe):
    store = mixture[0]
    config = small_run(recipe, "train.steps=6")
    whole = build(config, mixture, tmp_path, "whole").go()
    first = build(config, mixture, tmp_path, "cut")
    first.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted, match="after step 1 of 6"):
        first.go()
    assert first.checkpoints.saved.step == 1
    second = build(config, mixture, tmp_path, "cut")
    assert second.progress.step == 1
    capsys.readouterr()
    resumed = second.go()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"mm1": "progress"')]
    saved = [line["checkpoint"]["step"] for line in lines]
    assert (
        saved[0] == 1 and saved == sorted(saved) and all(line["step"] > step for line, step in zip(lines, saved, strict=True))
    )
    assert second.checkpoints.saved.step == 6
    assert resumed.manifest == whole.manifest
    assert resumed.resumed_from == 1
    checkpoint = load(whole.manifest, Checkpoint)
    assert (checkpoint.step, checkpoint.sequences_seen, checkpoint.trainer) == (6, 24, {})
    assert len(losses_of(checkpoint, store)) == 6
    done = build(config, mixture, tmp_path, "cut")
    assert isinstance(done, Checkpoint)


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.zero_stage=1",),
        ("train.zero_stage=1", "train.dtype=bfloat16"),
        ("train.zero_stage=2", "train.dtype=bfloat16"),
        ("train.zero_stage=0", "optim.name=adafactor", "optim.first_moment=0.9"),
        ("train.zero_stage=1", "optim.name=adafactor", "train.dtype=bfloat16"),
        ("train.zero_stage=2", "optim.name=adafactor", "optim.parameter_scale=true"),
        ("train.zero_stage=3", "optim.name=adafactor", "optim.first_moment=0.9"),
    ],
)
def test_zero_states_resume_exactly_too(alone, mixture, tmp_path, overrides):
    config = small_run("mm1_tiny", "train.steps=4", "optim.name=adamw", *overrides)
    whole = build(config, mixture, tmp_path, "whole").go()
    first = build(config, mixture, tmp_path, "cut")
    first.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        first.go()
    assert build(config, mixture, tmp_path, "cut").go().manifest == whole.manifest


@pytest.mark.parametrize("overrides", [(), ("train.gradient_checkpointing=true",), ("train.zero_stage=2",)])
def test_a_decoder_with_dropout_resumes_exactly(alone, mixture, tmp_path, monkeypatch, overrides):
    original = build_module.build_trained_model

    def with_dropout(start):
        model, processor = original(start)
        for layer in model.model.language_model.layers:
            layer.self_attn.attention_dropout = 0.3
        return model, processor

    config = small_run("mm1_tiny", "train.steps=4", "optim.name=adamw", *overrides)
    dry = build(config, mixture, tmp_path, "dry").go()
    monkeypatch.setattr(build_module, "build_trained_model", with_dropout)
    whole = build(config, mixture, tmp_path, "whole").go()
    first = build(config, mixture, tmp_path, "cut")
    first.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        first.go()
    torch.manual_seed(67280421310721)  # that of a new process
    assert build(config, mixture, tmp_path, "cut").go().manifest == whole.manifest
    assert dry.manifest != whole.manifest


def test_a_spike_is_skipped_shown_and_remembered(alone, mixture, tmp_path, monkeypatch):
    """All labels of step 5 are the same token; a run that resumes after it decides as the one that was not stopped."""

    class Monotonous(MixtureLoader):
        def __iter__(self):
            first = self.state_dict()["sequence"] // self.global_batch
            for count, batch in enumerate(super().__iter__()):
                if first + count // 2 == 4:
                    batch["labels"] = batch["labels"].where(batch["labels"] == -100, 7)
                yield batch

    monkeypatch.setattr(run_loader, "MixtureLoader", Monotonous)
    band = ("optim.spike_window=4", "optim.spike_sigmas=2", "optim.lr=1e-4", "optim.name=adamw")
    config = small_run("mm1_tiny", "train.steps=7", "train.checkpoint_every=6", *band)
    rows = {}
    for key in ("whole", "cut"):
        run = build(config, mixture, tmp_path, key)
        if key == "cut":
            run.loop.callbacks.insert(0, StopAfter(5, run.loop.callbacks[-1]))
            with pytest.raises(Preempted):
                run.go()
            run = build(config, mixture, tmp_path, key)
            assert run.progress.spikes == 1
        result = run.go()
        rows[key] = pq.read_table(io.BytesIO(mixture[0].get_bytes(load(result.manifest, Checkpoint).history))).to_pylist()
    assert [row["applied"] for row in rows["whole"]][:5] == [1, 1, 1, 1, 0]
    assert rows["cut"] == rows["whole"]
    assert result.facts["spikes"] == sum(not row["applied"] for row in rows["whole"])


def test_offloading_and_zero_make_no_difference(alone, mixture, tmp_path):
    ends = []
    for key, overrides in {
        "plain": (),
        "offload": ("train.zero_stage=2", "train.offload=optimizer"),
        "spread": ("train.zero_stage=3", "train.offload=optimizer", "train.gradient_checkpointing=true"),
    }.items():
        config = small_run("mm1_tiny", "optim.name=adamw", "optim.lr=1e-3", "train.steps=4", *overrides)
        ends.append(load(build(config, mixture, tmp_path, key).go().manifest, Checkpoint))
    first, *others = (losses_of(checkpoint, mixture[0]) for checkpoint in ends)
    for other in others:
        assert other == pytest.approx(first, rel=1e-5)
    first, *others = (load_model(mixture[0], checkpoint, tmp_path / str(number))[0] for number, checkpoint in enumerate(ends))
    for other in others:
        for name, parameter in other.named_parameters():
            torch.testing.assert_close(parameter, first.get_parameter(name), rtol=1e-4, atol=1e-4)


def test_experts_that_cannot_be_shared_are_refused(alone, mixture, tmp_path):
    shared = ("optim.name=adamw", "train.zero_stage=1", "train.expert_parallel=2")
    with pytest.raises(ConfigurationError, match="expert_parallel=2 does not divide the 1 processes"):
        build(small_run("mm1_tiny_moe", *shared), mixture, tmp_path)
    for num_experts, says in ((0, "the model has no experts: set it to 1"), (3, "does not divide the 3 experts")):
        with pytest.raises(ConfigurationError, match=says):
            check_experts(2, num_experts)
    check_experts(1, 4, "mixtral")
    with pytest.raises(ConfigurationError, match="only share the experts of qwen3_moe, but the decoder is mixtral"):
        check_experts(2, 4, "mixtral")


def test_bfloat16_rounds_weights_but_no_positions(alone, mixture, tmp_path):
    config = small_run("mm1_tiny", "optim.name=adamw", "train.zero_stage=2", "train.dtype=bfloat16")
    run = build(config, mixture, tmp_path)
    rotary = run.checkpoints.model.model.language_model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32
    assert not torch.equal(rotary, rotary.bfloat16().float())
    assert {parameter.dtype for parameter in run.checkpoints.model.parameters()} == {torch.bfloat16}
    assert {piece.tensor.dtype for piece in run.engine.state().pieces if piece.key == "master"} == {torch.float32}


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (1, 3)])
def test_float32_masters_outlive_a_change_of_stage(alone, mixture, tmp_path, before, after):
    """At stage 0 the masters are the model's weights, above they lie beside it; nothing may be rounded on the way."""
    shape = ("optim.name=adamw", "train.steps=3", "train.dtype=bfloat16", "train.micro_batch=4")
    first = build(small_run("mm1_tiny", *shape, f"train.zero_stage={before}"), mixture, tmp_path, "moved")
    first.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        first.go()
    second = build(small_run("mm1_tiny", *shape, f"train.zero_stage={after}"), mixture, tmp_path, "moved")
    assert second.progress.step == 1
    assert masters_of(second.engine) == masters_of(first.engine)


def masters_of(engine):
    """Float32 weights of each parameter, as bytes."""
    found = defaultdict(list)
    for slot in engine._slots().all:
        start = slot.start
        for piece in slot.pieces:
            values = slot.holder.detach().reshape(-1)[start : start + piece.numel]
            assert values.dtype == torch.float32
            found[piece.name].append((piece.offset, values.numpy().tobytes()))
            start += piece.numel
    return {name: b"".join(part for _, part in sorted(parts)) for name, parts in found.items()}


def test_a_schedule_in_tokens_ends_the_run(alone, mixture, tmp_path):
    config = small_run("mm1_tiny", "schedule.unit=tokens", "schedule.warmup_tokens=300", "schedule.total_tokens=1200")
    result = build(config, mixture, tmp_path).go()
    checkpoint = load(result.manifest, Checkpoint)
    rows = pq.read_table(io.BytesIO(mixture[0].get_bytes(checkpoint.history))).to_pylist()
    assert 1 < checkpoint.step < 8
    assert checkpoint.tokens_seen >= 1200 > checkpoint.tokens_seen - rows[-1]["tokens"]
    assert rows[-1]["lr"] < max(row["lr"] for row in rows)


class StopAfter(Callback):
    """Asks a run to stop after a step, as SIGTERM would."""

    def __init__(self, step, preemption):
        self.step, self.preemption = step, preemption

    def on_step(self, progress, result, rate_factor):
        if progress.step == self.step:
            self.preemption.signal = signal.SIGTERM


def test_one_damaged_byte_costs_the_steps_after_the_checkpoint_before(alone, mixture, tmp_path, caplog):
    store = mixture[0]
    config = small_run("mm1_tiny", "train.steps=6", "train.checkpoint_every=2")
    whole = build(config, mixture, tmp_path, "whole").go()
    first = build(config, mixture, tmp_path, "cut")
    first.loop.callbacks.insert(0, StopAfter(5, first.loop.callbacks[-1]))
    with pytest.raises(Preempted):
        first.go()
    key = f"resume/{tmp_path.name}-cut.json"
    saved = [load_digest(store, digest) for digest in store.read_json(key)["checkpoints"]]
    assert [checkpoint.step for checkpoint in saved] == [5, 4]

    def damage(checkpoint):
        path = store.local_path(checkpoint.trainer["rank-00000-of-00001.safetensors"])
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    damage(saved[0])
    second = build(config, mixture, tmp_path, "cut")
    assert "trying the previous one" in caplog.text
    assert second.progress.step == 4
    damage(saved[1])
    with pytest.raises(CheckpointError, match="all of the last checkpoints are damaged") as refused:
        build(config, mixture, tmp_path, "cut")
    assert refused.value.outcome is Outcome.CHECKPOINT
    assert second.go().manifest == whole.manifest


def test_accumulation_makes_no_difference(alone, mixture, tmp_path):
    results = []
    for micro_batch in (4, 1):
        run = build(
            small_run("mm1_tiny", f"train.micro_batch={micro_batch}", "train.steps=3"), mixture, tmp_path, f"m{micro_batch}"
        )
        results.append(run.go())
    first, second = (losses_of(load(result.manifest, Checkpoint), mixture[0]) for result in results)
    assert first == pytest.approx(second, rel=1e-5)


def test_the_history_tells_losses_by_source_and_the_router(alone, mixture, tmp_path):
    store = mixture[0]
    result = build(small_run("mm1_tiny_moe", "train.steps=5"), mixture, tmp_path).go()
    rows = pq.read_table(io.BytesIO(store.get_bytes(load(result.manifest, Checkpoint).history))).to_pylist()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        sources = [row[name] for name in row if name.startswith("loss/") and row[name] is not None]
        assert min(sources) - 1e-9 <= row["loss"] <= max(sources) + 1e-9
        assert 1 <= row["router/load_max"] <= 4
        assert 0 < row["router/entropy"] <= 1
        assert row["router/dropped"] == 0
    assert set(result.losses) <= {"all", "captions", "interleaved", "text"}


@pytest.mark.parametrize("overrides", [(), ("train.zero_stage=3", "optim.name=adamw")])
def test_every_process_group_has_the_time_limit_of_collectives(alone, mixture, tmp_path, overrides):
    """Those that DeepSpeed creates too, also while it trains."""
    config = small_run("mm1_tiny_moe", "train.steps=2", "train.collective_timeout_s=77", *overrides)
    build(config, mixture, tmp_path, f"limits-{len(overrides)}").go()
    backends = [group._get_backend(torch.device("cpu")) for group in distributed_c10d._world.pg_map]
    assert len(backends) > 1
    assert {backend.options._timeout.total_seconds() for backend in backends} == {77}


def poison(monkeypatch, *numbers):
    """Let pixels or labels of some global batches (2 micro-batches each) be such that the loss is not a number."""

    class Poisoned(MixtureLoader):
        def __iter__(self):
            first = self.state_dict()["sequence"] // self.global_batch
            for count, batch in enumerate(super().__iter__()):
                if first + count // 2 in numbers and "pixel_values" in batch:
                    batch["pixel_values"] = batch["pixel_values"].permute(0, 3, 1, 2) * float("nan")
                yield batch

    monkeypatch.setattr(run_loader, "MixtureLoader", Poisoned)


def test_a_run_that_diverges_goes_back_and_leaves_the_batch_out(alone, mixture, tmp_path, monkeypatch):
    store, data, _ = mixture
    config = small_run("mm1_tiny", "train.steps=7", "train.checkpoint_every=2")
    poison(monkeypatch, 4)
    job = job_of(config, store, data, tmp_path / "job", key=f"{tmp_path.name}-once")
    run = build_run(job, 0, 1)
    with pytest.raises(DivergedError, match="start again to resume from the last checkpoint and skip global batch 4"):
        run.go()
    assert skipped_batches(store, job.key) == [4]
    result = build_run(job, 0, 1).go()
    checkpoint = load(result.manifest, Checkpoint)
    assert (checkpoint.step, checkpoint.skipped, result.resumed_from) == (7, (4,), 4)
    whole = build(small_run("mm1_tiny", "train.steps=8"), mixture, tmp_path, "whole")
    tokens = []
    while len(tokens) < 8:
        tokens.append(sum(int((next(whole.loop.batches)["document_ids"] != 0).sum()) for _ in range(2)))
    rows = pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).to_pylist()
    assert [row["tokens"] for row in rows] == tokens[:4] + tokens[5:]


def test_a_run_that_diverges_again_stops(alone, mixture, tmp_path, monkeypatch):
    store, data, _ = mixture
    poison(monkeypatch, 1, 3)
    job = job_of(small_run("mm1_tiny"), store, data, tmp_path / "job", key=f"{tmp_path.name}-twice")
    with pytest.raises(DivergedError, match="start again"):
        build_run(job, 0, 1).go()
    with pytest.raises(DivergedError, match="had diverged before, and skipping a batch did not help"):
        build_run(job, 0, 1).go()
    assert skipped_batches(store, job.key) == [1]


def test_a_loss_that_is_not_finite_ends_the_run_before_the_update(alone, mixture, tmp_path):
    run = build(small_run("mm1_tiny"), mixture, tmp_path)
    with torch.no_grad():
        run.checkpoints.model.lm_head.weight[0] = float("nan")
    others = run.checkpoints.model.model.language_model.embed_tokens.weight.detach().clone()
    with pytest.raises(DivergedError, match="the loss is nan"):
        run.go()
    assert torch.equal(run.checkpoints.model.model.language_model.embed_tokens.weight, others)


def test_a_finished_checkpoint_is_a_model_that_loads(alone, mixture, tmp_path):
    store = mixture[0]
    run = build(small_run("mm1_tiny", "train.steps=2"), mixture, tmp_path)
    checkpoint = load(run.go().manifest, Checkpoint)
    model, processor = load_model(store, checkpoint, tmp_path / "folder")
    for name, parameter in run.checkpoints.model.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    assert processor.image_tokens == 4
    assert checkpoint.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_fine_tuning_goes_on_from_the_whole_model_of_its_init(alone, mixture, tmp_path):
    store = mixture[0]
    base = build(small_run("mm1_tiny_moe", "train.steps=2"), mixture, tmp_path, "base").go().manifest
    config = settle_parts(small_run("mm1_tiny_sft", "train.steps=2"), load(base, Checkpoint).stage, "", "")
    job = TrainJob(config=config, data=mixture[1], init=base, store=store.uri, key="sft", folder=str(tmp_path / "sft"))
    run = build_run(job, 0, 1)
    start, _ = load_model(store, load(base, Checkpoint), tmp_path / "start")
    assert all(
        torch.equal(parameter, start.get_parameter(name)) for name, parameter in run.checkpoints.model.named_parameters()
    )
    checkpoint = load(run.go().manifest, Checkpoint)
    assert checkpoint.stage == "sft"
    assert checkpoint.config["model"] == {"vision": None, "connector": None, "decoder": None}
    assert checkpoint.parents == tuple(uri[-69:-5] for uri in (mixture[1], base))


def test_a_decoder_folder_is_published_without_training(mixture, tmp_path):
    store, data, _ = mixture
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 400, "head_dim": 16}
    decoder = Qwen3ForCausalLM(Qwen3Config(**shape, num_hidden_layers=1, num_key_value_heads=2))
    decoder.save_pretrained(tmp_path / "qwen")
    config = settle_parts(small_run("mm1_tiny_lm"), "", "", str(tmp_path / "qwen"))
    job = TrainJob(config=config, data=data, decoder=str(tmp_path / "qwen"), store=store.uri, key="x", folder=str(tmp_path))
    checkpoint = load(publish_imported(job, store, tmp_path / "scratch"), Checkpoint)
    assert (checkpoint.stage, checkpoint.step, checkpoint.config["model"]["decoder"]) == ("imported", 0, None)
    model, _ = load_model(store, checkpoint, tmp_path / "back")
    assert torch.equal(model.model.language_model.layers[0].mlp.up_proj.weight, decoder.model.layers[0].mlp.up_proj.weight)
