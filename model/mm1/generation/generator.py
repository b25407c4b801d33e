"""Batched generation and scoring with shared prefixes, for evaluation.

    requests -> encode -> batches (equal prefixes side by side, similar lengths together)
             -> each prefix once -> rows selected -> prompts -> decode until all are done  (generate)
                                                             -> likelihood of choices      (score)

Requests whose prefix is not shared are processed in one pass. Greedy tokens equal those of transformers' `generate` on each
prompt alone (tested). A server answers with `engine.Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch

from mm1.errors import ConfigurationError
from mm1.generation.answers import Answer, advance
from mm1.generation.config import BatchSettings, Sampling
from mm1.generation.decode import Decoder, DecodingState
from mm1.generation.device import choose_device, move_to
from mm1.generation.encode import Encoded, PromptEncoder
from mm1.generation.prompt import AnyPrompt, Completion, Likelihood
from mm1.generation.sampling import TokenChooser
from mm1.generation.transcript import Transcript
from mm1.modeling.stopping import stop_token_ids

OnBatch = Callable[[int], None]
"""Called after each batch with its number of requests."""


@dataclass(frozen=True)
class _Job:
    index: int
    prefix: Encoded
    prompt: Encoded
    prefix_key: int

    @property
    def num_tokens(self) -> int:
        return len(self.prefix.tokens) + len(self.prompt.tokens)


class Generator:
    """A model that continues and scores prompts.

    Args:
        model: an `MM1ForConditionalGeneration`; it is set to evaluation mode, and moved to the GPU if there is one.
        processor: its `MM1Processor`.
        settings: batching of the work.
    """

    def __init__(self, model: Any, processor: Any, settings: BatchSettings | None = None) -> None:
        self.model = move_to(model.eval(), *choose_device())
        self.processor = processor
        self.settings = settings or BatchSettings()
        self.encoder = PromptEncoder(model, processor, self.settings)
        self.stop_ids = _stop_ids(model, processor)
        self.decoder = Decoder(self.model, self.encoder.num_token_ids)
        self.text_of = lru_cache(maxsize=65_536)(self._text_of)

    def generate(
        self,
        requests: Sequence[AnyPrompt],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        on_batch: OnBatch | None = None,
    ) -> list[Completion]:
        """Continue each prompt.

        Args:
            requests: prompts in any order.
            max_new_tokens: maximum length of each answer in tokens.
            stop: strings that end an answer; they are not part of it.
            sampling: sampling of tokens; greedy by default. The seed of each answer follows from its index.
            on_batch: progress callback.

        Returns:
            One completion per request, in the same order.

        Raises:
            ConfigurationError: a prompt does not fit the model's context.
            DataError: an image cannot be read.
        """
        sampling = sampling or Sampling()
        results: dict[int, Completion] = {}
        for jobs in self._batches(requests, max_new_tokens):
            answers = [
                Answer(self.transcript(stop, max_new_tokens), TokenChooser(sampling.of_answer(job.index))) for job in jobs
            ]
            self._decode(self._prefill(jobs), answers)
            for job, answer in zip(jobs, answers, strict=True):
                results[job.index] = answer.transcript.completion(job.num_tokens)
            if on_batch:
                on_batch(len(jobs))
        return [results[index] for index in range(len(requests))]

    def score(
        self,
        requests: Sequence[AnyPrompt],
        continuations: Sequence[Sequence[str]],
        on_batch: OnBatch | None = None,
    ) -> list[list[Likelihood]]:
        """Compute the log-likelihood of continuations, for multiple choice.

        Args:
            requests: prompts in any order.
            continuations: possible continuations of each request, with a leading space if needed.
            on_batch: progress callback.

        Returns:
            For each request, the likelihood of each continuation.

        Raises:
            ConfigurationError: a continuation is empty, or a prompt does not fit the model's context.
            DataError: an image cannot be read.
        """
        tokens = [[self.encoder.tokenize(text) for text in texts] for texts in continuations]
        for number, texts in enumerate(tokens):
            if not all(texts):
                raise ConfigurationError(f"a continuation of request {number} is empty: expected at least one token")
        longest = max((len(ids) for texts in tokens for ids in texts), default=0)
        results: dict[int, list[Likelihood]] = {}
        for jobs in self._batches(requests, longest):
            choices = [tokens[job.index] for job in jobs]
            for job, scores in zip(jobs, self._score_batch(self._prefill(jobs), choices), strict=True):
                results[job.index] = scores
            if on_batch:
                on_batch(len(jobs))
        return [results[index] for index in range(len(requests))]

    def transcript(self, stop: Sequence[str], max_new_tokens: int, *, strip: bool = True) -> Transcript:
        """Start the transcript of an answer."""
        return Transcript(self.processor.tokenizer, self.stop_ids, stop, max_new_tokens, strip=strip)

    def _text_of(self, token: int) -> str:
        text: str = self.processor.tokenizer.decode([token])
        return text

    # -- batches ----------------------------------------------------------------------------------------------------

    def _batches(self, requests: Sequence[AnyPrompt], max_new_tokens: int) -> list[list[_Job]]:
        known: dict[Any, Encoded] = {}
        keys: dict[Encoded, int] = {}
        jobs = []
        for index, request in enumerate(requests):
            prefix, prompt = self.encoder.encode_request(request, known)
            job = _Job(index, prefix, prompt, keys.setdefault(prefix, len(keys)))
            self.encoder.check_length(job.num_tokens, max_new_tokens)
            jobs.append(job)
        jobs.sort(key=lambda job: (len(job.prefix.tokens), job.prefix_key, len(job.prompt.tokens), job.index))
        batches: list[list[_Job]] = []
        longest = 0
        for job in jobs:
            longest = max(longest, job.num_tokens + max_new_tokens)
            full = batches and (
                len(batches[-1]) >= self.settings.batch_size or longest * (len(batches[-1]) + 1) > self.settings.batch_tokens
            )
            if not batches or full:
                batches.append([])
                longest = job.num_tokens + max_new_tokens
            batches[-1].append(job)
        return batches

    def _prefill(self, jobs: Sequence[_Job]) -> DecodingState:
        """Process the prompts of a batch; shared prefixes are processed once."""
        prefixes = {job.prefix_key: job.prefix for job in jobs if job.prefix.tokens}
        if not prefixes or len(prefixes) == len(jobs):
            return self._extend([Encoded(j.prefix.tokens + j.prompt.tokens, j.prefix.images + j.prompt.images) for j in jobs])
        keys = {job.prefix_key: job.prefix for job in jobs}  # one of them may be empty: a row of padding only
        rows = {key: row for row, key in enumerate(keys)}
        state = self._extend(list(keys.values())).select([rows[job.prefix_key] for job in jobs])
        return self._extend([job.prompt for job in jobs], state)

    def _extend(self, encoded: Sequence[Encoded], state: DecodingState | None = None) -> DecodingState:
        images = list(chain.from_iterable(item.images for item in encoded))
        features_NKD = self.encoder.features(images)
        features_TD = None if features_NKD is None else features_NKD.flatten(0, 1)
        return self.decoder.extend([item.tokens for item in encoded], features_TD, state)

    # -- decoding and scoring ---------------------------------------------------------------------------------------

    def _decode(self, state: DecodingState, answers: Sequence[Answer]) -> None:
        active = list(answers)
        while True:
            tokens = advance(active, self.decoder.logits(state.last_BD), self.text_of)
            if all(answer.done for answer in active):
                return
            for row in reversed([row for row, answer in enumerate(active) if answer.done]):
                active[row], tokens[row] = active[-1], tokens[-1]  # as in the state: the last row takes this row's number
                active.pop(), tokens.pop()
                state.remove(row)
            state = self.decoder.extend([[token] for token in tokens], state=state)

    def _score_batch(self, state: DecodingState, choices: Sequence[Sequence[Sequence[int]]]) -> list[list[Likelihood]]:
        first_BV = self.decoder.logits(state.last_BD)
        results = [[_likelihood(first_BV[row : row + 1], ids[:1]) for ids in texts] for row, texts in enumerate(choices)]
        longer = [(row, n, ids) for row, texts in enumerate(choices) for n, ids in enumerate(texts) if len(ids) > 1]
        for start in range(0, len(longer), self.settings.batch_size):
            chunk = longer[start : start + self.settings.batch_size]
            whole = self.decoder.extend(
                [ids[:-1] for _, _, ids in chunk], state=state.select([row for row, _, _ in chunk]), keep_hidden=True
            )
            assert whole.hidden_BSD is not None
            for (row, n, ids), hidden_SD in zip(chunk, whole.hidden_BSD, strict=True):
                rest = _likelihood(self.decoder.logits(hidden_SD[: len(ids) - 1]), ids[1:])
                first = results[row][n]
                results[row][n] = Likelihood(first.logprob + rest.logprob, len(ids), first.is_greedy and rest.is_greedy)
        return results


def _likelihood(logits_SV: torch.Tensor, ids: Sequence[int]) -> Likelihood:
    targets_S = torch.tensor(ids, device=logits_SV.device)
    logprobs_S = logits_SV.log_softmax(dim=-1).gather(1, targets_S[:, None])
    return Likelihood(float(logprobs_S.sum()), len(ids), bool((logits_SV.argmax(dim=-1) == targets_S).all()))


def _stop_ids(model: Any, processor: Any) -> frozenset[int]:
    """Return the tokens that end an answer: end of document, end of turn, and the image token."""
    return frozenset([*stop_token_ids(processor.tokenizer, model.generation_config), int(model.config.image_token_id)])
