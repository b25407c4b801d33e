"""Processing of the prompts of new asks, a part at a time, next to the running answers.

    Prompt -> known blocks from the prefix cache -> parts of at most `prefill_tokens`, several prompts together -> Processed

Prompts are taken by turns in order of arrival and of length, so that neither a long one nor many short ones wait for ever. Of
prompts with the same beginning, one is processed first; the others then find it in the prefix cache.

Names of dimensions: T image tokens, S tokens of a part, D width of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mm1.generation.answers import TextOf, prompt_logprobs
from mm1.generation.asks import TokenLogprob
from mm1.generation.cache import RowCache, RowStates
from mm1.generation.decode import Decoder, DecodingState
from mm1.generation.encode import Encoded, PromptEncoder
from mm1.generation.prefix_cache import BLOCK_TOKENS, PrefixCache, block_names
from mm1.generation.prompt import Image


@dataclass(eq=False)
class Prompt:
    """A prompt to process."""

    owner: Any
    """Owner of the prompt; returned with the result."""
    encoded: Encoded
    top_logprobs: int | None = None
    """Number of likeliest tokens to list at each position; None = no log-probabilities."""
    names: Sequence[bytes] = ()
    """Names of its blocks in the prefix cache."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    position: int = 0
    """Number of tokens processed."""
    num_cached: int = 0
    """Number of them that were found in the prefix cache."""
    states: RowStates | None = None

    @property
    def remaining(self) -> int:
        """Number of tokens that are not processed."""
        return len(self.encoded.tokens) - self.position


@dataclass(frozen=True)
class Processed:
    """A prompt that is complete, or that failed."""

    prompt: Prompt
    states: RowStates = field(default_factory=list)
    last: torch.Tensor | None = None
    """Output of the decoder at its last token, (D,)."""
    error: Exception | None = None


