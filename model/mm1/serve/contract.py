"""The contract test: the exported folder, loaded with plain transformers without this project, behaves like the model.

    fixed prompts -> the model in this process                -> logits, greedy tokens -.
                  -> the exported folder in a separate process -> logits, greedy tokens -> differences

Three prompts: text only, one image, two images of another size. Names of dimensions: S tokens, V vocabulary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from mm1.errors import CheckpointError
from mm1.serve import contract_probe

MAX_LOGIT_DIFFERENCE = 1e-5
MAX_NEW_TOKENS = 8
TIMEOUT_S = 1800


def check_contract(model: Any, processor: Any, folder: Path, work: Path) -> dict[str, float]:
    """Compare a model with its exported folder.

    Args:
        model: the trainer's model.
        processor: its processor.
        folder: the exported folder.
        work: folder for temporary files.

    Returns:
        Numbers of prompts, of compared logits and of compared generated tokens, and the largest absolute difference of logits.

    Raises:
        CheckpointError: plain transformers cannot load the folder, logits differ by more than 1e-5, or tokens differ.
    """
    work.mkdir(parents=True, exist_ok=True)
    prompts = _prompts(processor, work)
    dtype = str(model.dtype).removeprefix("torch.")
    request, answer = work / "request.json", work / "answer.safetensors"
    request.write_text(json.dumps({"prompts": prompts, "max_new_tokens": MAX_NEW_TOKENS, "dtype": dtype}))
    _probe(folder, request, answer, work)
    exported = load_file(answer)
    largest, num_logits, num_tokens = 0.0, 0, 0
    for index, prompt in enumerate(prompts):
        logits_SV, tokens = _run_model(model, processor, prompt)
        exported_logits_SV = exported[f"{index}.logits"]
        if exported_logits_SV.shape != logits_SV.shape:
            raise CheckpointError(f"the exported model tokenises {prompt['text']!r} differently from the trainer's model")
        largest = max(largest, float((exported_logits_SV - logits_SV).abs().max()))
        num_logits += logits_SV.numel()
        if tokens.tolist() != exported[f"{index}.tokens"].tolist():
            raise CheckpointError(f"the exported model continues {prompt['text']!r} differently from the trainer's model")
        num_tokens += tokens.numel()
    if not largest <= MAX_LOGIT_DIFFERENCE:  # also if it is NaN
        raise CheckpointError(f"logits of the exported model differ by {largest:.2g}, more than {MAX_LOGIT_DIFFERENCE:g}")
    return {
        "max_abs_logit_difference": largest,
        "num_logits": float(num_logits),
        "num_prompts": float(len(prompts)),
        "num_greedy_tokens_equal": float(num_tokens),
    }


def _prompts(processor: Any, work: Path) -> list[dict[str, Any]]:
    """Create fixed prompts with images of fixed noise, so that the result is reproducible."""
    random = np.random.default_rng(0)
    paths = []
    for index, side in enumerate((48, 64)):
        path = work / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    image = processor.image_token
    return [
        {"text": "the small dog is", "images": []},
        {"text": f"{image}what is this ?", "images": paths[:1]},
        {"text": f"{image}a red ring . {image}what colour is it ?", "images": paths},
    ]


def _run_model(model: Any, processor: Any, prompt: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    images = [Image.open(path) for path in prompt["images"]]
    inputs = processor(text=prompt["text"], images=images or None, return_tensors="pt")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the probe: the order of sums depends on it
    try:
        with torch.inference_mode():
            logits_SV = model(**inputs).logits[0].float()
            output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    finally:
        torch.set_num_threads(threads)
    return logits_SV, output[0, inputs["input_ids"].shape[1] :]


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
