"""The contract test: the exported folder, loaded with plain transformers without this project, behaves like the model.

    fixed cases -> the model in this process                 -> logits, tokens -.
                -> the exported folder in a separate process -> logits, tokens -> differences

The model in this process generates with the stop tokens that the server uses, the exported one with the settings in its folder
alone, so that a difference between the two is found as well (contract_cases.py has the cases).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig

from mm1.errors import CheckpointError
from mm1.modeling.stopping import stop_token_ids, suppressed_token_ids
from mm1.serve import contract_probe
from mm1.serve.contract_cases import chats_for, make_cases

MAX_LOGIT_DIFFERENCE = 1e-5
"""In float32, in logits."""
MAX_BFLOAT16_DIFFERENCE = 2**-7
"""In bfloat16, relative to the largest logit: one unit of its last place, because it has 8 significant bits. Equal weights and
code give equal logits; on another number of threads a sum may be rounded the other way once."""
TIMEOUT_S = 1800


def check_contract(model: Any, processor: Any, folder: Path, work: Path) -> dict[str, float]:
    """Compare a model with its exported folder.

    Args:
        model: the trainer's model, in float32.
        processor: its processor.
        folder: the exported folder.
        work: folder for temporary files.

    Returns:
        Numbers of prompts, of compared logits, tokens and ids, and the largest differences of logits.

    Raises:
        CheckpointError: plain transformers cannot load the folder; or logits, generated tokens or ids of a chat differ.
    """
    work.mkdir(parents=True, exist_ok=True)
    cases = make_cases(processor, model.config, work)
    request, answer = work / "request.json", work / "answer.safetensors"
    request.write_text(json.dumps({"cases": cases, "chats": chats_for(processor)}))
    _probe(folder, request, answer, work)
    expected, actual = _expected(model, processor, cases), load_file(answer)
    contract = {
        "max_abs_logit_difference": _largest_difference(expected, actual, "float32"),
        "max_rel_bfloat16_difference": _largest_difference(expected, actual, "bfloat16"),
        "num_logits": float(sum(tensor.numel() for name, tensor in expected.items() if name.endswith(".logits"))),
        "num_prompts": float(sum(len(case["texts"]) for group in cases.values() for case in group)),
    }
    limits = {"max_abs_logit_difference": MAX_LOGIT_DIFFERENCE, "max_rel_bfloat16_difference": MAX_BFLOAT16_DIFFERENCE}
    for name, limit in limits.items():
        if not contract[name] <= limit:  # also if it is NaN
            raise CheckpointError(f"the exported model's logits differ: {name} is {contract[name]:.2g}, more than {limit:.2g}")
    _check_equal(expected, actual, ".settings")
    contract["num_tokens_equal"] = float(_check_equal(expected, actual, ".tokens"))
    contract["num_chat_ids_equal"] = float(_check_equal(expected, actual, ".ids"))
    return contract


def _expected(model: Any, processor: Any, cases: dict[str, list[dict[str, Any]]]) -> dict[str, torch.Tensor]:
    settings = {
        "eos_token_id": stop_token_ids(processor.tokenizer, model.generation_config),
        "suppress_tokens": suppressed_token_ids(processor.tokenizer, model.config),
        "do_sample": False,
    }
    outputs = contract_probe.settings_ids(GenerationConfig(**settings))
    with _one_thread():
        for dtype, group in cases.items():
            with _in_dtype(model, getattr(torch, dtype)):
                answers = contract_probe.answer_cases(model, processor, group, **settings)
            outputs |= {f"{dtype} {name}": tensor for name, tensor in answers.items()}
    for number, chat in enumerate(chats_for(processor)):
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        outputs[f"chat {number}.ids"] = torch.tensor(processor.encode(text))
    return outputs


def _largest_difference(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor], dtype: str) -> float:
    """Return the largest difference of logits: absolute in float32, else relative to the largest logit of the case."""
    largest = 0.0
    for name in (name for name in expected if name.startswith(dtype) and name.endswith(".logits")):
        logits_TV, exported_TV = expected[name], actual[name]
        if logits_TV.shape != exported_TV.shape:
            raise CheckpointError(f"the exported model tokenises the prompts of case {name!r} differently")
        scale = 1.0 if dtype == "float32" else max(1.0, float(logits_TV.abs().max()))
        difference = float((exported_TV - logits_TV).abs().max()) / scale
        largest = difference if not difference <= largest else largest  # NaN stays
    return largest


def _check_equal(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor], kind: str) -> int:
    """Return the number of equal tokens."""
    names = [name for name in expected if name.endswith(kind)]
    labels = {
        ".tokens": "generates other tokens",
        ".ids": "has a tokenizer whose own chat template gives other ids",
        ".settings": "has other generation settings",
    }
    for name in names:
        if expected[name].tolist() != actual[name].tolist():
            raise CheckpointError(
                f"the exported model {labels[kind]} in case {name.removesuffix(kind)!r}: "
                f"expected {expected[name].tolist()}, got {actual[name].tolist()}"[:500]
            )
    return sum(expected[name].numel() for name in names)


@contextmanager
def _in_dtype(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Cast the weights for a while; not ``model.to(dtype)``, which would also round the rotary frequencies."""
    originals = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, data in originals:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in originals:
            parameter.data = data


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, as in the probe: the order of sums depends on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _probe(folder: Path, request: Path, answer: Path, work: Path) -> None:
    # A separate code cache, or transformers would use code of an earlier export in the user's cache.
    environment = os.environ | {"HF_MODULES_CACHE": str(work / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", contract_probe.__file__, str(folder), str(request), str(answer)]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"the contract test of the exported folder did not finish within {TIMEOUT_S} seconds") from None
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CheckpointError(f"plain transformers cannot load the exported folder: {last[0]}")
