"""lmms-eval: our models as its model class ``mm1``, and our tasks as its tasks.

    lmms-eval --model mm1 --model_args pretrained=FOLDER --tasks mme
    lmms-eval --model llava_hf --model_args pretrained=... --include_path FOLDER --tasks mm1_vqa_0shot

lmms-eval finds the class by the entry point of `manifest`; the YAML files of the second command are written by
`mm1.evals.adapters.write_tasks`. Written for lmms-eval 0.7.3. It passes a prompt as text followed by its images, so that models
other than ours see the images of demonstrations where their class puts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.api.task import ConfigurableTask

from mm1.evals.adapters.asking import continuation_scores, greedy_texts
from mm1.evals.adapters.opening import load_by_name
from mm1.evals.adapters.rounds import SPLIT, HarnessRound, request_from, request_of
from mm1.evals.models.base import EvalModel
from mm1.generation.prompt import AnyPrompt


class HarnessTask(ConfigurableTask):
    """One of our tasks at one number of shots. A row with choices is scored by likelihood, any other by generation.

    Args:
        config: the fields of `HarnessRound.of`, and `task`, its name in the harness.
    """

    def __init__(self, config: dict[str, Any] | None = None, model_name: str | None = None) -> None:
        config = dict(config or {})
        self.round = HarnessRound.of(config)
        super().__init__(
            config=self.round.task_config(config)
            | {
                "dataset_path": "mm1",
                "doc_to_visual": self.round.images,
                "generation_kwargs": self.round.generation_settings()
                | {"max_new_tokens": self.round.planned.task.max_new_tokens},
            },
            model_name=model_name,
        )

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Make the rows, which lmms-eval would fetch elsewhere; their images are read when they are needed."""
        from datasets import Dataset, DatasetDict

        self.dataset = DatasetDict({SPLIT: Dataset.from_list(self.round.rows())})
        self.dataset_no_image = self.dataset

    def construct_requests(self, doc_id: int, ctx: str, **kwargs: Any) -> list[Instance] | Instance:
        """Make the requests of a row: one per choice, or one for a text."""
        texts = self.dataset[SPLIT][doc_id]["continuations"]
        rest = (self.round.images, doc_id, self.config.task, SPLIT)
        metadata = kwargs.get("metadata")
        if not texts:
            arguments = (ctx, dict(self.config.generation_kwargs), *rest)
            return Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=metadata)
        return [
            Instance(request_type="loglikelihood", arguments=(ctx, text, *rest), idx=number, metadata=metadata)
            for number, text in enumerate(texts)
        ]

    def process_results(self, doc: dict[str, Any], results: Sequence[Any], full_docs: Any = None) -> dict[str, Any]:
        """Return the row and its reply for each metric."""
        return self.round.judged(doc, results)


class HarnessModel(lmms):
    """A model of this project, or any that `mm1 eval` loads, in the harness.

    Args:
        pretrained: what `mm1 eval` takes as MODEL: a folder, an address, a checkpoint.
        model: a loaded model instead.
    """

    is_simple = True

    def __init__(self, pretrained: str = "", model: EvalModel | None = None, **settings: Any) -> None:
        super().__init__()
        self.model = model or load_by_name(pretrained, settings)

    def loglikelihood(self, requests: list[Instance]) -> list[Any]:
        """Score one continuation of each prompt."""
        texts = [_continuation(each, self._row(each)) for each in requests]
        scores = continuation_scores(self.model, [self._ask(each) for each in requests], texts)
        # lmms-eval 0.7.3 turns other results than its own into text, also log-likelihoods.
        return [GenerationResult(text=score) for score in scores]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Continue each prompt greedily."""
        return greedy_texts(self.model, [self._ask(each) for each in requests], [each.args[1] for each in requests])

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refuse multi-round tasks.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("mm1 does not support multi-round tasks in lmms-eval")

    def _row(self, instance: Instance) -> Any:
        _, _, _, doc_id, task, split = instance.args
        return self.task_dict[task][split][doc_id]

    def _ask(self, instance: Instance) -> AnyPrompt:
        context, _, images, *_ = instance.args
        row = self._row(instance)
        owner = getattr(images, "__self__", None)
        if isinstance(owner, HarnessRound) and context == row["prompt"]:
            return request_of(owner.trials[row["index"]])
        return request_from(context or "\n", images(row) or [] if images else [])


def _continuation(instance: Instance, row: Any) -> str:
    text = instance.args[1]
    return str(text(row)) if callable(text) else str(text)


def manifest() -> Any:
    """Return the entry of lmms-eval's model registry (entry point group ``lmms_eval.models``)."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="mm1", simple_class_path=f"{__name__}.{HarnessModel.__name__}")
