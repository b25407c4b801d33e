"""The engine answers many askers as the generator answers each alone, whatever happens to the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from queue import Queue
from threading import Event
from typing import Any

import pytest
import torch

from mm1.errors import ConfigurationError, DataError
from mm1.generation.asks import Ask, Closed, Overloaded, Step
from mm1.generation.config import EngineSettings, Sampling
from mm1.generation.engine import Engine, Ticket
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message, Request, TokenIds
from tests.support.tiny_mm1 import COLOURS, SHAPES, picture, tiny_mm1


@pytest.fixture(scope="module")
def generator():
    return Generator(*tiny_mm1())


@pytest.fixture
def open_engine(generator):
    engines = []

    def open_(**settings: Any) -> Engine:
        engines.append(Engine(generator, EngineSettings(**settings)))
        return engines[-1]

    yield open_
    for engine in engines:
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


def alone(generator: Generator, item: Ask) -> tuple[str, int, str]:
    (completion,) = generator.generate(
        [item.request], max_new_tokens=item.max_new_tokens, stop=item.stop, sampling=item.sampling
    )
    return completion.text, len(completion.tokens), completion.finish_reason


def said(step: Step | Exception) -> tuple[str, int, str | None]:
    assert isinstance(step, Step), step
    return step.text, step.num_tokens, step.finish_reason


def random_asks(count: int) -> list[Ask]:
    """Prompts of 1 to 120 tokens; some share a beginning, some have images, stop strings or a temperature."""
    rng = random.Random(5)
    shared = tuple(part for n in range(3) for part in (picture(n), " ".join(rng.choices(COLOURS, k=9))))
    asks = []
    for number in range(count):
        text = " ".join(rng.choices(COLOURS + SHAPES, k=rng.choice([1, 5, 30, 100])))
        segments = (*(shared if number % 3 == 0 else ()), *((picture(rng.randrange(4)),) if number % 4 == 1 else ()), text)
        sampling = Sampling(temperature=0.8, top_p=0.9, seed=number) if number % 5 == 2 else Sampling()
        stop = ("ring", "blue") if number % 2 else ()
        asks.append(ask(*segments, max_new_tokens=rng.randint(1, 14), stop=stop, sampling=sampling))
    return asks


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_running": 1},
        {"max_running": 5, "prefill_tokens": 24},
        {"prefill_tokens": 7, "prefix_cache_bytes": 20_000},
        {"batch_tokens": 200, "prefix_cache_bytes": 0},
    ],
)
def test_answers_do_not_depend_on_what_is_answered_with_them(generator, open_engine, settings):
    asks = random_asks(24)
    expected = [alone(generator, item) for item in asks]
    engine = open_engine(**settings)
    for _ in range(2):  # the second time with prefixes in the cache
        assert [said(step) for step in answers(engine, asks)] == expected
    stats = engine.stats()
    assert (stats.finished, stats.waiting, stats.running, stats.failed) == (48, 0, 0, 0)
    assert stats.prefix_cache_bytes <= engine.settings.prefix_cache_bytes
    assert (stats.prefix_hit_tokens > 0) == (settings.get("prefix_cache_bytes") != 0)


def test_an_unreadable_image_fails_its_own_ask_alone(open_engine):
    good, bad, other = answers(open_engine(), [ask("red"), ask(b"no jpeg", "red"), ask(picture(1), "blue")])
    assert isinstance(good, Step) and isinstance(other, Step)
    assert isinstance(bad, DataError) and "7 bytes cannot be read" in str(bad)


def test_what_does_not_fit_is_refused_at_once(open_engine):
    engine = open_engine()
    for request, message in (
        (Request(("red " * 600,)), "context of 512"),
        (Request(("x" * 100_000,)), "100000 characters exceeds"),
        (Request(("a \ud800",)), "half of a surrogate pair at character 2"),
        (Request(("",)), "empty"),
        (TokenIds((5, 1)), "image token 1"),
        (TokenIds((5, 400)), "token id 400 does not exist"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            engine.submit(Ask(request=request, max_new_tokens=1), print)


def test_conversations_and_token_ids_are_answered(generator, open_engine):
    engine = open_engine()
    conversation = Conversation((Message("user", (picture(1), "what is this ?")),))
    (step,) = answers(engine, [Ask(request=conversation, max_new_tokens=5)])
    assert said(step) == alone(generator, Ask(request=conversation, max_new_tokens=5))
    tokens = TokenIds(generator.encoder.tokenize("red ring"))
    (step,) = answers(engine, [Ask(request=tokens, max_new_tokens=5)])
    assert said(step) == alone(generator, ask("red ring", max_new_tokens=5))


def test_an_assistants_turn_at_the_end_is_continued(generator):
    turns = (Message("user", ("what colour ?",)), Message("assistant", ("a red",)))
    prefix, prompt = generator.encoder.encode_request(Conversation(turns))
    closed = generator.encoder.encode_request(Conversation((*turns, Message("user", ("big ?",)))))[1]
    assert not prefix.tokens and closed.tokens[: len(prompt.tokens)] == prompt.tokens
    assert prompt.tokens[-2:] == generator.encoder.tokenize("a red")[-2:]


# -- one answer among others --------------------------------------------------------------------------------------------


class Held:
    """An answer whose receiver holds the engine after the first token until it is released."""

    def __init__(self, engine: Engine, item: Ask) -> None:
        self.reached, self.release = Event(), Event()
        self.steps: Queue = Queue()
        self.ticket: Ticket = engine.submit(item, self._on_step)
        assert self.reached.wait(60)

    def _on_step(self, step: Step | Exception) -> None:
        self.steps.put(step)
        self.reached.set()
        self.release.wait(60)


LONG = ask("red ring", max_new_tokens=400, sampling=Sampling(temperature=2, seed=1))


def test_a_cancelled_answer_gets_no_further_token(open_engine):
    engine = open_engine()
    held = Held(engine, LONG)
    held.ticket.cancel()
    held.release.set()
    (step,) = answers(engine, [ask("blue")])
    assert isinstance(step, Step) and held.steps.qsize() == 1
    stats = engine.stats()
    assert (stats.cancelled, stats.running, stats.waiting) == (1, 0, 0)


def test_beyond_the_queue_asks_are_refused_until_one_leaves(open_engine):
    engine = open_engine(max_running=1, max_waiting=2)
    held = Held(engine, LONG)
    waiting = [engine.submit(ask("blue"), lambda step: None) for _ in range(2)]
    with pytest.raises(Overloaded) as refused:
        engine.submit(ask("blue"), print)
    assert 1 <= refused.value.retry_after_s <= 60
    waiting[0].cancel()
    steps: Queue = Queue()
    engine.submit(ask("blue"), steps.put)
    held.ticket.cancel()
    held.release.set()
    assert isinstance(last(steps), Step)


@pytest.mark.parametrize("max_waiting", [0, 1])
def test_an_ask_for_which_a_place_is_free_does_not_wait(open_engine, max_waiting):
    engine = open_engine(max_running=3, max_waiting=max_waiting)
    held = Held(engine, LONG)
    steps: Queue = Queue()
    for _ in range(2 + max_waiting):
        engine.submit(ask("blue"), steps.put)
    with pytest.raises(Overloaded):
        engine.submit(ask("blue"), print)
    held.ticket.cancel()
    held.release.set()
    assert all(isinstance(last(steps), Step) for _ in range(2 + max_waiting))


def test_closing_ends_every_answer(generator):
    engine = Engine(generator, EngineSettings(max_running=1))
    held = Held(engine, LONG)
    steps: Queue = Queue()
    engine.submit(ask("blue"), steps.put)
    held.release.set()
    engine.close()
    assert isinstance(last(held.steps), Closed) and isinstance(last(steps), Closed)
    with pytest.raises(Closed):
        engine.submit(ask("blue"), print)


def test_a_receiver_that_fails_loses_its_own_answer_alone(open_engine):
    engine = open_engine()

    def fail(step: Step | Exception) -> None:
        raise OSError("the client is gone")

    engine.submit(ask("red"), fail)
    (step,) = answers(engine, [ask("blue")])
    assert isinstance(step, Step)


def test_running_answers_go_on_while_a_long_prompt_is_processed(open_engine):
    engine = open_engine(prefill_tokens=16)
    order: Queue = Queue()
    held = Held(engine, ask("red", max_new_tokens=30, sampling=Sampling(temperature=2, seed=3)))
    long = ask("red " * 300, max_new_tokens=1)
    engine.submit(long, lambda step: order.put("long"))
    engine.submit(ask("blue", max_new_tokens=1), lambda step: order.put("short"))
    held.release.set()
    assert order.get(timeout=60) == "short" and order.get(timeout=60) == "long"
    assert held.steps.qsize() > 10


# -- failures of the model ----------------------------------------------------------------------------------------------


@pytest.fixture
def failing(generator, monkeypatch):
    """Let a pass fail if a function of its rows and columns returns an exception."""
    real = generator.model.model.forward

    def set_(fault: Callable[[torch.Tensor], Exception | None]) -> None:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if (error := fault(kwargs["input_ids"])) is not None:
                real(*args, **kwargs)  # changes the cache before it fails, as a real one does
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(generator.model.model, "forward", forward)

    return set_


def test_an_exception_ends_the_asks_concerned_and_no_other(generator, open_engine, failing):
    asks = random_asks(12)
    expected = [alone(generator, item) for item in asks]
    poison = generator.encoder.tokenize(" wug")[-1]
    failing(lambda ids: KeyError("broken") if bool((ids == poison).any()) else None)
    engine = open_engine()
    steps = answers(engine, [*asks[:6], ask("red wug"), *asks[6:]])
    assert isinstance(steps.pop(6), KeyError)
    assert [said(step) for step in steps] == expected
    assert engine.stats().failed == 1


def test_an_exception_while_decoding_ends_the_running_answers_and_the_engine_goes_on(open_engine, failing):
    engine = open_engine()
    broken = Event()
    broken.set()
    failing(lambda ids: KeyError("broken") if ids.shape[1] == 1 and broken.is_set() else None)
    assert all(isinstance(step, KeyError) for step in answers(engine, [ask("red ring", "blue"), ask("blue circle", "red")]))
    broken.clear()
    (step,) = answers(engine, [ask("blue circle", "red")])
    assert isinstance(step, Step)


@pytest.mark.parametrize("rows", [1, 3])
def test_out_of_memory_makes_smaller_batches(generator, open_engine, failing, rows):
    asks = random_asks(16)
    expected = [alone(generator, item) for item in asks]
    failing(lambda ids: torch.OutOfMemoryError("out of memory") if len(ids) > rows else None)
    engine = open_engine()
    assert [said(step) for step in answers(engine, asks)] == expected
    assert engine.stats().failed == 0


def test_a_prompt_too_large_for_the_memory_fails_alone(open_engine, failing):
    failing(lambda ids: torch.OutOfMemoryError("out of memory") if ids.numel() > 100 else None)
    large, small = answers(open_engine(max_running=4), [ask("red " * 300), ask("blue")])
    assert isinstance(large, torch.OutOfMemoryError) and isinstance(small, Step)


def test_logits_that_are_not_numbers_end_their_answer(generator, open_engine, monkeypatch):
    real, passes = generator.decoder.logits, []
    asks = [ask("red", n * "ring ", max_new_tokens=8) for n in range(1, 5)]
    expected = [alone(generator, item) for item in asks]

    def logits(hidden_ND: torch.Tensor) -> torch.Tensor:
        result = real(hidden_ND).clone()
        passes.append(len(result))
        if passes.count(4) == 3 and len(result) == 4:
            result[1] = torch.nan
        return result

    monkeypatch.setattr(generator.decoder, "logits", logits)
    steps = answers(open_engine(), asks)
    assert [type(step) for step in steps].count(ArithmeticError) == 1
    assert all(said(step) == want for step, want in zip(steps, expected, strict=True) if isinstance(step, Step))


@pytest.mark.parametrize("part", ["logits", "join", "store", "images"])
def test_out_of_memory_anywhere_fails_no_answer(generator, open_engine, monkeypatch, part):
    asks, engine = random_asks(16), open_engine()
    expected = [alone(generator, item) for item in asks]
    place = {
        "logits": (generator.decoder, "logits"),
        "join": (engine._batch, "join"),
        "store": (engine._cache, "store"),
        "images": (generator.encoder, "features"),
    }[part]
    real, calls = getattr(*place), []

    def sometimes(*args: Any) -> Any:
        together = len(engine._started()) > 1  # what does not fit alone fails
        calls.append(together)
        if together and calls.count(True) in (1, 3):
            raise torch.OutOfMemoryError("out of memory")
        return real(*args)

    monkeypatch.setattr(*place, sometimes)
    assert [said(step) for step in answers(engine, asks)] == expected
    assert calls.count(True) >= 3


def test_memory_stays_flat(open_engine):
    engine = open_engine(max_running=8, prefix_cache_bytes=200_000)
    rng = random.Random(1)
    sizes = []
    for _ in range(4):
        asks = [ask(" ".join(rng.choices(COLOURS, k=rng.randint(1, 60))), max_new_tokens=2) for _ in range(60)]
        assert all(isinstance(step, Step) for step in answers(engine, asks))
        sizes.append((engine.stats().prefix_cache_bytes, engine._batch._state, engine._batch.tickets, engine._prefill.prompts))
    assert all(size[0] <= 200_000 for size in sizes)
    assert all(size[1:] == (None, [], []) for size in sizes)


# -- log-probabilities --------------------------------------------------------------------------------------------------


def test_log_probabilities_are_the_models(generator, open_engine):
    image = picture(2)
    item = ask(image, "red ring blue", max_new_tokens=4, top_logprobs=3, prompt_logprobs=True)
    (step,) = answers(open_engine(prefill_tokens=3), [item])
    encoded = generator.encoder.encode(item.request.prompt)
    ids = [*encoded.tokens, *(entry.token for entry in step.logprobs)]
    with torch.no_grad():
        features = generator.encoder.features(encoded.images)
        logits = generator.model(input_ids=torch.tensor([ids]), image_features=features).logits[0].log_softmax(-1)
    entries = (*step.prompt_logprobs, *step.logprobs)
    assert [entry.token for entry in entries] == ids
    for position, entry in enumerate(entries):
        if position == 0 or entry.token == generator.encoder.image_token_id:
            assert entry.logprob is None and not entry.top
            continue
        assert entry.logprob == pytest.approx(float(logits[position - 1, entry.token]), abs=1e-3)
        assert [other.token for other in entry.top] == logits[position - 1].topk(3).indices.tolist()
        assert entry.text == generator.processor.tokenizer.decode([entry.token])
    assert all(entry.token == entry.top[0].token for entry in step.logprobs), "greedy"


def test_a_prompt_can_be_scored_without_an_answer(open_engine):
    scored = ask("red ring blue", max_new_tokens=0, top_logprobs=0, prompt_logprobs=True)
    first, again = answers(open_engine(), [scored, scored])
    assert first.finish_reason == "length" and first.num_tokens == 0 and not first.logprobs
    assert len(first.prompt_logprobs) == 3 and first.prompt_logprobs == again.prompt_logprobs


def test_several_answers_of_a_seed_differ_and_are_the_same_again(open_engine):
    sampling = Sampling(temperature=1.5, seed=2**64 - 1)
    asks = [ask("red ring", sampling=sampling.of_answer(n), max_new_tokens=12) for n in range(4)]
    engine = open_engine()
    first = [said(step) for step in answers(engine, asks)]
    assert [said(step) for step in answers(engine, asks[::-1])] == first[::-1]
    assert len(set(first)) == 4
