"""How long ``/healthz`` takes while many clients chat: its quantiles, and those of the same requests to an idle server.

``python tests/bench/bench_serve_health.py [--clients 120] [--seconds 20] [--model FOLDER]``. The server is a process of its
own, so are the clients, each of which asks again as soon as it has its answer, half of them as streams. Without a folder,
the model is a tiny random one.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
PROBE_S = 0.02
QUESTIONS = 24


def tiny_model(folder: Path) -> Path:
    """Export a tiny random model with a context of 4096 tokens."""
    from mm1.modeling.export import export
    from tests.support.tiny_mm1 import tiny_mm1

    return export(*tiny_mm1(context=4096), folder)


def body(number: int) -> dict[str, object]:
    """A chat request; every second one is a stream."""
    content = f"what is red ? {'blue ' * (number % QUESTIONS)}"
    messages = [{"role": "user", "content": content}]
    return {"messages": messages, "max_tokens": 200, "temperature": 1.0, "stream": number % 2 == 0}


async def chat(address: str, clients: int, seconds: float) -> dict[int, int]:
    """Send requests from many clients; returns the number of replies of each status."""
    counts: dict[int, int] = {}
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, limits=limits) as client:

        async def ask(number: int) -> None:
            while time.monotonic() < end:
                reply = await client.post("/v1/chat/completions", json=body(number))
                counts[reply.status_code] = counts.get(reply.status_code, 0) + 1

        await asyncio.gather(*map(ask, range(clients)))
    return counts


def clients_of(address: str, clients: int, seconds: float) -> None:
    """Run the clients and print what they got; a process of its own."""
    print(f"  replies by status: {asyncio.run(chat(address, clients, seconds))}", flush=True)


def probe(address: str, seconds: float) -> list[float]:
    """Ask for the health again and again, each time with a new connection as the kubelet does; times in ms."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == HTTPStatus.OK
        times.append(1e3 * (time.perf_counter() - started))
        connection.close()
        time.sleep(PROBE_S)
    return times


def show(name: str, times: list[float]) -> None:
    """Print quantiles."""
    cuts = statistics.quantiles(times, n=100)
    print(
        f"{name}: p50 {cuts[49]:.1f} ms, p90 {cuts[89]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(times):.1f} ms of {len(times)}"
    )


def main() -> None:
    """Measure an idle server, then a busy one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or str(tiny_model(Path(folder) / "model"))
        command = [sys.executable, "-m", "mm1.serve", "--model", model, "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            match = re.search(r"http://\S+", server.stdout.readline())
            assert match, "the server did not start"
            address = match[0]
            show("idle", probe(address, min(5, options.seconds)))
            arguments = (address, options.clients, options.seconds)
            asking = multiprocessing.get_context("spawn").Process(target=clients_of, args=arguments)
            asking.start()
            time.sleep(2)
            show(f"{options.clients} clients", probe(address, options.seconds - 3))
            asking.join()
            reply = httpx.get(f"{address}/metrics", trust_env=False).text
            print(*re.findall(r"^mm1_(?:generated_tokens|answers_finished)_total .*", reply, re.M), sep="\n")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
