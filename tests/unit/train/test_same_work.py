"""Only a checkpoint of the same work is taken: stage, recipe, parents and everything in the configuration that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm1.checkpoint.resume import newest_checkpoint, publish_checkpoint
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix, split_uri
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.same_work import difference
from mm1_components import pretrain
from mm1_components.ranks.stage_checks import resolve_run, settle
from tests.support.tiny_runs import job_of, small_run

PARENTS = ["a" * 64, "b" * 64]
CONFIG = registry.get("mm1_tiny")


def checkpoint(**changes: Any) -> Checkpoint:
    values: dict[str, Any] = {
        "parents": PARENTS, "stage": CONFIG.stage, "recipe": CONFIG.recipe, "config": CONFIG.model_dump(mode="json"), "step": 1,
        "total_steps": 2, "sequences_seen": 1, "tokens_seen": 1, "images_seen": 1, "world_size": 1, "num_parameters": 1,
        "model": {},
    }  # fmt: skip
    return Checkpoint.model_validate(values | changes)


def changed(path: str, value: Any) -> dict[str, Any]:
    config = CONFIG.model_dump(mode="json")
    *parents, name = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section[name] = value
    return config


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.model_dump(mode="json"),
        changed("train.micro_batch", 1),
        changed("train.keep_checkpoints", 7),
        changed("train.checkpoint_every", 1),
        changed("log.progress_every_s", 1.0),
    ],
)
def test_the_layout_and_the_log_may_differ(config: dict[str, Any]) -> None:
    assert difference(checkpoint(config=config), CONFIG, PARENTS) == ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stage": "text"}, "stage: expected 'pretrain', got 'text'"),
        ({"stage": "imported"}, "stage"),
        ({"recipe": "other"}, "recipe: expected"),
        ({"parents": PARENTS[:1]}, "parents"),
        ({"parents": PARENTS[::-1]}, "parents"),
        ({"parents": []}, "parents"),
        ({"config": changed("train.steps", 1)}, "config.train.steps: expected"),
        ({"config": changed("train.seed", 77)}, "config.train.seed"),
        ({"config": changed("optim.lr", 0.5)}, "config.optim.lr"),
        ({"config": {}}, "config: not one of this version"),
        ({"config": {"train": {"steps": 3}}}, "config: not one of this version"),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], text: str) -> None:
    assert difference(checkpoint(**changes), CONFIG, PARENTS).startswith(text)


def test_a_run_does_not_take_a_finished_checkpoint_of_other_work(
    mixture: tuple[LocalStore, str, DataMix], alone: None, tmp_path: Path
) -> None:
    store, data, _ = mixture
    job = job_of(small_run("mm1_tiny"), store, data, tmp_path / "job", key="not-of-this-work")
    files = {"model.safetensors": store.put_bytes(b"the weights of somebody else")}
    publish_checkpoint(store, job.key, checkpoint(stage="text", recipe="another", model=files))
    with pytest.raises(ConfigurationError, match=r"other work \(stage: expected 'pretrain', got 'text'\); delete .*resume/"):
        build_run(job, 0, 1)
    same = job.config.model_dump(mode="json")
    publish_checkpoint(
        store, job.key, checkpoint(config=same, parents=[split_uri(data)[1]], recipe=job.config.recipe, model=files)
    )
    assert build_run(job, 0, 1) == newest_checkpoint(store, job.key)


def test_a_cached_checkpoint_of_other_work_does_not_fit(mixture: tuple[LocalStore, str, DataMix]) -> None:
    _, data, _ = mixture
    inputs = pretrain.Inputs(data=data, recipe="mm1_tiny", overrides="train.steps=3")
    config = settle(resolve_run("mm1_tiny", "train.steps=3", inputs.seed), "", "", "", "")
    own = {"parents": [split_uri(data)[1]], "config": config.model_dump(mode="json")}
    fits = pretrain.STEP.fits
    assert fits is not None and pretrain.STEP.kind == "Checkpoint"
    assert fits(inputs, checkpoint(**own)) == ""
    assert fits(inputs, checkpoint(**own, recipe="other")).startswith("recipe")
    assert fits(inputs, checkpoint(**(own | {"parents": PARENTS}))).startswith("parents")
    assert fits(inputs, checkpoint(parents=own["parents"])).startswith("config.train.steps")
