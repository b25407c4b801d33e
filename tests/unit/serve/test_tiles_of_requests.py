"""A server of a model with tiles: its counts and answers are those of the generator, more tiles on request."""

from __future__ import annotations

import httpx
import pytest

from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message
from mm1.generation.tiles import allow_tiles
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from tests.support.chat_requests import ask, refusal, user
from tests.support.mixtures import encoded_image
from tests.support.tiny_mm1 import tiny_mm1

WIDE = encoded_image(0, size=(60, 20))


@pytest.fixture(scope="module")
def generator() -> Generator:
    model, processor = tiny_mm1(context=1024)
    processor.image_layout = "dynamic,grid=2-3"
    allow_tiles(model, processor, 8)
    return Generator(model, processor)


@pytest.fixture(scope="module")
def client(generator):
    engine = Engine(generator)
    with (
        running(create_app(engine, ServeSettings(model_name="tiny", max_images=4))) as address,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        yield client
    engine.close()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_answers_and_counts_are_those_of_the_generator(client, generator, count):
    parts = [part for _ in range(count) for part in (WIDE, "what is this ?")]
    reply = ask(client, user(*parts), max_tokens=6).json()
    (expected,) = generator.generate([Conversation((Message("user", tuple(parts)),))], max_new_tokens=6)
    assert reply["choices"][0]["message"]["content"] == expected.text
    assert reply["usage"]["prompt_tokens"] == expected.num_prompt_tokens
    assert (expected.num_prompt_tokens > 50 * count) == (count < 3), "three images are not divided"
    counted = client.post("/tokenize", json={"model": "tiny", "messages": [user(*parts)]}).json()
    assert counted["count"] == expected.num_prompt_tokens


def test_a_damaged_image_is_refused(client):
    reply = ask(client, user(WIDE[:-30], "what is this ?"), max_tokens=2)
    assert "messages[0].content[0]: image of" in refusal(reply)["message"]
