"""Source of the i-th sequence of a mixture: deterministic, evenly spread, with random access.

Every source has its share at every point of the order, not only on average: after n sequences it has had n times its weight
to within one sequence. The rule is earliest deadline first: the k-th sequence of a source with weight w is released at k/w
and due by (k+1)/w, in whole sequences. The pattern is periodic, so any position can be looked up directly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from mm1.config.values import parse_number
from mm1.data.load.sets import nominal_weights, presets
from mm1.data.source_names import group_of, parent_of
from mm1.errors import ConfigurationError

MAX_PERIOD = 10_000
"""Maximum period of the pattern; weights that need a longer one are rounded to multiples of its inverse."""

_MM1_5 = {"captions": 0.50, "interleaved": 0.10, "text": 0.40}
WEIGHT_PRESETS = {
    "mm1": {"captions": 0.45, "interleaved": 0.45, "text": 0.10},
    "mm1_5": _MM1_5,
    "mm1.5": _MM1_5,
    "sft": {"instructions": 0.70, "captions": 0.10, "interleaved": 0.15, "text": 0.05},
    **{name: nominal_weights(name) for name in presets()},
}
"""Presets of weights: MM1 4, MM1.5 4 (50 % captions, 10 % interleaved, 40 % text), fine-tuning that keeps what pre-training
taught (ours, docs/reference/recipes.md), and the papers' mixtures of instruction sets (:mod:`mm1.data.load.sets`)."""
TEXT_BASE = "text"
"""Named weights of the mixture for the text base: the source text. Without it, the first given source takes its place, since a
decoder from a folder needs no text, but does need a mixture's sizes."""
SYNTHETIC, CAPTIONS, INSTRUCTIONS = "synthetic", "captions", "instructions"
MAX_DENOMINATOR = 1_000
TOLERANCE = Fraction(1, 10**7)


