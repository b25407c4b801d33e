"""Named mixtures of instruction sets, with a weight for each set: MM1's and MM1.5's fine-tuning (``sets.yaml``).

A set is a folder of the source ``instructions``, so its name in a mixture is ``instructions/<folder>``::

    preset, samples of each ingested folder -> plan() -> [PlannedSet(group, name, folder, weight, ...), ...]

Folders match regardless of case, ``-`` and ``_``. Weights are shares of samples. Where groups have shares, the weight of
a set that is not ingested goes to the other sets of its group, and that of a group without any to the other groups. Otherwise
all samples are drawn uniformly, and it goes to all other sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field

from mm1.config.base import Config
from mm1.errors import ConfigurationError

SOURCE = "instructions"
THOUSAND = 1000


class SetGroup(Config):
    """Sets that share a weight."""

    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the mixture; None = in proportion to the samples of its sets."""
    samples: dict[str, float | None]
    """Set -> its samples in the paper, in thousands; None = not published."""


class SetPreset(Config):
    """A named mixture of sets."""

    source: str
    """Paper and section of the numbers."""
    groups: dict[str, SetGroup]
    """Groups by name."""


@dataclass(frozen=True)
class PlannedSet:
    """A set of a preset."""

    group: str
    name: str
    folder: str
    """Folder that has it, below the source instructions; empty if it is not ingested."""
    share: float
    """Share in the paper's mixture; of a set without a published count, an equal part of its group's."""
    weight: float
    """Share in this mixture; 0 if it is not ingested."""
    paper_samples: int | None
    """Samples in the paper, if published."""
    samples: int
    """Ingested samples."""


@cache
def presets() -> dict[str, SetPreset]:
    """Return all presets by name."""
    tree = yaml.safe_load(Path(__file__).with_name("sets.yaml").read_text(encoding="utf-8"))
    return {name: SetPreset.model_validate(fields) for name, fields in tree.items()}


def nominal_weights(preset: str) -> dict[str, float]:
    """Return the paper's weight of each set, by its name in a mixture."""
    return {f"{SOURCE}/{each.name}": each.share for each in plan(preset, {})}


def plan(preset: str, samples: Mapping[str, int]) -> list[PlannedSet]:
    """Give every set of a preset its weight.

    Args:
        preset: name of the preset.
        samples: folder of the source instructions -> its samples.

    Raises:
        ConfigurationError: two folders have the name of one set.
    """
    folders = _by_name(samples)
    planned: list[PlannedSet] = []
    groups = presets()[preset].groups
    total = sum(_amount(group) for group in groups.values())
    sizes = {
        name: {each: _size(group, each, samples[folders[_normal(each)]]) for each in group.samples if _normal(each) in folders}
        for name, group in groups.items()
    }
    amounts = {name: groups[name].share or sum(own.values()) for name, own in sizes.items() if own}
    for name, group in groups.items():
        for each in group.samples:
            folder = folders.get(_normal(each), "")
            share = _amount(group) / total * _fraction(group, each)
            weight = amounts[name] / sum(amounts.values()) * sizes[name][each] / sum(sizes[name].values()) if folder else 0.0
            published = group.samples[each]
            count = None if published is None else round(published * THOUSAND)
            planned.append(PlannedSet(name, each, folder, share, weight, count, samples.get(folder, 0) if folder else 0))
    return planned


def set_weights(preset: str, samples: Mapping[str, int]) -> tuple[dict[str, float], list[str]]:
    """Return the weights of the ingested sets of a preset.

    Args:
        preset: name of the preset.
        samples: folder of the source instructions -> its samples.

    Returns:
        Weights by name in a mixture, and a sentence for each group with sets that are not ingested.

    Raises:
        ConfigurationError: no set is ingested, or two folders have the name of one.
    """
    planned = plan(preset, samples)
    weights = {f"{SOURCE}/{each.folder}": round(each.weight, 9) for each in planned if each.folder and each.weight}
    if not weights:
        raise ConfigurationError(
            f"weights: {preset} mixes sets that are folders of {SOURCE}, but it has none of "
            f"{', '.join(each.name for each in planned)}; its folders are {', '.join(samples) or 'none'}: name them so, or "
            f"give weights such as {SOURCE}=1"
        )
    return weights, _notes(preset, planned)


def _notes(preset: str, planned: list[PlannedSet]) -> list[str]:
    notes = []
    for group in dict.fromkeys(each.group for each in planned):
        sets = [each for each in planned if each.group == group]
        missing = [each for each in sets if not each.folder]
        if missing:
            share = sum(each.share for each in missing)
            has_share = presets()[preset].groups[group].share is not None
            heirs = f"the other sets{f' of {group}' if has_share and len(missing) < len(sets) else ''}"
            names = ", ".join(each.name for each in missing)
            notes.append(f"{preset}: {names} not ingested: {share:.1%} of the paper's mixture go to {heirs}")
    return notes


def _amount(group: SetGroup) -> float:
    return group.share if group.share is not None else sum(count or 0 for count in group.samples.values())


def _fraction(group: SetGroup, name: str) -> float:
    """Return the fraction of a group that a set has in the paper."""
    known = sum(count or 0 for count in group.samples.values())
    return (group.samples[name] or 0) / known if known else 1 / len(group.samples)


def _size(group: SetGroup, name: str, samples: int) -> float:
    """Return the size that the weight of a set in its group is proportional to."""
    published = group.samples[name]
    return max(samples, 1) if published is None else published


def _by_name(folders: Iterable[str]) -> dict[str, str]:
    """Return the folders by the name of their set."""
    named: dict[str, str] = {}
    for folder in folders:
        if (other := named.setdefault(_normal(folder), folder)) != folder:
            raise ConfigurationError(
                f"weights: the folders {other} and {folder} of {SOURCE} have the name of one set: ingest them as one folder, "
                f"or give weights such as {SOURCE}/{other}=1"
            )
    return named


def _normal(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
