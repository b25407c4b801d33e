"""Validation losses: those of the held-out samples, in everything that shows a run, without effect on training."""

import io
import json
import signal

import pyarrow.parquet as pq
import pytest
import torch

from mm1.checkpoint.read import load_model
from mm1.checkpoint.resume import skipped_batches
from mm1.data.load.validation import open_holdout
from mm1.errors import DivergedError, Preempted
from mm1.manifests import Checkpoint, load
from mm1.train.build import build_run
from tests.support.tiny_runs import holding_out, job_of, small_run

VALIDATED = ("train.validate_every=3", "train.validation_sequences=3")


@pytest.fixture(scope="session")
def held_out(mixture):
    """The small mixture with a third of its samples held out."""
    store, _, mix = mixture
    return store, *holding_out(store, mix, "0.3")


def build(config, mixture, folder, key):
    return build_run(job_of(config, mixture[0], mixture[1], folder, key=key), 0, 1)


def history_of(store, manifest):
    checkpoint = load(manifest, Checkpoint)
    return checkpoint, pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).to_pylist()


@pytest.mark.parametrize("recipe", ["mm1_tiny", "mm1_tiny_moe"])
def test_the_losses_are_those_of_the_model_on_the_held_out_sequences(alone, held_out, tmp_path, recipe):
    store, _, mix = held_out
    result = build(small_run(recipe, *VALIDATED, "train.steps=4"), held_out, tmp_path, f"{tmp_path.name}-{recipe}").go()
    checkpoint, rows = history_of(store, result.manifest)
    named = [f"validation/{source.name}" for source in mix.sources]
    assert [row["step"] for row in rows if row[named[0]] is not None] == [3, 4], "every third step and the last one"
    assert {f"validation/{name}": loss for name, loss in result.validation_losses.items()} == {
        name: rows[-1][name] for name in named
    }
    model, processor = load_model(store, checkpoint, tmp_path / "model")
    images = processor.image_processor
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (images.image_mean, images.image_std))
    for source in mix.sources:
        total = count = 0.0
        sequences = 0
        for batch in open_holdout(store, mix, source.name).batches(1):
            if sequences == 3:
                break
            sequences += 1
            batch.pop("source_ids")
            if "pixel_values" in batch:
                batch["pixel_values"] = (batch["pixel_values"].permute(0, 3, 1, 2).float() / 255 - mean) / std
            with torch.no_grad():
                output = model.eval()(**batch)
            total += float(output.sequence_loss.sum())
            count += float(output.sequence_tokens.sum())
        assert sequences == 3
        assert rows[-1][f"validation/{source.name}"] == pytest.approx(total / count, rel=1e-5)


def test_validation_changes_nothing_else(alone, held_out, tmp_path):
    """Weights and all other figures are bit by bit those without validation, also with dropout's random numbers in between."""
    digests, others = [], []
    for every in (0, 1):
        config = small_run("mm1_tiny", f"train.validate_every={every}", "train.steps=5", "train.checkpoint_every=9")
        run = build(config, held_out, tmp_path / str(every), f"{tmp_path.name}-{every}")
        torch.manual_seed(7)
        checkpoint, rows = history_of(held_out[0], run.go().manifest)
        digests.append(checkpoint.model["model.safetensors"])
        others.append([{name: value for name, value in row.items() if not name.startswith("validation")} for row in rows])
        others.append(torch.rand(3).tolist())
    assert digests[0] == digests[1]
    assert others[:2] == others[2:]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(alone, held_out, tmp_path):
    config = small_run("mm1_tiny", *VALIDATED, "train.steps=7", "train.checkpoint_every=2")
    whole = build(config, held_out, tmp_path / "whole", f"{tmp_path.name}-whole").go()
    for stop in (1, 3, 4):
        key = f"{tmp_path.name}-{stop}"
        run = build(config, held_out, tmp_path / key, key)
        advance = run.progress.advance

        def stopping(result, run=run, advance=advance, stop=stop):
            advance(result)
            run.loop.callbacks[-1].signal = signal.SIGTERM if run.progress.step == stop else 0

        run.progress.advance = stopping
        with pytest.raises(Preempted):
            run.loop.run()
        del run.progress.advance
        resumed = build(config, held_out, tmp_path / f"{key}-again", key)
        assert resumed.progress.validated_step == (3 if stop >= 3 else 0)
        assert resumed.go().manifest == whole.manifest


def test_rows_and_lines_show_the_last_validation(alone, held_out, tmp_path):
    run = build(
        small_run("mm1_tiny", *VALIDATED, "train.steps=5", "log.progress_every_s=1e-9"),
        held_out,
        tmp_path,
        f"{tmp_path.name}-lines",
    )
    run.parts.speed.sink = sink = io.StringIO()
    run.go()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation/captions" in row] == [3, 5]
    lines = [json.loads(line)["validation"] for line in sink.getvalue().splitlines()]
    assert lines[:2] == [{}, {}] and lines[2] == lines[3] != lines[4]
    assert set(lines[4]) == {"captions", "interleaved", "text"}


def test_a_mixture_without_held_out_samples_says_how_to_get_some(alone, mixture, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run = build(small_run("mm1_tiny", *VALIDATED), mixture, tmp_path, f"{tmp_path.name}-none")
    assert run.parts.validation is None
    assert caplog.text.count("create it with holdout=") == 1


def test_a_loss_that_is_not_finite_is_a_divergence(alone, held_out, tmp_path):
    run = build(small_run("mm1_tiny", *VALIDATED), held_out, tmp_path, f"{tmp_path.name}-nan")
    with torch.no_grad():
        run.parts.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="validation loss of captions is nan"):
        run.parts.validation.means()


@pytest.mark.parametrize(("steps", "every", "step"), [(8, 3, 3), (4, 4, 4)])
def test_a_validation_that_diverges_leaves_out_the_batch_before_it(alone, held_out, tmp_path, steps, every, step):
    """The weights are those of the step that is done, also of the last one."""
    key = f"{tmp_path.name}-broken"
    config = small_run("mm1_tiny", f"train.steps={steps}", f"train.validate_every={every}", "train.checkpoint_every=2")
    run = build(config, held_out, tmp_path / "first", key)
    advance = run.progress.advance

    def breaking(result):
        advance(result)
        if run.progress.step == step:
            with torch.no_grad():
                run.parts.model.lm_head.weight.fill_(float("nan"))

    run.progress.advance = breaking
    with pytest.raises(DivergedError, match=f"validation loss .* skip global batch {step - 1}"):
        run.go()
    del run.progress.advance
    assert skipped_batches(held_out[0], key) == [step - 1]
    result = build(config, held_out, tmp_path / "second", key).go()
    checkpoint, rows = history_of(held_out[0], result.manifest)
    assert checkpoint.skipped == (step - 1,)
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