class Mixture:
    """An endless order of sources.

    Args:
        weights: one non-negative weight per source; only their ratios matter.

    Attributes:
        shares: the exact share of each source.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        per_period = _sequences_per_period(weights)
        self.period = sum(per_period)
        self.shares = [Fraction(number, self.period) for number in per_period]
        self._sources = _earliest_deadline_first(per_period)
        one_hot = self._sources[:, None] == np.arange(len(per_period))
        self._before = np.vstack([np.zeros(len(per_period), np.int64), np.cumsum(one_hot, axis=0)])

    def locate(self, sequence: int) -> tuple[int, int]:
        """Look up the source of a sequence, and its index among the sequences of that source."""
        periods, position = divmod(sequence, self.period)
        source = int(self._sources[position])
        return source, periods * int(self._before[-1, source]) + int(self._before[position, source])

    def counts(self, num_sequences: int) -> list[int]:
        """Return the number of sequences of each source among the first ``num_sequences``."""
        periods, position = divmod(num_sequences, self.period)
        return [int(count) for count in periods * self._before[-1] + self._before[position]]


def parse_weights(text: str) -> dict[str, float]:
    """Parse ``captions=0.45,interleaved=0.45,text=0.10``, with sub-sources such as ``captions/cc12m=0.3``, or a preset's name.

    Raises:
        ConfigurationError: malformed weights, a negative weight, or a duplicate name.
    """
    if text.strip() in WEIGHT_PRESETS:
        return dict(WEIGHT_PRESETS[text.strip()])
    if text.strip() == TEXT_BASE:
        return {TEXT_BASE: 1.0}
    weights: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = (part.strip() for part in item.rpartition("="))
        try:
            weight = parse_number(value)
        except ValueError:
            weight = -1.0
        if not separator or not name or weight < 0:
            raise ConfigurationError(
                f"weights: expected source=share, for example captions=0.45, or one of "
                f"{', '.join(WEIGHT_PRESETS)}, got {item!r}"
            )
        if name in weights:
            raise ConfigurationError(f"weights: duplicate source {name!r}")
        if not parent_of(name) or (name != parent_of(name) and not group_of(name)):
            raise ConfigurationError(f"weights: expected a source or source/group, for example captions/cc12m, got {name!r}")
        weights[name] = weight
    if not sum(weights.values()) > 0:
        raise ConfigurationError(f"weights: the sum of {text!r} is zero; set at least one positive share")
    return weights


def weights_of(text: str, given: Collection[str]) -> tuple[dict[str, float], list[str]]:
    """Return the positive weights of the sources that exist.

    The weights of a preset go to the sources that are given, but fine-tuning needs its instructions; other weights must name
    given sources.

    Args:
        text: see :func:`parse_weights`.
        given: names of the ingested sources, without sub-sources.

    Returns:
        Weights by source or sub-source, and a sentence for each preset's weight that went elsewhere.

    Raises:
        ConfigurationError: invalid weights, or none for a given source.
    """
    weights = {name: weight for name, weight in parse_weights(text).items() if weight}
    missing = [name for name in weights if parent_of(name) not in given]
    if not missing:
        return weights, []
    preset = text.strip()
    if preset == TEXT_BASE and given:
        instead = next(iter(given))
        return {instead: 1.0}, [f"text is not ingested: {instead} takes its place, and a text base cannot be trained on it"]
    required = [name for name in missing if preset not in WEIGHT_PRESETS or parent_of(name) == INSTRUCTIONS]
    if required:
        first = required[0]
        raise ConfigurationError(
            f"weights: {first!r} has a weight but is not ingested: give {parent_of(first)}=, or weights without it; "
            f"ingested sources: {', '.join(given) or 'none'}"
        )
    notes = []
    if CAPTIONS in missing and SYNTHETIC in given:
        weights[SYNTHETIC] = weights[CAPTIONS]
        notes.append(f"captions is not ingested: its weight {weights[CAPTIONS]:g} goes to synthetic")
    rest = {name: weight for name, weight in weights.items() if name not in missing}
    if not rest:
        raise ConfigurationError(
            f"weights: {preset} mixes {', '.join(weights)}, but the ingested sources are {', '.join(given) or 'none'}: "
            f"set weights of those{f', for example {next(iter(given))}=1' if given else ''}"
        )
    notes += [
        f"{name} is not ingested: its weight {weights[name]:g} goes to the others"
        for name in missing
        if not (name == CAPTIONS and SYNTHETIC in given)
    ]
    return rest, notes


def with_synthetic(weights: Mapping[str, float], share: float) -> dict[str, float]:
    """Move a share of the captions' weight to the source of synthetic captions.

    Args:
        weights: weights by source.
        share: fraction of synthetic captions among all captions (MM1 3.3: about 7 %); ignored if the weights name the source.
    """
    captions = {name: weight for name, weight in weights.items() if parent_of(name) == CAPTIONS}
    if any(parent_of(name) == SYNTHETIC for name in weights) or not captions or not share:
        return dict(weights)
    kept = {name: weight * (1 - share) for name, weight in captions.items()}
    return {**weights, **kept, SYNTHETIC: sum(captions.values()) * share}


def check_period(weights: Mapping[str, float]) -> None:
    """Check that each source with a positive weight occurs in the pattern.

    Raises:
        ConfigurationError: a weight is too small.
    """
    positive = {name: weight for name, weight in weights.items() if weight}
    for name, share in zip(positive, Mixture([*positive.values()]).shares, strict=True):
        if not share:
            raise ConfigurationError(
                f"weights: {name} would get less than one of {MAX_PERIOD:,} sequences: set a larger weight, or leave it out"
            )


def _sequences_per_period(weights: Sequence[float]) -> list[int]:
    """Compute the number of sequences of each source in one period."""
    exact = [_simplest_fraction(weight) for weight in weights]
    if any(weight < 0 for weight in exact) or not sum(exact) > 0:
        raise ConfigurationError(f"weights {list(weights)} must not be negative or sum to zero")
    total = sum(exact)
    shares = [weight / total for weight in exact]
    period = lcm(*(share.denominator for share in shares))
    if period <= MAX_PERIOD:
        return [int(share * period) for share in shares]
    rounded = [int(share * MAX_PERIOD) for share in shares]
    remainders = sorted(range(len(shares)), key=lambda source: (rounded[source] - shares[source] * MAX_PERIOD, source))
    for source in remainders[: MAX_PERIOD - sum(rounded)]:
        rounded[source] += 1
    return rounded


def _simplest_fraction(weight: float) -> Fraction:
    """Convert a decimal to the fraction it stands for: 0.333333333 is a third."""
    exact = Fraction(str(weight))
    simple = exact.limit_denominator(MAX_DENOMINATOR)
    return simple if abs(simple - exact) < TOLERANCE * exact else exact


def _earliest_deadline_first(per_period: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    period = sum(per_period)
    active = [source for source, number in enumerate(per_period) if number]
    done = [0] * len(per_period)
    order = np.empty(period, np.int64)
    for position in range(period):
        released = (source for source in active if done[source] * period // per_period[source] <= position)
        chosen = min(released, key=lambda source: (-(-(done[source] + 1) * period // per_period[source]), source))
        order[position] = chosen
        done[chosen] += 1
    return order
