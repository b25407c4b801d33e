"""Batched generation and scoring with shared prefixes, for evaluation and serving.

    requests -> encode -> batches (equal prefixes side by side, similar lengths together)
             -> each prefix once -> rows selected -> prompts -> decode until all are done  (generate, stream)
                                                             -> likelihood of choices      (score)

Requests whose prefix is not shared are processed in one pass. Greedy tokens equal those of transformers' `generate` on each
prompt alone (tested).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch

from mm1.errors import ConfigurationError
from mm1.generation.config import BatchSettings, Sampling
from mm1.generation.decode import DecodingState, extend
from mm1.generation.device import choose_device, move_to
from mm1.generation.encode import Encoded, PromptEncoder
from mm1.generation.prompt import Completion, Likelihood, Prompt, Request
from mm1.generation.sampling import TokenChooser
from mm1.generation.transcript import Transcript
from mm1.modeling.stopping import num_token_ids, stop_token_ids

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
        self._extend_state = partial(extend, self.model, num_tokens=num_token_ids(processor.tokenizer))

    def generate(
        self,
        requests: Sequence[Request],
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
            sampling: sampling of tokens; greedy by default.
            on_batch: progress callback.

        Returns:
            One completion per request, in the same order.

        Raises:
            ConfigurationError: a prompt does not fit the model's context.
            DataError: an image cannot be read.
        """
        chooser = TokenChooser(sampling or Sampling())
        results: dict[int, Completion] = {}
        for jobs in self._batches(requests, max_new_tokens):
            transcripts = [self._transcript(stop, max_new_tokens) for _ in jobs]
            self._decode(self._prefill(jobs), transcripts, chooser)
            for job, transcript in zip(jobs, transcripts, strict=True):
                results[job.index] = transcript.completion(job.num_tokens)
            if on_batch:
                on_batch(len(jobs))
        return [results[index] for index in range(len(requests))]

    def stream(
        self, request: Request, *, max_new_tokens: int, stop: Sequence[str] = (), sampling: Sampling | None = None
    ) -> Iterator[Transcript]:
        """Continue one prompt; yields the same growing transcript after each token, until it is done."""
        chooser = TokenChooser(sampling or Sampling())
        ((job,),) = self._batches([request], max_new_tokens)
        transcript = self._transcript(stop, max_new_tokens)
        state = self._prefill([job])
        while not transcript.done:
            (token,) = chooser(state.next_logits)
            transcript.push(token)
            yield transcript
            if not transcript.done:
                state = self._extend_state([[token]], state=state)

    def score(
        self, requests: Sequence[Request], continuations: Sequence[Sequence[str]], on_batch: OnBatch | None = None
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
        """
        tokens = [[self.encoder.tokenize(text) for text in texts] for texts in continuations]
        if not all(ids for texts in tokens for ids in texts):
            raise ConfigurationError("a continuation to score is empty: expected at least one token")
        longest = max((len(ids) for texts in tokens for ids in texts), default=0)
        results: dict[int, list[Likelihood]] = {}
        for jobs in self._batches(requests, longest):
            choices = [tokens[job.index] for job in jobs]
            for job, scores in zip(jobs, self._score_batch(self._prefill(jobs), choices), strict=True):
                results[job.index] = scores
            if on_batch:
                on_batch(len(jobs))
        return [results[index] for index in range(len(requests))]

    # -- batches ----------------------------------------------------------------------------------------------------

    def _batches(self, requests: Sequence[Request], max_new_tokens: int) -> list[list[_Job]]:
        prefixes: dict[Prompt, tuple[int, Encoded]] = {}
        jobs = []
        for index, request in enumerate(requests):
            if request.prefix not in prefixes:
                prefixes[request.prefix] = (len(prefixes), self.encoder.encode(request.prefix))
            key, prefix = prefixes[request.prefix]
            job = _Job(index, prefix, self.encoder.encode(request.prompt), key)
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
        state = self._extend(list(keys.values()))
        rows = {key: row for row, key in enumerate(keys)}
        state.select([rows[job.prefix_key] for job in jobs])
        return self._extend([job.prompt for job in jobs], state)

    def _extend(self, encoded: Sequence[Encoded], state: DecodingState | None = None) -> DecodingState:
        images = list(chain.from_iterable(item.images for item in encoded))
        return self._extend_state([item.tokens for item in encoded], self.encoder.features(images), state)

    # -- decoding and scoring ---------------------------------------------------------------------------------------

    def _transcript(self, stop: Sequence[str], max_new_tokens: int) -> Transcript:
        return Transcript(self.processor.tokenizer, self.stop_ids, stop, max_new_tokens)

    def _decode(self, state: DecodingState, transcripts: Sequence[Transcript], chooser: TokenChooser) -> None:
        active = list(transcripts)
        while True:
            tokens = chooser(state.next_logits)
            for transcript, token in zip(active, tokens, strict=True):
                if not transcript.done:
                    transcript.push(token)
            unfinished = [row for row, transcript in enumerate(active) if not transcript.done]
            if not unfinished:
                return
            if len(unfinished) <= len(active) * 3 // 4:  # drop finished rows when that saves more than it costs
                state.select(unfinished)
                active = [active[row] for row in unfinished]
                tokens = [tokens[row] for row in unfinished]
            state = self._extend_state([[token] for token in tokens], state=state)

    def _score_batch(self, state: DecodingState, choices: Sequence[Sequence[Sequence[int]]]) -> list[list[Likelihood]]:
        first_BV = state.next_logits.log_softmax(dim=-1)
        results = [[_likelihood(first_BV[row : row + 1], ids[:1]) for ids in texts] for row, texts in enumerate(choices)]
        longer = [(row, n, ids) for row, texts in enumerate(choices) for n, ids in enumerate(texts) if len(ids) > 1]
        if longer:
            state.select([row for row, _, _ in longer])
            state = self._extend_state([ids[:-1] for _, _, ids in longer], state=state, all_logits=True)
            for (row, n, ids), logits_SV in zip(longer, state.logits, strict=True):
                first, rest = results[row][n], _likelihood(logits_SV[1 - len(ids) :].log_softmax(dim=-1), ids[1:])
                results[row][n] = Likelihood(first.logprob + rest.logprob, len(ids), first.is_greedy and rest.is_greedy)
        return results


def _likelihood(logprobs_SV: torch.Tensor, ids: Sequence[int]) -> Likelihood:
    targets_S = torch.tensor(ids, device=logprobs_SV.device)
    logprob = float(logprobs_SV.gather(1, targets_S[:, None]).sum())
    return Likelihood(logprob, len(ids), bool((logprobs_SV.argmax(dim=-1) == targets_S).all()))


def _stop_ids(model: Any, processor: Any) -> frozenset[int]:
    """Return the tokens that end an answer: end of document, end of turn, and the image token."""
    return frozenset([*stop_token_ids(processor.tokenizer, model.generation_config), int(model.config.image_token_id)])
