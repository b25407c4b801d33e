"""Soak test of the server: random clients, good and bad, for a long time; memory must stay flat, and nothing may fail.

``python tests/bench/soak_serving.py [--minutes 30] [--clients 24] [--seed 0] [--model FOLDER]``. Without a folder, the model
is a tiny random one. The server is a process of its own, as ``mm1 serve`` starts it. Clients ask, stream, leave in the middle
of requests and answers, send damaged and huge images, broken JSON, long prompts and bodies that never end; the process is
stopped and continued, and at the end terminated while it answers. Exit code 1 and a list if

- a reply has a status that its kind of request does not expect (a busy server may always reply 429 with Retry-After),
- the resident memory (without the prefix cache, which has a limit of its own), the threads or the open files grow in the second
  half of the time (the first minutes fill caches and arenas: at least 10 minutes are needed to judge the memory),
- the 99th percentile of ``/healthz`` is above 100 ms, or
- answers are still running when all clients are gone, or SIGTERM does not end the process with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import io
import json
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
CONTEXT = 2048
MAX_HEALTH_MS = 100.0
MAX_GROWTH = 0.05
"""Growth of the resident memory over the second half, as a fraction."""
PROBE_S = 0.1
WORDS = ("red", "green", "blue", "ring", "circle", "what", "is", "the", "photo", "é", "字", "\U0001f600", "<|im_end|>")


def image_url(pixels: tuple[int, int], form: str, seed: int, *, cut: float = 1.0) -> str:
    """An encoded image of noise; only its first part with `cut` below 1."""
    noise = np.random.default_rng(seed).integers(0, 255, (pixels[1] // 8 + 1, pixels[0] // 8 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(pixels).save(buffer, form)
    data = buffer.getvalue()
    return f"data:image/{form.lower()};base64," + base64.b64encode(data[: int(len(data) * cut)]).decode()


class Clients:
    """All kinds of clients of one server, and what they saw.

    Args:
        address: of the server.
        seed: of all draws.
    """

    def __init__(self, address: str, seed: int) -> None:
        self.address, self.random = address, random.Random(seed)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self.http = httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, limits=limits)
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.faults: list[str] = []
        sizes = [(16, 16), (64, 48), (640, 480), (1600, 1200)]
        self.images = [image_url(size, form, number) for number, size in enumerate(sizes) for form in ("PNG", "JPEG", "WEBP")]
        self.images += [image_url((4000, 3000), form, 9) for form in ("JPEG", "WEBP")]
        self.damaged = [image_url((64, 64), form, 7, cut=cut) for form in ("PNG", "JPEG") for cut in (0.3, 0.7)]
        self.huge = image_url((5000, 4000), "JPEG", 1)

    # -- what they send

    def text(self, words: int) -> str:
        """Random words."""
        return " ".join(self.random.choices(WORDS, k=words))

    def body(self, *images: str, words: int | None = None, **fields: object) -> dict[str, object]:
        """A chat request with a random text, length and temperature."""
        content: list[object] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
        content.append({"type": "text", "text": self.text(words or self.random.randint(1, 60))})
        length, temperature = self.random.randint(1, 120), self.random.choice([0, 0, 0.7, 1.5])
        messages = [{"role": "user", "content": content}]
        return {"messages": messages, "max_tokens": length, "temperature": temperature, **fields}

    # -- kinds: what a client does, and the statuses that it expects

    async def whole(self) -> int:
        return await self.post(self.body(stop=self.random.choice([None, "red", ["ring", "blue"]])))

    async def with_images(self) -> int:
        return await self.post(self.body(*self.random.choices(self.images, k=self.random.randint(1, 3))))

    async def several(self) -> int:
        return await self.post(self.body(n=self.random.randint(2, 5), logprobs=True, top_logprobs=2))

    async def completion(self) -> int:
        body = {"prompt": [self.text(9), self.text(30)], "max_tokens": self.random.choice([1, 8]), "echo": True, "logprobs": 1}
        return await self.post(body, "/v1/completions")

    async def long_prompt(self) -> int:
        return await self.post(self.body(words=self.random.randint(150, 300), max_tokens=8))

    async def conversation(self) -> int:
        body = self.body(self.images[0])
        turns = [{"role": "user", "content": f"turn {turn}"} for turn in range(self.random.randint(1, 6))]
        body["messages"] = [{"role": "system", "content": "always the same"}, *turns, *body["messages"]]  # type: ignore[misc]
        return await self.post(body)

    async def stream(self) -> int:
        return await self.read_stream(leave_after=None)

    async def leaving_stream(self) -> int:
        return await self.read_stream(leave_after=self.random.randint(0, 20))

    async def slow_reader(self) -> int:
        return await self.read_stream(leave_after=40, pause_s=0.05)

    async def leaving_asker(self) -> int:
        try:
            return await asyncio.wait_for(self.post(self.body(max_tokens=500)), self.random.uniform(0.01, 0.5))
        except TimeoutError:
            return 0

    async def overflow(self) -> int:
        return await self.post(self.body(words=CONTEXT))

    async def damaged_image(self) -> int:
        return await self.post(self.body(self.random.choice(self.damaged)))

    async def huge_image(self) -> int:
        return await self.post(self.body(self.huge))

    async def too_many_images(self) -> int:
        return await self.post(self.body(*[self.images[0]] * 20))

    async def wrong_fields(self) -> int:
        wrong = [{"temperature": 9}, {"n": 0}, {"tools": [{"type": "x"}]}, {"messages": []}, {"seed": "x"}, {"stop": 3}]
        return await self.post(self.body() | self.random.choice(wrong))

    async def no_json(self) -> int:
        broken = [b"", b"{", b"[1", b"\xff\xfe", b'{"messages": [' * 500, b"null", b'"' + b"x" * 100_000]
        return (await self.http.post("/v1/chat/completions", content=self.random.choice(broken))).status_code

    async def too_large(self) -> int:
        async def chunks() -> object:
            for _ in range(30):
                yield b"x" * (1 << 20)

        return (await self.http.post("/v1/chat/completions", content=chunks())).status_code  # type: ignore[arg-type]

    async def half_a_body(self) -> int:
        data = json.dumps(self.body(self.images[4])).encode()
        host, port = self.address.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, self.random.randint(0, len(data) - 1), 65536):
            writer.write(data[start : start + 65536])
            await asyncio.sleep(0.02)
        writer.close()
        return 0

    async def other(self) -> int:
        path = self.random.choice(["/v1/models", "/limits", "/metrics", "/", "/page/main.js", "/examples", "/v1/models/mm1"])
        return (await self.http.get(path)).status_code

    async def tokenize(self) -> int:
        return await self.post({"prompt": self.text(40)}, "/tokenize")

    KINDS: tuple[tuple[str, int, tuple[int, ...]], ...] = (
        *(("whole", 10, (200,)), ("with_images", 8, (200,)), ("several", 4, (200,)), ("completion", 4, (200,))),
        *(("long_prompt", 4, (200,)), ("conversation", 6, (200,)), ("stream", 10, (200,)), ("leaving_stream", 8, (200,))),
        *(("slow_reader", 2, (200,)), ("leaving_asker", 8, (0, 200)), ("overflow", 2, (400,)), ("damaged_image", 3, (400,))),
        *(("huge_image", 1, (400,)), ("too_many_images", 2, (400,)), ("wrong_fields", 4, (400,)), ("no_json", 4, (400,))),
        *(("too_large", 1, (413,)), ("half_a_body", 3, (0,)), ("other", 6, (200,)), ("tokenize", 3, (200,))),
    )
    """Name of the method, weight, expected statuses; 0 = the client left before the reply."""

    # -- how they send it

    async def post(self, body: dict[str, object], path: str = "/v1/chat/completions") -> int:
        reply = await self.http.post(path, json=body)
        reply.json()
        if reply.status_code == 429:
            assert int(reply.headers["retry-after"]) >= 1
        return reply.status_code

    async def read_stream(self, leave_after: int | None, pause_s: float = 0.0) -> int:
        async with self.http.stream("POST", "/v1/chat/completions", json=self.body(stream=True, max_tokens=200)) as reply:
            events, last = 0, ""
            async for line in reply.aiter_lines():
                events, last = events + 1, line or last
                if leave_after is not None and events > leave_after:
                    return reply.status_code
                await asyncio.sleep(pause_s)
            assert reply.status_code != 200 or last == "data: [DONE]", f"the stream ends with {last[:80]!r}"
            return reply.status_code

    async def run(self, end: float) -> None:
        """Be one client after the other until the end."""
        names, weights, _ = zip(*self.KINDS, strict=True)
        expected = {name: statuses for name, _, statuses in self.KINDS}
        while time.monotonic() < end:
            (name,) = self.random.choices(names, weights)
            kind: Callable[[], Awaitable[int]] = getattr(self, name)
            try:
                status = await kind()
            except (httpx.HTTPError, AssertionError, ValueError, OSError) as error:
                status = -1
                self.faults.append(f"{name}: {type(error).__name__}: {error}")
            self.counts[name, str(status)] += 1
            if status not in (*expected[name], 429, -1):
                self.faults.append(f"{name}: status {status}")


class Observer:
    """Memory, threads, files and health of the server's process, seen from a process of its own.

    Args:
        server: process ID.
        address: of the server.
    """

    def __init__(self, server: int, address: str) -> None:
        self.server, self.address = server, address
        self.health_ms: list[float] = []
        self.samples: list[tuple[int, int, int, int]] = []

    def sample(self, http: httpx.Client) -> None:
        """Note the resident bytes without the prefix cache, those of the cache, threads and open files."""
        cache = re.search(r"^mm1_prefix_cache_bytes (\S+)", http.get("/metrics").text, re.MULTILINE)
        assert cache
        status = Path(f"/proc/{self.server}/status").read_text()
        numbers = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
        files = len(os.listdir(f"/proc/{self.server}/fd"))  # noqa: PTH208
        cached = int(float(cache[1]))
        self.samples.append((int(numbers["VmRSS"]) * 1024 - cached, cached, int(numbers["Threads"]), files))

    def run(self, end: float) -> Observer:
        """Probe the health until the end; stop and continue the process now and then."""
        with httpx.Client(base_url=self.address, timeout=30, trust_env=False) as http:
            for number in range(1 << 30):
                started = time.monotonic()
                if started > end:
                    break
                reply = http.get("/healthz")
                assert reply.status_code == 200, reply.text
                self.health_ms.append((time.monotonic() - started) * 1e3)
                if number % 50 == 0:
                    self.sample(http)
                if number % 600 == 599:
                    os.kill(self.server, signal.SIGSTOP)
                    time.sleep(0.3)
                    os.kill(self.server, signal.SIGCONT)
                time.sleep(PROBE_S)
        return self

    def growth(self, column: int) -> tuple[float, float]:
        """Mean of the last quarter of the time, and of the quarter before the middle."""
        values = [sample[column] for sample in self.samples]
        quarter = max(1, len(values) // 4)
        return statistics.fmean(values[-quarter:]), statistics.fmean(values[quarter : 2 * quarter] or values)


def start(model: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server as ``mm1 serve`` does; returns it and its address."""
    command = [sys.executable, "-m", "mm1.serve", "--model", str(model), "--port", "0", "--max-waiting", "64"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not (match := re.search(r"http://\S+", log.read_text(errors="replace"))):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)
    return process, match[0]


