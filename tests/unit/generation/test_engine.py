"""The engine answers many askers as the generator answers each alone."""

from __future__ import annotations

from queue import Queue
from typing import Any

import pytest

from mm1.errors import ConfigurationError
from mm1.generation.engine import Ask, Engine, Step
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message, Request
from tests.support.tiny_mm1 import picture, tiny_mm1


@pytest.fixture(scope="module")
def generator():
    return Generator(*tiny_mm1())


@pytest.fixture
def engine(generator):
    engine = Engine(generator)
    yield engine
    engine.close()


def ask(*segments: Any, max_new_tokens: int = 8, **fields: Any) -> Ask:
    return Ask(request=Request(segments), max_new_tokens=max_new_tokens, **fields)


def last(steps: Queue) -> Step | Exception:
    """The last step of an answer; earlier ones only add text and tokens."""
    text, tokens = "", 0
    while True:
        step = steps.get(timeout=60)
        if isinstance(step, Exception):
            return step
        assert step.text.startswith(text) and step.num_tokens >= tokens
        text, tokens = step.text, step.num_tokens
        if step.finish_reason:
            return step


def answers(engine: Engine, asks: list[Ask]) -> list[Step | Exception]:
    queues = [Queue() for _ in asks]
    for item, queue in zip(asks, queues, strict=True):
        engine.submit(item, queue.put)
    return [last(queue) for queue in queues]


def test_answers_are_the_generators(generator, engine):
    asks = [ask(picture(n), f"red {n}", max_new_tokens=3 + n) for n in range(6)]
    alone = [generator.generate([item.request], max_new_tokens=item.max_new_tokens)[0] for item in asks]
    steps = answers(engine, asks)
    assert [(step.text, step.finish_reason) for step in steps] == [(c.text, c.finish_reason) for c in alone]
    assert engine.stats().finished == len(asks)


def test_an_unreadable_image_fails_its_own_ask_alone(engine):
    good, bad, other = answers(engine, [ask("red"), ask(b"no jpeg", "red"), ask("blue")])
    assert isinstance(good, Step) and isinstance(other, Step)
    assert "7 bytes cannot be read" in str(bad)


def test_what_does_not_fit_is_refused_at_once(engine):
    with pytest.raises(ConfigurationError, match="context of 512"):
        engine.submit(ask("red " * 600), print)


def test_conversations_are_answered(generator, engine):
    conversation = Conversation((Message("user", (picture(1), "what is this ?")),))
    (step,) = answers(engine, [Ask(request=conversation, max_new_tokens=5)])
    assert step.text == generator.generate([conversation], max_new_tokens=5)[0].text
