"""Tokens a second of the server, with 1, 8 and 32 clients, beside `transformers serve` on the same exported folder.

``python tests/bench/bench_serving.py [--rounds 2] [--tokens 64] [--model FOLDER]``. Both servers are started once and
measured in turn; every answer is greedy, to another question with another image, and has the same number of tokens. The
peer looks a model's class up in transformers and refuses one that comes with its folder (5.22), so it is started with this
class in its place. Without a folder, a random model is exported.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
CLIENTS = (1, 8, 32)
PEER = """
import sys
from transformers.cli.transformers import main
from transformers.cli.serving import model_manager
from mm1.modeling.modeling import MM1ForConditionalGeneration
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
model_manager.transformers.MM1ForConditionalGeneration = MM1ForConditionalGeneration
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["mm1"] = "MM1ForConditionalGeneration"
sys.argv[0] = "transformers"
main()
"""


def make_model(folder: Path) -> Path:
    """Export a random model."""
    from mm1.modeling.export import export
    from tests.bench.bench_generation import parts

    return export(*parts(False), folder)


@contextmanager
def server(command: list[str], port: int) -> Iterator[str]:
    """Run a server until it is left; yields its address when it answers."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "5000"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/v1/models", trust_env=False).status_code < 500:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def body(model: str, number: int, tokens: int) -> dict[str, object]:
    """A question about an image; the images differ."""
    from tests.bench.bench_generation import picture, words

    rng = random.Random(number)
    image = base64.b64encode(picture(rng)).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
        {"type": "text", "text": words(rng, 20)},
    ]
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0}


async def measure(address: str, model: str, clients: int, tokens: int, first: int) -> float:
    """Let clients ask once each (at least 8 questions in all, from the number first on); returns new tokens a second."""
    number = iter(range(first, first + max(8, clients)))
    total = 0
    async with httpx.AsyncClient(base_url=address, timeout=1200, trust_env=False) as client:

        async def ask() -> None:
            nonlocal total
            for index in number:
                reply = await client.post("/v1/chat/completions", json=body(model, index, tokens))
                reply.raise_for_status()
                total += reply.json()["usage"]["completion_tokens"]

        started = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(clients)))
        return total / (time.perf_counter() - started)


def main() -> None:
    """Measure both servers in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = str(arguments.model or make_model(Path(work) / "model"))
        ours = [sys.executable, "-m", "mm1.serve", "--model", folder, "--port", "8101"]
        peer = [sys.executable, "-c", PEER, "serve", folder, "--trust-remote-code", "--port", "8102"]
        with server(ours, 8101) as first, server(peer, 8102) as second:
            sides = {"mm1 serve": (first, "mm1"), "transformers serve": (second, folder)}
            speeds: dict[tuple[str, int], list[float]] = {}
            asked = 0
            for number in range(arguments.rounds + 1):
                for clients in CLIENTS:
                    for name, (address, model) in sides.items():
                        speed = asyncio.run(measure(address, model, clients, arguments.tokens, asked))
                        if number:  # the first round warms up
                            speeds.setdefault((name, clients), []).append(speed)
                    asked += max(8, clients)
        for clients in CLIENTS:
            own, other = (statistics.median(speeds[name, clients]) for name in sides)
            print(
                f"{clients:3} clients: mm1 serve {own:7.1f} tokens/s, transformers serve {other:7.1f}, ratio {own / other:.2f}"
            )


if __name__ == "__main__":
    main()
