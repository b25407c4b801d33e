"""A task at one number of shots, as other harnesses see it: rows with a prompt, and scores from rows with replies.

The prompts are written and the replies judged by the same code as in this project's harness, so that the numbers are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from mm1.errors import ConfigurationError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig, Templates
from mm1.evals.harness import results_of
from mm1.evals.items import IMAGE_MARK
from mm1.evals.plan import Round, Trial, plan
from mm1.evals.replies import Reply
from mm1.generation.images import read_image
from mm1.generation.prompt import Completion, Image, Likelihood, Request

FIELDS = ("benchmarks", "name", "split", "shots", "items", "seed", "templates")
"""Fields of a task's configuration in a harness, besides the harness's own."""
SPLIT = "test"
"""Name of the only split that the harnesses see."""


@dataclass(frozen=True)
class HarnessRound:
    """A task at one number of shots."""

    planned: Round

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> HarnessRound:
        """Read the benchmark files of a task.

        Args:
            config: `benchmarks` (folder) and `name` (of the task); optionally `split` (test), `shots` (0), `items` (all),
                `seed` (0) and `templates` (names and texts, as in `EvalConfig`).

        Raises:
            ConfigurationError: a field or a file is missing, the task is unknown, or it has a fixed number of shots.
            DataError: a file is damaged.
        """
        if missing := [name for name in ("benchmarks", "name") if not config.get(name)]:
            raise ConfigurationError(f"task: missing {' and '.join(missing)}; set them in its YAML file")
        shots = int(config.get("shots", 0))
        settings = EvalConfig(
            tasks=(str(config["name"]),),
            shots=(shots,),
            items=int(config.get("items", 10**9)),
            controls=False,
            seed=int(config.get("seed", 0)),
            templates=Templates(**dict(config.get("templates") or {})),
        )
        rounds = plan(BenchmarkFolder(Path(config["benchmarks"]), str(config.get("split", "test"))), settings)
        planned = next((each for each in rounds if each.shots == shots), None)
        if planned is None:
            fixed = ", ".join(str(each.shots) for each in rounds)
            raise ConfigurationError(f"task {config['name']}: its number of shots is fixed: expected {fixed}, got {shots}")
        if any(not isinstance(trial.request, Request) for trial in planned.trials):
            raise ConfigurationError(
                f"task {config['name']} has chat prompts; other harnesses apply the chat template themselves"
            )
        return cls(planned)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Items with their prompts."""
        return self.planned.trials

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per item: index, id, prompt with image marks, continuations of the choices, answer."""
        return [
            {
                "index": index,
                "id": trial.item.id,
                "prompt": text_of(request_of(trial)),
                "continuations": [self.planned.writer.continuation(trial.item, choice) for choice in trial.item.choices],
                "answer": trial.item.answer,
            }
            for index, trial in enumerate(self.trials)
        ]

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings of greedy generation, by the names that both harnesses use."""
        stop = list(dict.fromkeys(self.planned.writer.stop))
        return {"until": stop, "max_gen_toks": self.planned.task.max_new_tokens, "do_sample": False, "temperature": 0.0}

    def task_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a task's configuration that both harnesses have.

        Args:
            config: as in `of`, with `task`, the name in the harness.
        """
        return {
            "task": str(config.get("task") or config["name"]),
            "output_type": "generate_until",
            "test_split": SPLIT,
            "doc_to_text": lambda doc: doc["prompt"],
            "doc_to_target": lambda doc: doc["answer"],
            "process_results": self.judged,
            "metric_list": [
                {"metric": name, "aggregation": partial(self.score, name), "higher_is_better": True}
                for name in self.planned.task.metric_names
            ],
            "generation_kwargs": self.generation_settings(),
            "num_fewshot": 0,
            "metadata": {"version": 1.0} | {name: config[name] for name in FIELDS if name in config},
        }

    def images(self, doc: Mapping[str, Any]) -> list[PillowImage.Image]:
        """Read the images of a row's prompt as RGB pictures, upright."""
        return [read_image(image) for image in request_of(self.trials[doc["index"]]).images]

    def judged(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Return a row's reply for each metric, from which `score` computes it."""
        return dict.fromkeys(self.planned.task.metric_names, reply_row(doc["index"], results))

    def score(self, metric: str, replies: Sequence[Sequence[Any]]) -> float:
        """Compute a metric of some rows.

        Args:
            metric: name of a metric of the task.
            replies: index of each row and its reply, as `reply_row` gives them.
        """
        trials = tuple(self.trials[int(index)] for index, _ in replies)
        (result,) = results_of(replace(self.planned, trials=trials), [_reply(reply) for _, reply in replies])
        return next(score.value for score in result.scores if score.metric == metric)


def reply_row(index: int, results: Sequence[Any]) -> list[Any]:
    """Return a reply as plain data: the text, or log-likelihood and greediness of each choice."""
    if len(results) == 1 and isinstance(results[0], str):
        return [index, results[0]]
    return [index, [[float(logprob), bool(is_greedy)] for logprob, is_greedy in results]]


def _reply(row: Any) -> Reply:
    if isinstance(row, str):
        return Completion(text=row, tokens=(), finish_reason="stop", num_prompt_tokens=0)
    return tuple(Likelihood(logprob=logprob, num_tokens=0, is_greedy=is_greedy) for logprob, is_greedy in row)


# -- prompts ------------------------------------------------------------------------------------------------------------


def request_of(trial: Trial) -> Request:
    """Return the prompt of an item."""
    if not isinstance(trial.request, Request):
        raise ConfigurationError(f"item {trial.item.id} has a chat prompt; expected a plain one")
    return trial.request


def text_of(request: Request) -> str:
    """Return a prompt as text with a mark for each image."""
    return "".join(segment if isinstance(segment, str) else IMAGE_MARK for segment in request.segments)


def request_from(text: str, pictures: Sequence[Any]) -> Request:
    """Make a prompt of a text with image marks and pictures of Pillow; without marks the pictures come first.

    Raises:
        ConfigurationError: the numbers of marks and pictures differ, or the prompt is empty.
    """
    pieces = text.split(IMAGE_MARK)
    if len(pieces) == 1:
        pieces = [""] * len(pictures) + [text]
    if len(pieces) != len(pictures) + 1:
        raise ConfigurationError(f"a prompt has {len(pieces) - 1} image marks {IMAGE_MARK} and {len(pictures)} images")
    segments: list[str | Image] = []
    for number, piece in enumerate(pieces):
        if number:
            segments.append(_encoded(pictures[number - 1]))
        if piece:
            segments.append(piece)
    if not segments:
        raise ConfigurationError("the prompt is empty: expected text or an image")
    return Request(tuple(segments))


def _encoded(picture: Any) -> bytes:
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
