"""Recipes: resolved configurations as committed, descriptions, refused settings."""

import json
import os
from pathlib import Path

import pytest

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.config import RunConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "configs"


@pytest.mark.golden
@pytest.mark.parametrize("name", registry.names())
def test_resolved_configurations_are_as_committed(name):
    text = json.dumps(registry.get(name).model_dump(mode="json"), indent=1) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs: `make golden` writes it anew if the change is meant"


def test_an_unknown_recipe_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="did you mean 'mm1_tiny_moe'"):
        registry.get("mm1_tiny_mo")


@pytest.mark.parametrize("name", registry.names())
def test_each_recipe_has_its_name_and_a_line_about_itself(name):
    assert registry.get(name).recipe == name
    assert 20 < len(registry.describe(name)) < 128


def test_at_most_eight_sections_and_every_field_is_described():
    assert len(RunConfig.model_fields) <= 8

    def fields_of(section, path):
        for name, field in section.model_fields.items():
            yield f"{path}.{name}", field
            for part in getattr(field.annotation, "__args__", (field.annotation,)):
                if hasattr(part, "model_fields"):
                    yield from fields_of(part, f"{path}.{name}")

    assert [path for path, field in fields_of(RunConfig, "run") if not field.description] == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["optim.name=adafactor", "train.zero_stage=1", "train.expert_parallel=2"], "adafactor needs train.expert_parallel=1"),
        (["train.zero_stage=1"], "needs optim.clip=0"),
        (["train.zero_stage=3"], "optim.name=muon needs whole matrices"),
        (["train.zero_stage=4"], "train.zero_stage"),
        (["train.zero_stage=1", "train.dtype=bfloat16"], "bfloat16 needs train.zero_stage=0"),
        (["train.offload=optimizer"], "offload=optimizer needs zero_stage"),
        (["train.expert_parallel=2", "optim.name=adamw"], "expert_parallel above 1 needs zero_stage"),
        (["schedule.unit=tokens", "schedule.warmup_tokens=10"], "total_tokens"),
        (["optim.name=sgd"], "optim.name"),
        (["schedule.final_share=2"], "schedule.final_share"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, says):
    with pytest.raises(ConfigurationError, match=says):
        resolve(registry.get("mm1_tiny"), overrides)
