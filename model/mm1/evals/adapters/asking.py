"""Requests of other harnesses, put to a model in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mm1.evals.models.base import EvalModel
from mm1.generation.prompt import AnyPrompt

DEFAULT_NEW_TOKENS = 256
"""Maximum length of an answer for which a task sets none, as in lm-evaluation-harness."""


def continuation_scores(model: EvalModel, asks: Sequence[AnyPrompt], continuations: Sequence[str]) -> list[tuple[float, bool]]:
    """Compute log-likelihood and greediness of one continuation of each prompt; equal prompts in a row are processed once."""
    groups: list[tuple[AnyPrompt, list[str]]] = []
    for ask, continuation in zip(asks, continuations, strict=True):
        if groups and groups[-1][0] == ask:
            groups[-1][1].append(continuation)
        else:
            groups.append((ask, [continuation]))
    scored = model.score([ask for ask, _ in groups], [texts for _, texts in groups])
    return [(likelihood.logprob, likelihood.is_greedy) for row in scored for likelihood in row]


def greedy_texts(model: EvalModel, asks: Sequence[AnyPrompt], settings: Sequence[dict[str, Any]]) -> list[str]:
    """Continue each prompt greedily with its generation settings.

    Raises:
        ValueError: the settings ask for sampling or beams.
    """
    groups: dict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)
    for index, fields in enumerate(settings):
        groups[_stop_and_length(fields)].append(index)
    texts: dict[int, str] = {}
    for (stop, length), rows in groups.items():
        completions = model.generate([asks[row] for row in rows], max_new_tokens=length, stop=stop)
        texts |= {row: completion.text for row, completion in zip(rows, completions, strict=True)}
    return [texts[index] for index in range(len(asks))]


def _stop_and_length(fields: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    if (fields.get("do_sample") and fields.get("temperature", 1.0) != 0) or int(fields.get("num_beams") or 1) > 1:
        raise ValueError(f"mm1 generates greedily; expected do_sample=false and num_beams=1, got {fields}")
    until = fields.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    lengths = (fields.get(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens"))
    return tuple(text for text in stop if text), int(next((each for each in lengths if each), DEFAULT_NEW_TOKENS))
