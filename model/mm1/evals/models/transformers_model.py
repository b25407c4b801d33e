"""A model that plain transformers loads, in this process.

    prompts -> texts and images -> batches (equal numbers of images, similar lengths) -> processor -> generate or forward

Prompts are padded on the left to generate and on the right to score, so that no answer depends on its batch. When memory runs
out, the batch is halved.

Names of dimensions: B prompts, S tokens (with padding), V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from mm1.errors import ConfigurationError, OutOfMemory, typed
from mm1.evals.models.base import OnBatch
from mm1.evals.models.config import ModelSettings
from mm1.evals.models.rendering import Rendered, Renderer
from mm1.evals.models.scoring import Row, TokenScore, rows_of
from mm1.evals.models.stopping import StopPerRow
from mm1.generation.images import read_image
from mm1.generation.prompt import AnyPrompt, Completion, Image, Likelihood
from mm1.generation.transcript import Transcript

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class TransformersModel:
    """An image-text-to-text model of transformers.

    Args:
        model: the model.
        processor: its processor, with a tokenizer.
        name: name for messages and reports.
        batch_size: prompts per batch.
    """

    can_score = True

    def __init__(self, model: Any, processor: Any, name: str, batch_size: int = 64) -> None:
        self.model = model.eval()
        self.processor = processor
        self.name = name
        self.batch_size = batch_size
        self.render = Renderer(processor, name)
        tokenizer = processor.tokenizer
        ends = getattr(model.generation_config, "eos_token_id", None)
        listed = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self.stop_ids = frozenset(int(token) for token in listed if token is not None)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._make_greedy()

    @classmethod
    def load(cls, folder: Path, settings: ModelSettings) -> TransformersModel:
        """Load a folder.

        Raises:
            ConfigurationError: transformers cannot load it as an image-text-to-text model, or a package is missing.
            CheckpointError: tensors are missing or of another shape.
        """
        from mm1.evals.models.transformers_folder import load_folder

        return cls(*load_folder(folder, settings), str(folder), settings.batch_size)

    def _make_greedy(self) -> None:
        """Replace the folder's settings, such as a repetition penalty: answers are greedy, as in all evaluations."""
        from transformers import GenerationConfig

        self.model.generation_config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            eos_token_id=sorted(self.stop_ids) or None,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            bos_token_id=self.processor.tokenizer.bos_token_id,
        )

    # -- the contract -----------------------------------------------------------------------------------------------

    def generate(
        self, asks: Sequence[AnyPrompt], *, max_new_tokens: int, stop: Sequence[str] = (), on_batch: OnBatch | None = None
    ) -> list[Completion]:
        """Continue each prompt greedily."""
        prompts = [self.render(ask) for ask in asks]

        def work(batch: Sequence[Rendered]) -> list[Completion]:
            return self._generate(batch, max_new_tokens, stop)

        return self._in_batches(prompts, work, on_batch)

    def score(
        self, asks: Sequence[AnyPrompt], continuations: Sequence[Sequence[str]], on_batch: OnBatch | None = None
    ) -> list[list[Likelihood]]:
        """Compute the log-likelihood of each continuation of each prompt."""
        prompts = [self.render(ask) for ask in asks]
        planned = [rows_of(prompt, texts, self._tokenize) for prompt, texts in zip(prompts, continuations, strict=True)]
        scores = iter(self._in_batches([row for some in planned for row in some.rows], self._score))
        if on_batch:
            on_batch(len(asks))
        return [some.likelihoods([next(scores) for _ in some.rows]) for some in planned]

    def embed_images(self, images: Sequence[Image]) -> np.ndarray | None:
        """Return None: how a model gives the features of an image differs from family to family."""
        return None

    # -- batches ----------------------------------------------------------------------------------------------------

    def _in_batches(
        self, prompts: Sequence[Any], work: Callable[[Sequence[Any]], list[ResultT]], on_batch: OnBatch | None = None
    ) -> list[ResultT]:
        """Work on prompts in batches with equal numbers of images and similar lengths; return results in their order."""
        order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index].images), len(prompts[index].text), index))
        results: dict[int, ResultT] = {}
        while order:
            batch = order[: self.batch_size]
            batch = [index for index in batch if len(prompts[index].images) == len(prompts[batch[0]].images)]
            try:
                outputs = work([prompts[index] for index in batch])
            except (RuntimeError, MemoryError) as error:
                self._halve(len(batch), error)
                continue
            results |= dict(zip(batch, outputs, strict=True))
            order = order[len(batch) :]
            if on_batch:
                on_batch(len(batch))
        return [results[index] for index in range(len(prompts))]

    def _halve(self, size: int, error: RuntimeError | MemoryError) -> None:
        if not isinstance(typed(error), OutOfMemory) or size == 1:
            raise error
        self.batch_size = size // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory with %d prompts per batch; continuing with %d", size, self.batch_size)

    # -- processing -------------------------------------------------------------------------------------------------

    def _inputs(self, prompts: Sequence[Rendered | Row], padding_side: str, max_new_tokens: int = 0) -> Any:
        images = [[read_image(image) for image in prompt.images] for prompt in prompts]
        self.processor.tokenizer.padding_side = padding_side
        inputs = self.processor(
            text=[prompt.text for prompt in prompts],
            images=images if images[0] else None,
            padding=True,
            return_tensors="pt",
            add_special_tokens=self._adds_specials(prompts[0].text),
        )
        self._check_length(int(inputs["attention_mask"].sum(dim=1).max()), max_new_tokens)
        inputs = inputs.to(self.model.device)
        dtype = self.model.dtype
        return {name: value.to(dtype) if torch.is_floating_point(value) else value for name, value in inputs.items()}

    def _adds_specials(self, text: str) -> bool:
        """Whether the tokenizer adds its special tokens; not to a chat template's text that begins with them."""
        bos = self.processor.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def _tokenize(self, text: str) -> list[int]:
        ids = self.processor.tokenizer(text, add_special_tokens=self._adds_specials(text))["input_ids"]
        return [int(token) for token in ids]

    def _check_length(self, num_tokens: int, max_new_tokens: int) -> None:
        config = self.model.config
        limit = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
        if limit is not None and num_tokens + max_new_tokens > limit:
            raise ConfigurationError(
                f"a prompt of {num_tokens} tokens and {max_new_tokens} new tokens exceed the context of {self.name}, {limit}: "
                "use fewer demonstrations, shorter text or fewer images"
            )

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[Rendered], max_new_tokens: int, stop: Sequence[str]) -> list[Completion]:
        from transformers import StoppingCriteriaList

        tokenizer = self.processor.tokenizer
        inputs = self._inputs(prompts, "left", max_new_tokens)
        rows = StopPerRow([Transcript(tokenizer, self.stop_ids, stop, max_new_tokens) for _ in prompts])
        self.model.generate(**inputs, max_new_tokens=max_new_tokens, stopping_criteria=StoppingCriteriaList([rows]))
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [transcript.completion(length) for transcript, length in zip(rows.transcripts, lengths, strict=True)]

    @torch.inference_mode()
    def _score(self, rows: Sequence[Row]) -> list[list[TokenScore]]:
        """Compute the log-probabilities of the last tokens of each row, and whether each is the most likely one."""
        inputs = self._inputs(rows, "right")
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        width = inputs["input_ids"].shape[1]
        positions = [row.positions(length) for length, row in zip(lengths, rows, strict=True)]
        needed = width - min(some.start for some in positions)
        logits_BSV = self.model(**inputs, use_cache=False, logits_to_keep=needed).logits
        first = width - logits_BSV.shape[1]  # a model may return all
        results = []
        for number, row in enumerate(rows):
            logprobs_SV = logits_BSV[number, [position - first for position in positions[number]]].float().log_softmax(dim=-1)
            targets = row.targets(inputs["input_ids"][number, : lengths[number]].tolist())
            results.append(_token_scores(logprobs_SV, targets))
        return results


def _token_scores(logprobs_SV: torch.Tensor, targets: Sequence[Sequence[int]]) -> list[TokenScore]:
    likeliest_S = logprobs_SV.argmax(dim=-1).tolist()
    return [
        (float(logprobs_SV[position, token]), token == likeliest_S[position])
        for position, tokens in enumerate(targets)
        for token in tokens
    ]
