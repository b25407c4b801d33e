"""What the benches of the model share: the peer models, the batch, and turns that are fair on a machine with other work.

The peers are built with transformers alone, as its users build them. Sizes are those of a vision-language model of 39 million
parameters, small enough for a step of seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen3Config

ROOT = Path(__file__).parents[2]
for room in ("model", "components", "."):
    sys.path.insert(0, str(ROOT / room))

IMAGE_TOKENS, PATCH, VOCABULARY, IMAGE_TOKEN = 64, 14, 8192, 8191
VISION = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4}
DECODER = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
TUNED_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
"""What a user who knows of it sets for a peer: glibc then keeps large buffers."""


def vision_config(small: bool = False) -> CLIPVisionConfig:
    """A vision transformer on 112 pixels, 8 x 8 patches and a class token."""
    return CLIPVisionConfig(**(SMALL if small else VISION), image_size=8 * PATCH, patch_size=PATCH)


def decoder_fields(small: bool = False) -> dict[str, Any]:
    """Sizes of the decoder, the same for Llama and Qwen3."""
    sizes = SMALL if small else DECODER
    heads = sizes["num_attention_heads"]
    width = {"num_key_value_heads": heads, "head_dim": sizes["hidden_size"] // heads}
    return {**sizes, **width, "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "tie_word_embeddings": False}


def llava(small: bool = False) -> LlavaForConditionalGeneration:
    """The peer: CLIP, a connector of two linear layers, Llama."""
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision_config(small),
        text_config=LlamaConfig(**decoder_fields(small)),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config).train()


def ours(small: bool = False) -> torch.nn.Module:
    """MM1 of the same sizes: CLIP, average pool, Qwen3 (which norms queries and keys; Llama does not)."""
    from mm1.modeling.configuration import MM1Config
    from mm1.modeling.modeling import MM1ForConditionalGeneration

    torch.manual_seed(0)
    config = MM1Config(
        vision_config=vision_config(small),
        text_config=Qwen3Config(**decoder_fields(small)),
        image_token_id=IMAGE_TOKEN,
        image_tokens=IMAGE_TOKENS,
        connector_type="average_pool",
    )
    return MM1ForConditionalGeneration(config).train()


def image_text_batch(sequences: int, tokens: int, images: int) -> dict[str, torch.Tensor]:
    """Sequences of random text with images at equal distances; image tokens carry no label."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(3, VOCABULARY - 1, (sequences, tokens), generator=generator)
    for start in range(0, tokens, tokens // images):
        input_ids[:, start : start + IMAGE_TOKENS] = IMAGE_TOKEN
    pixels = torch.randn(sequences * images, 3, 8 * PATCH, 8 * PATCH, generator=generator)
    labels = input_ids.masked_fill(input_ids == IMAGE_TOKEN, -100)
    return {"input_ids": input_ids, "labels": labels, "pixel_values": pixels}


class Seconds(NamedTuple):
    """What a span of work took: on the clock, and of processors, which other work on the machine lengthens less."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Callable[[], Seconds]:
    """A function that does the work and returns its seconds."""

    def run() -> Seconds:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        return Seconds(time.perf_counter() - wall, time.process_time() - processor)

    return run


def training_step(model: torch.nn.Module, batch: Mapping[str, Any], dtype: str) -> Callable[[], Seconds]:
    """A function that does one step: forward, backward, clip, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with autocast(dtype):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step)


def autocast(dtype: str) -> AbstractContextManager[Any]:
    """Arithmetic of the given type over weights in single precision, as the trainer does at ZeRO stage 0."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")


def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices in bfloat16 itself; emulated, it is slower than single precision."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and bool({"avx512_bf16", "amx_bf16"} & _processor_flags())


def _processor_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def default_dtype() -> str:
    """The type in which the targets are set, where the processor has it."""
    return "bf16" if has_bfloat16() else "fp32"


def options_parser(description: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """The options that the benches of the model share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default=default_dtype())
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds that count, after one that does not")
    parser.add_argument("--threads", type=int, default=cores(), help="of each side; 1 is steadier beside other work")
    return parser


def say_machine(dtype: str, threads: int) -> None:
    """What the figures below were measured with."""
    own = "native" if has_bfloat16() else "emulated"
    kind = next((name for name in ("avx512f", "avx2") if name in _processor_flags()), "plain")
    print(f"torch {torch.__version__}, threads: {threads}, {kind}, bf16: {own}; measured in {dtype}")


class Side:
    """One side in a process of its own, with an environment of its own: glibc reads its settings when a process starts.

    It does a step when it is told to, so that steps of several sides alternate exactly.
    """

    def __init__(self, script: str, arguments: list[str], threads: int, settings: Mapping[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GOMP_"))}
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, "OMP_NUM_THREADS": str(threads), **settings},
        )

    def __call__(self) -> Seconds:
        """Do one more step."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print("step", file=self._process.stdin, flush=True)
        return Seconds(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def start_again_as_trainer(threads: int) -> None:
    """Start this script once more with a trainer's settings, unless it has them: for sides that share a process."""
    from mm1_components.ranks.torchrun import PROCESS_SETTINGS

    settings = {**PROCESS_SETTINGS, "OMP_NUM_THREADS": str(threads)}
    if not settings.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)


def serve_steps(step: Callable[[], Seconds]) -> None:
    """The other end of `Side`: a step for each line of the standard input."""
    for _ in sys.stdin:
        print(json.dumps(step()), flush=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_turns(sides: Mapping[str, Callable[[], Seconds]], rounds: int = 5) -> dict[str, list[Seconds]]:
    """What each side takes, one after the other in each round, after one round that does not count."""
    found: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            seconds = side()
            if number > 0:
                found[name].append(seconds)
    return found


def say_side(name: str, found: list[Seconds], work: float = 0.0, unit: str = "") -> None:
    """One line: median and range on the clock, median of processors, and how much of `work` is done in a second."""
    wall = [seconds.wall for seconds in found]
    median = statistics.median(wall)
    processor = statistics.median(seconds.processor for seconds in found)
    rate = f", {work / median:,.0f} {unit}/s" if work else ""
    print(f"  {name:42s} {median:7.3f} s ({min(wall):.3f} to {max(wall):.3f}), processors {processor:.3f} s{rate}")


def say_ratio(name: str, over: list[Seconds], under: list[Seconds], target: str) -> None:
    """One line: the median of the rounds' ratios on the clock and its range, the same of processors, the target."""
    wall = [one.wall / other.wall for one, other in zip(over, under, strict=True)]
    processor = statistics.median(one.processor / other.processor for one, other in zip(over, under, strict=True))
    spread = f"({min(wall):.2f} to {max(wall):.2f}), processors {processor:.2f}"
    print(f"  {name:42s} {statistics.median(wall):7.2f}   {spread}; target {target}")