class Prefill:
    """Prompts in progress.

    Args:
        decoder: passes of the model.
        encoder: encodes images.
        cache: keeps the beginnings of prompts.
        text_of: decodes one token.
    """

    def __init__(self, decoder: Decoder, encoder: PromptEncoder, cache: PrefixCache, text_of: TextOf) -> None:
        self.prompts: list[Prompt] = []
        self.cache = cache
        self._decoder, self._encoder, self._text_of = decoder, encoder, text_of
        self._by_length = False
        self._max_group = 1 << 30

    def prepare(self, owner: Any, encoded: Encoded, top_logprobs: int | None = None) -> Prompt:
        """Create a prompt; any thread may call this."""
        if top_logprobs is not None or not self.cache.max_bytes:  # what is in the cache has no logits
            return Prompt(owner, encoded, top_logprobs)
        return Prompt(owner, encoded, names=block_names(encoded, self._encoder.image_token_id, self._encoder.image_tokens))

    def step(self, max_tokens: int) -> list[Processed]:
        """Process a part of some prompts.

        Args:
            max_tokens: maximum number of tokens, padding included.

        Returns:
            Prompts that are complete, and those that failed. If several prompts fail together, all are tried again in smaller
            groups, so that only the ones concerned fail.
        """
        group = self._choose(max_tokens)
        if not group:
            return []
        features, failed = self._features(group, max_tokens)
        group = [prompt for prompt in group if id(prompt) in features]
        try:
            done = self._process(group, [features[id(prompt)] for prompt in group], max_tokens) if group else []
        except Exception as error:  # noqa: BLE001  passed on to the asks concerned
            if len(group) > 1:
                self._max_group = len(group) // 2
                return failed
            self.prompts.remove(group[0])
            return [*failed, Processed(group[0], error=error)]
        self._max_group = max(1, self._max_group * 2)
        return failed + done

    def _choose(self, max_tokens: int) -> list[Prompt]:
        """Choose the prompts of the next part: as many as fit, at least one."""
        self._by_length = not self._by_length
        group: list[Prompt] = []
        starting: set[bytes] = set()
        longest = 0
        for prompt in sorted(self.prompts, key=lambda prompt: prompt.remaining) if self._by_length else self.prompts:
            self._look_up(prompt)
            block = next(iter(prompt.names[prompt.position // BLOCK_TOKENS :]), None)
            if block in starting:
                continue
            longest = max(longest, prompt.remaining)
            if group and (longest * (len(group) + 1) > max_tokens or len(group) >= self._max_group):
                break
            group.append(prompt)
            if block is not None:
                starting.add(block)
        return group

    def _look_up(self, prompt: Prompt) -> None:
        if prompt.position == 0 and (count := self.cache.match(prompt.names)):
            prompt.states = self.cache.states(prompt.names[:count])
            prompt.position = prompt.num_cached = count * BLOCK_TOKENS

    def _features(self, group: Sequence[Prompt], max_tokens: int) -> tuple[dict[int, torch.Tensor | None], list[Processed]]:
        """Encode the images of the next parts: features_TD of each prompt; together, or one by one to see which one fails."""
        features: dict[int, torch.Tensor | None] = {}
        failed: list[Processed] = []
        spans = [self._image_span(prompt, min(prompt.remaining, max_tokens)) for prompt in group]
        try:
            features_NKD = self._encoder.features([image for images, _ in spans for image in images])
        except Exception as error:  # noqa: BLE001  passed on to the asks concerned
            if len(group) == 1:
                self.prompts.remove(group[0])
                return {}, [Processed(group[0], error=error)]
            for prompt in group:
                its_features, its_failure = self._features([prompt], max_tokens)
                features |= its_features
                failed += its_failure
            return features, failed
        start = 0
        for prompt, (images, tokens) in zip(group, spans, strict=True):
            rows_NKD = None if features_NKD is None or not images else features_NKD[start : start + len(images)]
            features[id(prompt)] = None if rows_NKD is None else rows_NKD.flatten(0, 1)[tokens]
            start += len(images)
        return features, failed

    def _image_span(self, prompt: Prompt, count: int) -> tuple[Sequence[Image], slice]:
        """Return the images that have tokens in the next part of a prompt, and the part of their tokens that is in it."""
        image_token, per_image = self._encoder.image_token_id, self._encoder.image_tokens
        tokens, start = prompt.encoded.tokens, prompt.position
        before, within = tokens[:start].count(image_token), tokens[start : start + count].count(image_token)
        first, last = before // per_image, -(-(before + within) // per_image)
        skipped = before - first * per_image
        return (prompt.encoded.images[first:last] if within else ()), slice(skipped, skipped + within)

    def _process(self, group: Sequence[Prompt], features: Sequence[torch.Tensor | None], max_tokens: int) -> list[Processed]:
        parts = [prompt.encoded.tokens[prompt.position :][:max_tokens] for prompt in group]
        given = [features_TD for features_TD in features if features_TD is not None]
        state = self._decoder.extend(
            parts,
            torch.cat(given) if given else None,
            _merged(group),
            keep_hidden=any(prompt.top_logprobs is not None for prompt in group),
        )
        logprobs = [
            self._logprobs(prompt, state, row, len(part)) for row, (prompt, part) in enumerate(zip(group, parts, strict=True))
        ]
        processed = []
        for row, (prompt, part) in enumerate(zip(group, parts, strict=True)):  # from here on nothing fails
            prompt.logprobs += logprobs[row]
            prompt.position += len(part)
            prompt.states = state.row(row)
            self._store(prompt, prompt.states)
            if not prompt.remaining:
                self.prompts.remove(prompt)
                processed.append(Processed(prompt, prompt.states, state.last_BD[row]))
                prompt.states = None
        return processed

    def _store(self, prompt: Prompt, states: RowStates) -> None:
        try:
            self.cache.store(prompt.names[: prompt.position // BLOCK_TOKENS], prompt.num_cached // BLOCK_TOKENS, states)
        except (RuntimeError, MemoryError):  # no memory for it
            self.cache.clear()

    def _logprobs(self, prompt: Prompt, state: DecodingState, row: int, count: int) -> list[TokenLogprob]:
        """Compute the log-probabilities of the tokens after each of this part; of images and the first token there are none."""
        if prompt.top_logprobs is None or state.hidden_BSD is None:
            return []
        first = [] if prompt.position else [self._unpredicted(prompt.encoded.tokens[0])]
        targets = prompt.encoded.tokens[prompt.position + 1 : prompt.position + 1 + count]
        values = prompt_logprobs(
            self._decoder.logits, state.hidden_BSD[row, : len(targets)], targets, prompt.top_logprobs, self._text_of
        )
        image = self._encoder.image_token_id
        return first + [self._unpredicted(item.token) if item.token == image else item for item in values]

    def _unpredicted(self, token: int) -> TokenLogprob:
        return TokenLogprob(token, self._text_of(token), None)


def _merged(group: Sequence[Prompt]) -> DecodingState | None:
    """Put the states of prompts that are processed in part into one state; None if there are none."""
    example = next((prompt.states for prompt in group if prompt.states), None)
    if example is None:
        return None
    rows = [prompt.states or [tensor[:, :0] for tensor in example] for prompt in group]
    with torch.inference_mode():
        cache = RowCache.of_rows(rows)
    # No prompt has an empty part, so the outputs before it are not needed.
    return DecodingState(cache, [prompt.position for prompt in group], example[0].new_zeros(len(group), 0))
