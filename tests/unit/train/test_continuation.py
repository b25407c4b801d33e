"""Runs that continue another one with more steps and its optimizer state, held against runs that were never cut."""

import io
import signal

import pyarrow.parquet as pq
import pytest

from mm1.checkpoint.read import load_model
from mm1.checkpoint.resume import newest_checkpoint
from mm1.config.resolve import resolve
from mm1.errors import CheckpointError, ConfigurationError, Preempted
from mm1.manifests import Checkpoint, digest_of_manifest, load, manifest_key, publish, split_uri
from mm1.store.base import BlobRef
from mm1.train.build import build_run
from mm1.train.continuation import check_mixture, check_origin, continued
from tests.support.tiny_runs import job_of, small_run

CONSTANT = ("schedule.shape=constant", "schedule.warmup_steps=3", "train.keep_state=true")


@pytest.fixture
def train(alone, mixture, tmp_path):
    """Train a configuration, from the beginning or from a checkpoint; returns the finished checkpoint's address."""

    def run(key, config, resume="", mixture=mixture, cut_at=0):
        store, data, _ = mixture
        job = job_of(config, store, data, tmp_path / key, key=f"{tmp_path.name}-{key}")
        if resume:
            job = job.model_copy(update={"resume": resume, "config": continued(config, load(resume, Checkpoint))})
        if cut_at:
            started = build_run(job, 0, 1)
            started.loop.callbacks[-1].signal = signal.SIGTERM
            with pytest.raises(Preempted):
                started.go()
        started = build_run(job, 0, 1)
        result = started.go()
        assert isinstance(build_run(job, 0, 1), Checkpoint), "the run is finished"
        return result.manifest

    return run


def rows_of(store, uri):
    return pq.read_table(io.BytesIO(store.get_bytes(load(uri, Checkpoint).history))).to_pylist()


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("mm1_tiny", ()),
        ("mm1_tiny_moe", ("optim.name=adamw",)),
        ("mm1_tiny", ("optim.name=adamw", "train.zero_stage=2", "train.dtype=bfloat16")),
    ],
)
def test_a_run_and_its_continuation_are_one_run(train, mixture, recipe, overrides):
    """Constant for 4 steps and 4 more, the second time stopped in between, are 8 steps bit by bit."""
    overrides = (*CONSTANT, *overrides)
    whole = load(train("whole", small_run(recipe, "train.steps=8", *overrides)), Checkpoint)
    first = train("first", small_run(recipe, "train.steps=4", *overrides))
    second = train("second", small_run(recipe, "train.steps=8", *overrides), resume=first, cut_at=5)
    checkpoint = load(second, Checkpoint)
    assert checkpoint.parents == (*whole.parents, split_uri(first)[1])
    assert checkpoint.model_copy(update={"parents": whole.parents}) == whole


def test_two_decays_branch_from_the_end_of_a_stable_phase(train, mixture):
    """Each is the run with a late decay (WSD) that was planned whole."""
    stable = train("stable", small_run("mm1_tiny", "train.steps=5", *CONSTANT))
    for steps, curve in ((8, "linear"), (7, "1-sqrt")):
        decay = (
            "schedule.shape=wsd",
            f"train.steps={steps}",
            f"schedule.decay_steps={steps - 5}",
            f"schedule.decay_curve={curve}",
        )
        planned = small_run("mm1_tiny", "schedule.warmup_steps=3", *decay)
        branch = train(f"branch-{steps}", planned, resume=stable)
        whole = train(f"whole-{steps}", planned)
        assert load(branch, Checkpoint).model == load(whole, Checkpoint).model
        rates = [row["lr"] for row in rows_of(mixture[0], branch)]
        assert rows_of(mixture[0], branch) == rows_of(mixture[0], whole)
        assert rates[2] == rates[4] and rates[-1] == pytest.approx(0.1 * rates[4])
    assert load(stable, Checkpoint).finished


