"""Speed of few-shot generation against transformers' generate, and of the engine against answers one by one.

``python tests/bench/bench_generation.py [few-shot] [engine] [--rounds N] [--small]``. Both sides of a comparison have the same
weights and threads and take turns; ratios are of medians. Few-shot: 4 demonstrations (an image of 64 tokens and 30 tokens of
text each), a query of 64 and 20, 32 new tokens, batch 32; the tokens of both sides are compared. transformers gets ready
tensors, ours encoded images. Engine: clients that each send their next question (an image and 20 tokens of text) when they have
the answer of 64 tokens.
"""

from __future__ import annotations

import io
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.bench.peers import (
    IMAGE_TOKEN,
    IMAGE_TOKENS,
    PATCH,
    VOCABULARY,
    Seconds,
    options_parser,
    ours,
    say_machine,
    start_again_as_trainer,
    timed,
)

SHOTS, SHOT_WORDS, QUERY_WORDS, NEW_TOKENS, BATCH = 4, 30, 20, 32, 32
ANSWER_TOKENS = 64
"""Of the server, as its default limit."""
CLIENTS = (1, 8, 32)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in which each of the words w0 to w8189 is one token."""
    names = [*(f"w{number}" for number in range(VOCABULARY - 2)), "<|endoftext|>", "<image>"]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<image>"],
    )


def parts(small: bool) -> tuple[Any, Any]:
    """Model and processor; answers never end before their limit."""
    from mm1.modeling.processing import build_processor

    model = ours(small).eval()
    model.generation_config.eos_token_id = None
    with torch.no_grad():  # larger embeddings than usual, so that answers depend on their prompts
        model.get_input_embeddings().weight.mul_(20)
    processor = build_processor(word_tokenizer(), image_tokens=IMAGE_TOKENS, image_size=8 * PATCH)
    assert processor.image_token_id == IMAGE_TOKEN
    return model, processor


def generator_of(model: Any, processor: Any, **settings: Any) -> Any:
    """Our generator, without stop tokens."""
    from mm1.generation.config import BatchSettings
    from mm1.generation.generator import Generator

    generator = Generator(model, processor, BatchSettings(**settings))
    generator.stop_ids = frozenset()
    return generator


def picture(rng: random.Random) -> bytes:
    """An image of the tower's size."""
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (8 * PATCH, 8 * PATCH, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def words(rng: random.Random, count: int) -> str:
    """Text of this many tokens."""
    return " ".join(f"w{rng.randrange(VOCABULARY - 2)}" for _ in range(count))


# -- few-shot against transformers --------------------------------------------------------------------------------------


def few_shot(small: bool, rounds: int) -> None:
    """Compare our generator with transformers' generate on the same prompts."""
    from mm1.generation.prompt import Request

    model, processor = parts(small)
    generator, rng = generator_of(model, processor, image_cache_bytes=0), random.Random(0)
    prefix = tuple(part for _ in range(SHOTS) for part in (picture(rng), words(rng, SHOT_WORDS)))
    requests = [Request((picture(rng), words(rng, QUERY_WORDS)), prefix=prefix) for _ in range(BATCH)]
    inputs = tensors(processor, requests)
    answers: dict[str, list[list[int]]] = {}

    def peer() -> None:
        tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        answers["peer"] = tokens[:, inputs["input_ids"].shape[1] :].tolist()

    def own() -> None:
        completions = generator.generate(requests, max_new_tokens=NEW_TOKENS)
        answers["own"] = [list(completion.tokens) for completion in completions]

    seconds = interleaved({"peer": timed(peer), "own": timed(own)}, rounds)
    equal = sum(left == right for left, right in zip(answers["peer"], answers["own"], strict=True))
    print(f"few-shot, {SHOTS} shots, batch {BATCH}: answers equal {equal} of {BATCH}")
    for name, clock in (("CPU", lambda each: each.processor), ("wall", lambda each: each.wall)):
        peer_s, own_s = (statistics.median(map(clock, seconds[side])) for side in ("peer", "own"))
        rates = f"{BATCH / peer_s:.2f} -> {BATCH / own_s:.2f} answers a {name} second"
        print(f"  transformers generate -> ours: {rates}, {peer_s / own_s:.2f} x")


def tensors(processor: Any, requests: list[Any]) -> dict[str, torch.Tensor]:
    """Inputs of transformers' generate."""
    texts, images = [], []
    for request in requests:
        segments = request.prefix + request.prompt
        texts.append(" ".join(part if isinstance(part, str) else "<image>" for part in segments))
        images += [Image.open(io.BytesIO(part)) for part in segments if not isinstance(part, str)]
    return dict(processor(text=texts, images=images))


def interleaved(sides: dict[str, Callable[[], Seconds]], rounds: int) -> dict[str, list[Seconds]]:
    """Seconds of each side, in turns, after one turn that does not count."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            measured = run()
            if number:
                seconds[name].append(measured)
    return seconds


# -- engine against one by one ------------------------------------------------------------------------------------------


def engine(small: bool, rounds: int) -> None:
    """Compare the engine with 1, 8 and 32 clients with answers one by one."""
    model, processor = parts(small)
    generator = generator_of(model, processor, image_cache_bytes=0)
    rng = random.Random(1)
    sides = {"one by one": one_by_one(generator, rng, 4)}
    sides |= {f"{clients} clients": with_clients(generator, rng, clients) for clients in CLIENTS}
    counts = {name: (4 if name == "one by one" else max(4, 2 * int(name.split()[0]))) for name in sides}
    seconds = interleaved({name: timed(run) for name, run in sides.items()}, rounds)
    for unit, clock in (("CPU", lambda each: each.processor), ("wall", lambda each: each.wall)):
        rates = {name: counts[name] * ANSWER_TOKENS / statistics.median(map(clock, seconds[name])) for name in sides}
        figures = ", ".join(f"{name} {rate:.0f} ({rate / rates['one by one']:.2f} x)" for name, rate in rates.items())
        print(f"  engine, tokens a {unit} second: {figures}")


def question(rng: random.Random) -> Any:
    """A new question with an image."""
    from mm1.generation.prompt import Request

    return Request((picture(rng), words(rng, QUERY_WORDS)))


def one_by_one(generator: Any, rng: random.Random, count: int) -> Callable[[], None]:
    """Answers one after the other, as a server without an engine gives them."""

    def run() -> None:
        for _ in range(count):
            (completion,) = generator.generate([question(rng)], max_new_tokens=ANSWER_TOKENS)
            assert len(completion.tokens) == ANSWER_TOKENS

    return run


def with_clients(generator: Any, rng: random.Random, clients: int) -> Callable[[], None]:
    """Some clients, each with its own questions one after the other: at least 4 in all, 2 of each if there are several."""
    from queue import Queue

    from mm1.generation.asks import Ask
    from mm1.generation.engine import Engine

    def client(running: Engine, questions: list[Any]) -> None:
        for request in questions:
            steps: Queue[Any] = Queue()
            running.submit(Ask(request=request, max_new_tokens=ANSWER_TOKENS), steps.put)
            while (step := steps.get()).finish_reason is None:
                pass
            assert step.num_tokens == ANSWER_TOKENS

    def run() -> None:
        running = Engine(generator)
        each = max(2, 4 // clients)
        threads = [Thread(target=client, args=(running, [question(rng) for _ in range(each)])) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        running.close()

    return run


def main() -> None:
    """Run the benches that are named, by default all."""
    parser = options_parser(__doc__, rounds=3)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help="few-shot, engine; by default both")
    parser.add_argument("--small", action="store_true", help="a tiny model: overhead rather than arithmetic")
    options = parser.parse_args()
    start_again_as_trainer(options.threads)
    torch.set_num_threads(options.threads)
    say_machine("fp32", options.threads)
    for name, bench in (("few-shot", few_shot), ("engine", engine)):
        if not options.benches or name in options.benches:
            bench(options.small, options.rounds)


if __name__ == "__main__":
    main()