async def soak(process: subprocess.Popen[bytes], address: str, arguments: argparse.Namespace) -> list[str]:
    """Run all clients; returns what is wrong, and prints what was seen."""
    clients = Clients(address, arguments.seed)
    end = time.monotonic() + arguments.minutes * 60
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        observed = asyncio.get_running_loop().run_in_executor(pool, Observer(process.pid, address).run, end)
        await asyncio.gather(*(clients.run(end) for _ in range(arguments.clients)))
        observer = await observed
    faults = clients.faults
    faults += [f"answers are still running: {line}" for line in await leftovers(clients.http)]
    print_counts(clients.counts)
    resident = [f"{sample[0] / 2**20:.0f}" for sample in observer.samples[:: max(1, len(observer.samples) // 12)]]
    print(f"resident memory without the prefix cache, over time: {' '.join(resident)} MiB")
    print(f"prefix cache: {observer.samples[-1][1] / 2**20:.1f} MiB at the end")
    for name, column, unit in (("other resident memory", 0, 2**20), ("threads", 2, 1), ("open files", 3, 1)):
        late, early = observer.growth(column)
        print(f"{name}: {early / unit:.1f} before the middle, {late / unit:.1f} at the end{' MiB' if unit > 1 else ''}")
        if late > early * (1 + MAX_GROWTH) + (8 << 20 if unit > 1 else 8):
            faults.append(f"{name} grew from {early / unit:.1f} to {late / unit:.1f}")
    cuts = statistics.quantiles(observer.health_ms, n=100)
    print(f"/healthz: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(observer.health_ms):.1f} ms")
    if cuts[98] > MAX_HEALTH_MS:
        faults.append(f"the 99th percentile of /healthz is {cuts[98]:.0f} ms")
    asks = [asyncio.create_task(clients.post(clients.body(max_tokens=60))) for _ in range(8)]
    await asyncio.sleep(0.05)
    process.terminate()
    replies = await asyncio.gather(*asks, return_exceptions=True)
    print(f"replies while SIGTERM ends the server: {[reply if isinstance(reply, int) else repr(reply) for reply in replies]}")
    code = await asyncio.to_thread(process.wait, 60)
    return faults + ([f"SIGTERM: exit code {code}"] if code else [])


async def leftovers(http: httpx.AsyncClient) -> list[str]:
    """Lines of /metrics with answers that run or wait although nobody is there; waits 10 s for them to end."""
    for _ in range(50):
        text = (await http.get("/metrics")).text
        lines = [line for line in text.splitlines() if re.match(r"mm1_answers_(running|waiting) (?!0\.0)", line)]
        if not lines:
            break
        await asyncio.sleep(0.2)
    return lines


def print_counts(counts: collections.Counter[tuple[str, str]]) -> None:
    """Print the number of requests of each kind by status."""
    for name, _, _ in Clients.KINDS:
        statuses = {status: count for (kind, status), count in sorted(counts.items()) if kind == name}
        print(f"  {name:16} " + "  ".join(f"{status}: {count}" for status, count in statuses.items()))
    print(f"{counts.total()} requests")


def main() -> int:
    """Run the soak test; the exit code."""
    parser = argparse.ArgumentParser(description="Soak test of the server.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mm1-soak-") as folder:
        model = Path(arguments.model) if arguments.model else tiny_model(Path(folder) / "model")
        process, address = start(model, Path(folder) / "log")
        try:
            faults = asyncio.run(soak(process, address, arguments))
        finally:
            process.kill()
        log = (Path(folder) / "log").read_text(errors="replace")
        faults += ["the server's log has a traceback:\n" + log[-3000:]] * ("Traceback" in log)
    for fault, count in collections.Counter(faults).most_common(20):
        print(f"FAULT ({count}): {fault}")
    return int(bool(faults))


def tiny_model(folder: Path) -> Path:
    """Export a tiny random model."""
    from mm1.modeling.export import export
    from tests.support.tiny_mm1 import tiny_mm1

    return export(*tiny_mm1(context=CONTEXT), folder)


if __name__ == "__main__":
    sys.exit(main())
