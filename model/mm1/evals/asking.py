"""Asking a model, part by part.

    rounds -> parts (some items of a round with all their prompts) -> this process's share -> replies, each part kept when done

The batches of a part do not depend on the other parts. So the replies are the same in one process, in several, and after an
interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from mm1.config.values import parse_integer, quoted
from mm1.errors import ConfigurationError
from mm1.evals.models.base import EvalModel, OnBatch
from mm1.evals.plan import Round, Trial
from mm1.evals.replies import KeptReplies, Question, Reply
from mm1.generation.prompt import Likelihood

PART_ITEMS = 64
"""Items of a part; their prompts with other images and other demonstrations are in the same part."""

OnProgress = Callable[[int, int], None]
"""Called with the number of prompts answered so far and the total number."""
LoadModel = Callable[[], EvalModel]


@dataclass(frozen=True)
class Share:
    """The parts that one of several processes answers: every ``total``-th one, from ``index`` on."""

    index: int = 0
    total: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Parse ``I/N``, for example ``0/4`` to ``3/4``.

        Raises:
            ConfigurationError: the text is something else.
        """
        index, _, total = text.partition("/")
        try:
            share = cls(parse_integer(index), parse_integer(total))
        except ValueError:
            share = cls(1, 0)
        if not 0 <= share.index < share.total:
            raise ConfigurationError(f"--shard: expected I/N with I from 0 to N-1, for example 0/4, got {quoted(text)}")
        return share

    def of(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts of this share."""
        return list(parts[self.index :: self.total])


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some items of a round, with all their prompts."""

    planned: Round
    round: int
    """Number of the round."""
    positions: tuple[int, ...]
    """Positions of the trials in the round."""

    @property
    def trials(self) -> list[Trial]:
        """The prompts to answer."""
        return [self.planned.trials[position] for position in self.positions]


def parts_of(rounds: Sequence[Round], items: int = PART_ITEMS) -> list[Part]:
    """Divide rounds into parts of this number of items."""
    return [part for number, planned in enumerate(rounds) for part in _parts_of_round(planned, number, items)]


def _parts_of_round(planned: Round, number: int, items: int) -> list[Part]:
    first = planned.trials[0]
    num_items = sum((trial.control, trial.draw) == (first.control, first.draw) for trial in planned.trials)
    starts = range(0, num_items, items)
    positions: list[list[int]] = [[] for _ in starts]
    for position in range(len(planned.trials)):
        positions[position % num_items // items].append(position)
    return [Part(planned=planned, round=number, positions=tuple(some)) for some in positions]


def answer(
    parts: Sequence[Part], load: LoadModel, on_progress: OnProgress, kept: KeptReplies | None = None
) -> Iterator[list[Reply]]:
    """Answer parts with a model, in order; kept replies are reused.

    Args:
        parts: the parts.
        load: returns the model; not called if all replies are kept.
        on_progress: called with the prompts that are kept, then after each batch.
        kept: replies of earlier runs and of other processes.

    Yields:
        The replies of each part.

    Raises:
        ConfigurationError: a prompt exceeds the context, or the model cannot choose among choices.
    """
    known = [kept.read(questions_of(part)) if kept else None for part in parts]
    done, total = sum(map(len, filter(None, known))), sum(len(part.positions) for part in parts)
    on_progress(done, total)

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    model: EvalModel | None = None
    for part, replies in zip(parts, known, strict=True):
        if replies is None:
            model, questions = model or load(), questions_of(part)
            replies = ask(questions, model, on_batch)
            if kept:
                kept.write(questions, replies)
        yield replies


def questions_of(part: Part) -> list[Question]:
    """Return the questions of a part."""
    planned = part.planned
    return [
        Question(
            task=planned.task.name,
            ask=trial.request,
            choices=tuple(planned.writer.continuation(trial.item, choice) for choice in planned.choices(trial)),
            max_new_tokens=planned.task.max_new_tokens,
            stop=planned.writer.stop,
            ending=trial.item.ending,
        )
        for trial in part.trials
    ]


def ask(questions: Sequence[Question], model: EvalModel, on_batch: OnBatch) -> list[Reply]:
    """Let a model answer the questions of one round, in their order.

    Raises:
        ConfigurationError: the items have choices, and the model cannot score them.
    """
    free = [index for index, question in enumerate(questions) if not question.choices]
    chosen = [index for index, question in enumerate(questions) if question.choices]
    if chosen and not model.can_score:
        raise ConfigurationError(
            f"task {questions[0].task}: its items have choices, and {model.name} gives no log-probabilities to choose by; "
            "let it generate its choice (--choose generate)"
        )
    replies: dict[int, Reply] = {}
    if free:
        first = questions[free[0]]
        completions = model.generate(
            [questions[index].ask for index in free],
            max_new_tokens=first.max_new_tokens,
            stop=first.stop,
            on_batch=on_batch,
        )
        replies |= dict(zip(free, completions, strict=True))
    if chosen:
        replies |= dict(zip(chosen, _score([questions[index] for index in chosen], model, on_batch), strict=True))
    return [replies[index] for index in range(len(questions))]


def _score(questions: Sequence[Question], model: EvalModel, on_batch: OnBatch) -> list[tuple[Likelihood, ...]]:
    """Compute the likelihoods of the choices of each question, some of which have several prompts."""
    scored = [pair for question in questions for pair in question.scored]
    asked = 0

    def on_prompts(count: int) -> None:
        nonlocal asked
        before, asked = asked, asked + count
        on_batch(asked * len(questions) // len(scored) - before * len(questions) // len(scored))

    rows = iter(model.score([prompt for prompt, _ in scored], [texts for _, texts in scored], on_prompts))
    return [tuple(chain.from_iterable(next(rows) for _ in question.scored)) for question in questions]
