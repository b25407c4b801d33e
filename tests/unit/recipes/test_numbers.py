"""Every numeric field of every recipe: what is no number, or no sensible one, is refused before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from mm1.config.base import INT64_MAX
from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.config import RunConfig
from mm1_components.ranks.stage_checks import resolve_run

NO_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "true",
    "false",
    "null",
    "nan",
    "inf",
    "x",
    "",
    "9" * 5000,
    "[" * 5000,
    "{}",
]
NONSENSE = ["-1", "-1e-3", "1e300", "1" + 30 * "0", str(INT64_MAX + 1)]
FLOAT32 = 1e30
"""What float32 holds, with room for factors."""


def numeric_fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths of all numbers, and of tuples of them, with their values."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numeric_fields(item, f"{path}.{name}" if path else name)
    elif (isinstance(value, list) and value and isinstance(value[0], float)) or type(value) in (int, float):
        yield path, value


def given(path: str, former: Any, text: str) -> str:
    return f"{path}={text}" if not isinstance(former, list) else f"{path}=[{', '.join([text, *map(str, former[1:])])}]"


@pytest.mark.parametrize("recipe", registry.names())
def test_what_is_no_number_is_refused(recipe: str) -> None:
    config = registry.get(recipe)
    for path, former in numeric_fields(config.model_dump(mode="json")):
        for text in NO_NUMBERS:
            with pytest.raises(ConfigurationError, match=path.split(".")[-1]) as caught:
                resolve(config, [given(path, former, text)])
            assert len(str(caught.value)) < 1000, "thousands of digits are not repeated"


@pytest.mark.parametrize("recipe", registry.names())
def test_numbers_are_refused_or_sensible(recipe: str) -> None:
    config = registry.get(recipe)
    for path, former in numeric_fields(config.model_dump(mode="json")):
        for text in NONSENSE:
            try:
                changed = resolve(config, [given(path, former, text)])
            except ConfigurationError as error:
                assert path.split(".")[-1] in str(error)
                continue
            value: Any = dict(numeric_fields(changed.model_dump(mode="json")))[path]
            for number in value if isinstance(value, list) else [value]:
                assert type(number) in (int, float) and math.isfinite(number) and number >= 0
                assert number <= (INT64_MAX if isinstance(number, int) else FLOAT32), f"{path}={text}"


@pytest.mark.parametrize(
    "override",
    [
        "optim.lr=law",
        "optim.lr=0",
        "optim.lr=1",
        "optim.betas=[0, 0.999]",
        "optim.clip=0",
        "optim.weight_decay=0",
        "train.seed=9223372036854775807",
        "train.steps=1000000000000",
        "train.loader_workers=0",
        "train.gradient_checkpointing=true",
        "train.profile=10",
        "log.progress_every_s=0.01",
        "model.decoder.rope_theta=1e7",
        "model.decoder.num_kv_heads=1",
        "model.decoder.head_size=80",
        "model.decoder.vocab_size=0",
        "model.decoder.max_positions=1000000",
        "model.vision.image_std=[1, 1, 1]",
        "model.vision.image_mean=[0, 0, 0]",
        "model.connector.type=average_pool",
        'train.frozen=["vision_tower", "^model\\\\.connector"]',
        "train.frozen=vision,connector",
        'sequence={"length": 32, "max_images": 1, "image_size_px": 32, "image_tokens": 1}',
    ],
)
def test_right_values_are_taken(override: str) -> None:
    assert isinstance(resolve(registry.get("mm1_tiny"), [override]), RunConfig)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.decoder.num_kv_heads=2", "model.decoder: num_kv_heads=2 does not divide num_heads=3"),
        ("model.decoder.num_heads=4", "num_kv_heads=3 does not divide num_heads=4"),
        ("model.decoder.head_size=33", "model.decoder.head_size: expected a multiple of 2, got 33"),
        ("model.decoder.num_experts=1", "experts_per_token=2 is above num_experts=1"),
        ('model.decoder={"num_experts": 4}', "model.decoder.hidden_size: is required"),
        ("model.vision.num_heads=5", "model.vision: num_heads=5 does not divide hidden_size=64"),
        ("model.vision.image_std=[0, 0, 0]", "model.vision.image_std.0: expected at least 0.001, got 0"),
        ('train.frozen=["("]', "train.frozen: '(' is not a regular expression"),
        ("optim.lr=-1", "optim.lr: expected law or a number from 0 to 1e+30, got -1"),
        ("optim.betas=[2, 3]", "optim.betas.0: expected less than 1.0, got 2"),
        ("train.steps=true", "train.steps: expected an integer, got True"),
        ("train.zero_stage=true", "train.zero_stage: expected an integer, got True"),
        ("optim.clip=Infinity", "optim.clip: expected a finite number, got inf"),
    ],
)
def test_the_message_names_the_field_and_what_it_takes(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(registry.get("mm1_tiny"), [override])
    assert says in str(caught.value)


@pytest.mark.parametrize("override", ["train.seed=5", " train.seed = 5"])
def test_a_seed_among_the_overrides_of_a_step_would_have_no_effect(override: str) -> None:
    with pytest.raises(ConfigurationError, match=r"override train\.seed has no effect: set the input seed"):
        resolve_run("mm1_tiny", f"'{override}'", 0)
    assert resolve_run("mm1_tiny", "", 5).train.seed == 5
