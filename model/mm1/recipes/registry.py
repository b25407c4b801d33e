"""Recipes by name, as in ``recipe=``. Torch-free."""

from __future__ import annotations

from collections.abc import Callable

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.recipes import mm1, tiny
from mm1.train.config import RunConfig

TINY = (
    tiny.mm1_tiny_lm,
    tiny.mm1_tiny_clip,
    tiny.mm1_tiny_aim,
    tiny.mm1_tiny,
    tiny.mm1_tiny_moe,
    tiny.mm1_tiny_continual,
    tiny.mm1_tiny_sft,
)
PAPER = (
    mm1.mm1_clip,
    mm1.mm1_aim,
    mm1.mm1_1b,
    mm1.mm1_3b,
    mm1.mm1_7b,
    mm1.mm1_30b,
    mm1.mm1_3b_moe,
    mm1.mm1_7b_moe,
    mm1.mm1_continual,
    mm1.mm1_sft,
    mm1.mm1_sft_1344,
    mm1.mm1_5_sft,
)
RECIPES: dict[str, Callable[[], RunConfig]] = {recipe.__name__: recipe for recipe in (*TINY, *PAPER)}


def names() -> list[str]:
    """Return all names in display order."""
    return list(RECIPES)


def get(name: str) -> RunConfig:
    """Return the configuration of a recipe.

    Raises:
        ConfigurationError: there is no recipe of this name; the message suggests one.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"unknown recipe {name!r}; {suggest(name, names())}")
    return RECIPES[name]()


def describe(name: str) -> str:
    """Describe a recipe in one line."""
    get(name)
    return (RECIPES[name].__doc__ or "").strip().splitlines()[0]