def test_an_unfinished_checkpoint_can_be_continued_too(alone, train, mixture, tmp_path):
    """The stable phase of a run that is still in progress, or was given up."""
    store, data, _ = mixture
    config = small_run("mm1_tiny", "train.steps=50", *CONSTANT)
    started = build_run(job_of(config, store, data, tmp_path / "long", key=f"{tmp_path.name}-long"), 0, 1)
    started.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        started.go()
    (digest,) = store.read_json(f"resume/{tmp_path.name}-long.json")["checkpoints"]
    config = small_run("mm1_tiny", "train.steps=4", *CONSTANT)
    branch = train("branch", config, resume=f"{store.uri}/{manifest_key(digest)}")
    assert load(branch, Checkpoint).model == load(train("whole", config), Checkpoint).model
    assert newest_checkpoint(store, f"{tmp_path.name}-long").step == 1, "the long run can go on"


def test_a_schedule_in_tokens_goes_on(train, mixture):
    tokens = ("schedule.unit=tokens", "schedule.warmup_tokens=300", "schedule.warmup_steps=0", "train.keep_state=true")
    decay = ("schedule.shape=wsd", "schedule.decay_tokens=500", "schedule.total_tokens=1600", "train.steps=16")
    first = train(
        "first", small_run("mm1_tiny", *tokens, "schedule.shape=constant", "schedule.total_tokens=800", "train.steps=8")
    )
    assert load(first, Checkpoint).step < 8
    branch, whole = (train(key, small_run("mm1_tiny", *tokens, *decay), resume) for key, resume in (("b", first), ("w", "")))
    assert load(branch, Checkpoint).model == load(whole, Checkpoint).model
    assert load(branch, Checkpoint).tokens_seen >= 1600


def test_a_finished_checkpoint_has_a_state_only_if_the_run_keeps_it(train):
    config = small_run("mm1_tiny", "train.steps=2")
    plain = load(train("plain", config), Checkpoint)
    kept = load(train("kept", resolve(config, ["train.keep_state=true"])), Checkpoint)
    assert plain.model == kept.model
    assert (plain.finished, plain.final, plain.trainer) == (True, False, {})
    assert kept.finished and kept.final and kept.trainer
    with pytest.raises(ConfigurationError, match=r"no optimizer state, .* train\.keep_state=true: .* init="):
        continued(small_run("mm1_tiny", "train.steps=4"), plain)


def test_other_data_start_at_their_beginning_on_request(train, mixture, tmp_path):
    """A decay on another mixture, with fewer sources and larger images, and the state of the optimizer."""
    store, data, mix = mixture
    sources = tuple(source.model_copy(update={"weight": 0.5}) for source in mix.sources if source.name != "interleaved")
    other = mix.model_copy(update={"sources": sources, "image_size_px": 32})
    other_data = publish(store, other)
    first = train("first", small_run("mm1_tiny", "train.steps=4", *CONSTANT))
    config = small_run("mm1_tiny", "train.steps=6", *CONSTANT)
    with pytest.raises(ConfigurationError, match=r"another mixture .* train\.restart_data=true .* init="):
        check_mixture(config, load(first, Checkpoint), split_uri(other_data)[1])
    check_mixture(config, load(first, Checkpoint), split_uri(data)[1])
    config = resolve(config, ["train.restart_data=true"])
    check_mixture(config, load(first, Checkpoint), split_uri(other_data)[1])
    uncut = train("uncut", config, resume=first, mixture=(store, other_data, other))
    cut = train("cut", config, resume=first, mixture=(store, other_data, other), cut_at=1)
    assert cut == uncut
    rows = rows_of(store, cut)
    assert rows[:4] == [{**row, "loss/interleaved": row["loss/interleaved"]} for row in rows_of(store, first)]
    assert [row["loss/interleaved"] for row in rows[4:]] == [None, None]
    fresh = rows_of(store, train("fresh", small_run("mm1_tiny", "train.steps=2"), mixture=(store, other_data, other)))
    assert [row["tokens"] for row in rows[4:]] == [row["tokens"] for row in fresh], "the first batches of the mixture"
    _, processor = load_model(store, load(cut, Checkpoint), tmp_path / "model")
    assert processor.image_processor.size == {"height": 32, "width": 32}


