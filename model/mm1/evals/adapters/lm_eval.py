"""lm-evaluation-harness: our models as its model class ``mm1``, and our tasks as its tasks.

    python -m mm1.evals.adapters run --model mm1 --model_args pretrained=FOLDER --tasks arc_easy --num_fewshot 4
    lm-eval run --model hf-multimodal --model_args pretrained=... --include_path FOLDER --tasks mm1_vqa_0shot

The first is its command line, with the class registered; the YAML files of the second are written by
`mm1.evals.adapters.write_tasks`. Written for lm-eval 0.4.13.
"""

from __future__ import annotations

import json
from typing import Any

# Registers the harness's own classes, which it does not do once there is another.
import lm_eval.models  # noqa: F401
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.api.task import ConfigurableTask

from mm1.errors import ConfigurationError
from mm1.evals.adapters.asking import continuation_scores, greedy_texts
from mm1.evals.adapters.opening import load_by_name
from mm1.evals.adapters.rounds import SPLIT, HarnessRound, request_from, request_of
from mm1.evals.models.base import EvalModel
from mm1.evals.models.own import OwnModel
from mm1.generation.prompt import AnyPrompt, Conversation, Message, Request

_CHAT = "mm1-chat:"
"""Begins a context that holds the messages of a conversation as JSON."""


class _Row(dict[str, Any]):
    """A row of one of our tasks with the exact segments of its prompt."""

    request: Request


class HarnessTask(ConfigurableTask):
    """One of our tasks at one number of shots. A row with choices is scored by likelihood, any other by generation.

    Args:
        config: the fields of `HarnessRound.of`, and `task`, its name in the harness.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        config = dict(config or {})
        self.round = HarnessRound.of(config)
        rows = self.round.rows()
        has_images = any(request_of(trial).images for trial in self.round.trials)
        super().__init__(
            config=self.round.task_config(config)
            | {
                "custom_dataset": lambda **_: {SPLIT: _dataset(rows)},
                "doc_to_image": self.round.images if has_images else None,
            }
        )

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance] | Instance:
        """Make the requests of a row: one per choice, or one for a text."""
        row = _Row(doc)
        row.request = request_of(self.round.trials[doc["index"]])
        visuals = ({"visual": self.round.images(doc)},) if row.request.images else ()
        known = {name: value for name, value in kwargs.items() if name == "metadata"}
        if not doc["continuations"]:
            arguments = (ctx, dict(self.config.generation_kwargs), *visuals)
            return Instance(request_type="generate_until", doc=row, arguments=arguments, idx=0, **known)
        return [
            Instance(request_type="loglikelihood", doc=row, arguments=(ctx, text, *visuals), idx=number, **known)
            for number, text in enumerate(doc["continuations"])
        ]


def _dataset(rows: list[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


@register_model("mm1")
class HarnessModel(LM):
    """A model of this project, or any that `mm1 eval` loads, in the harness.

    Args:
        pretrained: what `mm1 eval` takes as MODEL: a folder, an address, a checkpoint.
        model: a loaded model instead.
    """

    MULTIMODAL = True

    def __init__(self, pretrained: str = "", model: EvalModel | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = model or load_by_name(pretrained, settings)

    @property
    def tokenizer_name(self) -> str:
        """Name of the model, by which the harness caches requests."""
        return self.model.name.replace("/", "__")

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score one continuation of each prompt."""
        return continuation_scores(self.model, [_ask(each) for each in requests], [each.args[1] for each in requests])

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue each prompt greedily."""
        return greedy_texts(self.model, [_ask(each) for each in requests], [each.args[1] for each in requests])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Compute the log-likelihood of whole texts, in windows of the model's context, after the end-of-text token."""
        if not isinstance(self.model, OwnModel):
            raise ConfigurationError(f"{self.model.name} does not support whole-text log-likelihoods; expected an MM1 model")
        return [_text_likelihood(self.model.generator, each.args[0]) for each in requests]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Keep the messages; the model's own template renders them when they are answered.

        Raises:
            ConfigurationError: the last message is to be continued, which likelihood tasks need.
        """
        if not add_generation_prompt:
            raise ConfigurationError("mm1 does not continue an assistant message; omit --apply_chat_template")
        return _CHAT + json.dumps(chat_history)


def _ask(instance: Instance) -> AnyPrompt:
    context = instance.args[0]
    if isinstance(instance.doc, _Row) and context == instance.doc["prompt"]:
        return instance.doc.request
    extra = instance.args[2] if len(instance.args) > 2 else {}
    pictures = list(extra.get("visual") or ())
    if context.startswith(_CHAT):
        history = json.loads(context.removeprefix(_CHAT))
        return Conversation(tuple(Message(turn["role"], (turn["content"],)) for turn in history))
    # A text has to follow something, so that its first token has a probability.
    return request_from(context or "\n", pictures)


def _text_likelihood(generator: Any, text: str) -> float:
    import torch
    from lm_eval.utils import get_rolling_token_windows

    tokenizer, model = generator.processor.tokenizer, generator.model
    length = model.config.text_config.max_position_embeddings
    tokens = generator.processor.encode(text)
    total = 0.0
    for read, predicted in get_rolling_token_windows(tokens, tokenizer.eos_token_id, length, 1):
        ids = torch.tensor([read], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(predicted) :]
        target = torch.tensor(predicted, device=model.device)
        total += float(torch.log_softmax(logits.float(), dim=-1).gather(1, target[:, None]).sum())
    return total
