"""A study on another base has the settings that it states for it."""

import pytest

from mm1.errors import ConfigurationError
from mm1.studies.files import BASES, on_base, read_base, read_studies

TEXT = """
title: Tokens
paper: {section: connector, says: They matter.}
factor: tokens
settings: {mix.seed: 1}
levels:
  few: {mix.image_tokens: 1}
  many: {mix.image_tokens: 16}
bases:
  large:
    settings: {mix.sequence_length: 4096}
    levels: {few: {mix.image_tokens: 64}}
scores: {loss: {mean: [loss/text]}}
"""


def test_levels_and_settings_of_another_base_replace_those_of_the_study():
    (study,) = read_studies(TEXT).values()
    large = study.on("large")
    assert large.base == "large" and large.settings == {"mix.sequence_length": "4096"}
    assert large.levels == {"few": {"mix.image_tokens": "64"}, "many": {"mix.image_tokens": "16"}}
    other = study.on("other")
    assert (other.base, other.settings, other.levels) == ("other", study.settings, study.levels)


def test_a_level_of_another_base_is_one_of_the_study():
    with pytest.raises(
        ConfigurationError, match=r"line 12: bases\.large\.levels\.fev: unknown level 'fev'; did you mean 'few'"
    ):
        read_studies(TEXT.replace("{few: {mix.image_tokens: 64}}", "{fev: {mix.image_tokens: 64}}"))
    with pytest.raises(ConfigurationError, match="unknown stage 'mxi'; did you mean 'mix'"):
        read_studies(TEXT.replace("{few: {mix.image_tokens: 64}}", "{few: {mxi.image_tokens: 64}}"))


def test_a_base_may_be_given_as_text():
    assert read_base((BASES / "laptop.yaml").read_text()) == read_base("laptop")
    with pytest.raises(ConfigurationError, match="base, line 2: mix: expected a map of inputs"):
        read_base("text_mix: {weights: text}\nmix: 3\n")


def test_a_copy_of_a_base_keeps_the_levels_that_studies_have_for_it():
    (study,) = read_studies(TEXT).values()
    copied = on_base(study, "like: large\nmix: {weights: text}\n")
    assert copied.levels["few"] == {"mix.image_tokens": "64"}
    assert read_base(copied.base) == {"mix.weights": "text"}