def test_steps_on_other_data_are_not_judged_by_those_before(alone, train, mixture, tmp_path):
    """A new phase may begin with higher losses; a run on the same data goes on with its band."""
    store, data, _ = mixture
    window = (*CONSTANT, "optim.name=adamw", "optim.spike_window=3")
    first = train("first", small_run("mm1_tiny", "train.steps=4", *window))

    def resumed(key, *overrides, cut_at=0):
        config = continued(small_run("mm1_tiny", "train.steps=8", *window, *overrides), load(first, Checkpoint))
        job = job_of(config, store, data, tmp_path / key, key=f"{tmp_path.name}-{key}")
        job = job.model_copy(update={"resume": first})
        if cut_at:
            run = build_run(job, 0, 1)
            run.loop.callbacks[-1].signal = signal.SIGTERM
            with pytest.raises(Preempted):
                run.go()
        return build_run(job, 0, 1).loop.step.band

    assert not resumed("same").admits(1e6, 1.0)
    assert resumed("other", "train.restart_data=true").admits(1e6, 1.0)
    later = resumed("other", "train.restart_data=true", cut_at=1)
    assert [later.admits(loss, 1.0) for loss in (1e6, 1e6, 1e9)] == [True, True, False], "with its own step before a restart"


@pytest.fixture(scope="module")
def kept() -> Checkpoint:
    """A checkpoint with a state, as a manifest only."""
    config = small_run("mm1_tiny", "train.steps=4").model_dump(mode="json")
    ref = BlobRef(sha256="a" * 64, num_bytes=1)
    counters = {"step": 4, "total_steps": 4, "sequences_seen": 16, "tokens_seen": 900, "images_seen": 9}
    return Checkpoint(
        stage="pretrain",
        recipe="mm1_tiny",
        config=config,
        **counters,
        world_size=1,
        num_parameters=1,
        model={},
        trainer={"state.json": ref},
        final=True,
        parents=("d" * 64, "e" * 64),
    )


@pytest.mark.parametrize(
    ("recipe", "overrides", "message"),
    [
        ("mm1_tiny", (), r"train\.steps=4, but the checkpoint to resume is at step 4: .* train\.steps=8"),
        ("mm1_tiny", ("train.steps=3",), r"train\.steps=3, but"),
        ("mm1_tiny", ("train.steps=8", "schedule.unit=tokens", "schedule.total_tokens=900"), r"has seen 900 tokens"),
        (
            "mm1_tiny",
            ("train.steps=8", "optim.name=adamw"),
            r"optim\.name=adamw, but .* optim\.name=muon: set that, or .* init=",
        ),
        (
            "mm1_tiny",
            ("train.steps=8", 'train.frozen=["vision_tower"]'),
            r'train\.frozen=\["vision_tower"\], but .* train\.frozen=\[\]',
        ),
        ("mm1_tiny", ("train.steps=8", "train.global_batch=8"), r"train\.global_batch=8, but .* train\.global_batch=4"),
        ("mm1_tiny", ("train.steps=8", "train.dtype=bfloat16"), r"train\.dtype=bfloat16, but"),
        ("mm1_tiny_sft", ("train.steps=8",), r"stage=sft, but .* stage=pretrain"),
        ("mm1_tiny", ("train.steps=8", "model.decoder.ffn_size=96"), r"model\.decoder\.ffn_size=96, but the checkpoint has 64"),
        ("mm1_tiny_moe", ("train.steps=8",), r"model\.decoder\.num_experts=4, but the checkpoint has 0"),
    ],
)
def test_a_run_that_does_not_fit_the_checkpoint_is_refused(kept, recipe, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        continued(small_run(recipe, "train.steps=4", *overrides), kept)


def test_parts_of_unknown_shape_come_from_the_checkpoint(kept):
    """As in a run that began with a text base: its configuration has no decoder."""
    sections = {**kept.config["model"], "decoder": None}
    based = kept.model_copy(update={"config": {**kept.config, "model": sections}})
    config = small_run("mm1_tiny", "train.steps=8")
    assert continued(config, based).model.decoder is None
    with pytest.raises(ConfigurationError, match=r"model\.decoder\.ffn_size=96: the decoder comes from the checkpoint"):
        continued(config, based, ["model.decoder.ffn_size=96"])
    check_origin("", based)
    check_origin("e" * 64, based)
    with pytest.raises(ConfigurationError, match="leave init empty"):
        check_origin("f" * 64, based)


def test_a_damaged_checkpoint_is_not_continued(train, mixture):
    store = mixture[0]
    first = load(train("first", small_run("mm1_tiny", "train.steps=2", *CONSTANT)), Checkpoint)
    path = store.local_path(first.trainer["rank-00000-of-00001.safetensors"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"resume: the checkpoint is damaged .*continue another one"):
        newest_checkpoint(store, "new-work", start=digest_of_manifest(first))
