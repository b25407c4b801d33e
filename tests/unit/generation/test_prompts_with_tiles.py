"""Prompts with images in tiles: the model answers as with the processor's inputs, and few-shot prompts mix resolutions."""

from io import BytesIO
from queue import Queue

import numpy as np
import pytest
import torch
from PIL import Image

from mm1.data.images import decode_image
from mm1.errors import ConfigurationError, DataError
from mm1.generation import images as prompt_images
from mm1.generation.config import EngineSettings
from mm1.generation.engine import Ask, Engine
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message, Request
from mm1.generation.tiles import Detailed, Tile, allow_tiles, static_tiles
from tests.support.mixtures import encoded_image
from tests.support.tiny_mm1 import tiny_mm1

LAYOUTS = ["static", "dynamic,grid=2-6", "dynamic,grid=2-6,marks=separators"]
WIDE, TALL, SMALL = (encoded_image(seed, size=size) for seed, size in enumerate([(50, 20), (14, 60), (9, 9)]))
QUESTION = "what is this ?"


def generator_of(layout):
    model, processor = tiny_mm1(context=2048)
    processor.image_layout = layout
    return Generator(model, processor)


@pytest.fixture(scope="module", params=LAYOUTS)
def generator(request):
    return generator_of(request.param)


def answer_of_transformers(generator, text, images):
    inputs = generator.processor(text=text, images=[decode_image(image) for image in images])
    settings = {"do_sample": False, "eos_token_id": sorted(generator.stop_ids), "pad_token_id": 0}
    tokens = generator.model.generate(**inputs, max_new_tokens=6, **settings)[0, inputs["input_ids"].shape[1] :].tolist()
    stop = next((index for index, token in enumerate(tokens) if token in generator.stop_ids), len(tokens))
    return tokens[:stop], int(inputs["input_ids"].shape[1])


def test_the_answer_is_that_of_the_processors_inputs(generator):
    prompts = [
        ("<image>what is this ?", [WIDE]),
        ("<image>a red ring<image>what is this ?", [TALL, SMALL]),
        (f"{'<image>a' * 3}", [WIDE] * 3),
    ]
    requests = [Request((WIDE, QUESTION)), Request((SMALL, QUESTION), prefix=(TALL, "a red ring")), Request((WIDE, "a") * 3)]
    for (text, images), completion in zip(prompts, generator.generate(requests, max_new_tokens=6), strict=True):
        assert (list(completion.tokens), completion.num_prompt_tokens) == answer_of_transformers(generator, text, images)


def test_the_engine_finds_tiles_in_its_prefix_cache(generator):
    engine = Engine(generator, EngineSettings(prefill_tokens=7))
    request = Request((WIDE, QUESTION, "red green blue " * 8))
    (expected,) = generator.generate([request], max_new_tokens=6)
    for _ in range(2):
        steps: Queue = Queue()
        engine.submit(Ask(request=request, max_new_tokens=6), steps.put)
        while not (step := steps.get(timeout=60)).finish_reason:
            pass
        assert step.text == expected.text
    assert engine.stats().prefix_hit_tokens > 0
    engine.close()


def test_three_images_are_not_divided_but_the_last_ones_can_be():
    generator = generator_of("dynamic,grid=4-4")
    whole = Request((WIDE, QUESTION), prefix=(WIDE, "red") * 3)
    mixed = Request((Detailed(WIDE), QUESTION), prefix=(WIDE, "red", WIDE, "red", Detailed(WIDE), "red"))
    counts = [len(each.images) for request in (whole, mixed) for each in generator.encoder.encode_request(request)]
    assert counts == [3, 1, 2 + 5, 5]
    text = generator.processor.tokenizer.decode(generator.encoder.encode_request(mixed)[1].tokens)
    assert "(3,1,1)" in text.replace(" ", ""), "the fourth image of the prompt"
    first, second = (Message("user", (Detailed(WIDE), QUESTION)), Message("assistant", ("red",)))
    prefix, prompt = generator.encoder.encode_request(Conversation((first,), prefix=(first, second)))
    assert (len(prefix.images), len(prompt.images)) == (5, 5)


def test_a_model_without_tiles_takes_those_of_the_caller():
    generator = generator_of("")
    whole, parts = generator.encoder.encode([WIDE]), generator.encoder.encode(static_tiles(WIDE, 16))
    assert len(parts.tokens) == 5 * len(whole.tokens)
    features = generator.encoder.features(parts.images)
    torch.testing.assert_close(features[:1], generator.encoder.features([WIDE]))
    pngs = [image.read_bytes() for image in parts.images]
    torch.testing.assert_close(generator.encoder.features(pngs), features)
    with pytest.raises(ConfigurationError, match="trained without tiles"):
        generator.encoder.encode([Detailed(WIDE)])


def test_an_image_is_decoded_once_for_all_its_tiles(monkeypatch):
    generator = generator_of("dynamic,grid=4-4")
    decoded = []
    real = prompt_images.decode_tiles
    monkeypatch.setattr(prompt_images, "decode_tiles", lambda *given: (decoded.append(1), real(*given)))
    encoded = generator.encoder.encode([WIDE, QUESTION, TALL])
    ahead = [generator.encoder.decode_ahead(image) for image in encoded.images]
    assert len(decoded) == 2 and all(isinstance(image, Tile) for image in encoded.images)
    features = generator.encoder.features(ahead)
    assert len(decoded) == 2 and len(features) == 10
    assert generator.encoder.decode_ahead(encoded.images[0]) is encoded.images[0], "its features are known"


def test_a_damaged_image_is_named():
    generator = generator_of("dynamic,grid=4-4")
    with pytest.raises(DataError, match="image of 7 bytes cannot be read"):
        generator.generate([Request((b"no jpeg"[:7], QUESTION))], max_new_tokens=1)


def test_more_tiles_at_inference_must_fit_the_context():
    model, processor = tiny_mm1(context=64)
    with pytest.raises(ConfigurationError, match=r"max_tiles.*single is fixed"):
        allow_tiles(model, processor, 4)
    processor.image_layout = "dynamic,grid=2-3,marks=none"
    allow_tiles(model, processor, 0)
    allow_tiles(model, processor, 14)
    assert processor.image_layout == "dynamic,grid=2-14,marks=none"
    with pytest.raises(ConfigurationError, match=r"takes up to 68 tokens.*the model's context has 64: expected at most 14"):
        allow_tiles(model, processor, 16)


def test_the_marks_between_tiles_must_fit_the_context_too():
    model, processor = tiny_mm1(context=512)
    processor.image_layout = "dynamic,grid=2-3"
    with pytest.raises(ConfigurationError, match=r"the model's context has 512: expected at most (\d+)") as refused:
        allow_tiles(model, processor, 60)
    most = int(str(refused.value).rpartition(" ")[2])
    allow_tiles(model, processor, most)
    large = encoded_image(0, size=(16 * most, 16))
    (completion,) = Generator(model, processor).generate([Request((large,))], max_new_tokens=1)
    assert 256 < completion.num_prompt_tokens < 512


def test_the_order_of_tiles_is_that_of_the_layout():
    page = np.zeros((32, 32, 3), np.uint8)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        page[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 50 * (number + 1)
    out = BytesIO()
    Image.fromarray(page).save(out, "PNG")
    images = generator_of("dynamic,grid=4-4").encoder.encode([out.getvalue()]).images
    values = [int(np.asarray(decode_image(image.read_bytes()))[4, 4, 0]) for image in images]
    assert values[:4] == [50, 100, 150, 200] and len(values) == 5
