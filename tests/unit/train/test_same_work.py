"""Only a checkpoint of the same work is taken: stage, recipe, parents and everything in the configuration that matters."""

from __future__ import annotations

from typing import Any

import pytest

from mm1.manifests import Checkpoint
from mm1.recipes import registry
from mm1.train.same_work import difference

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
