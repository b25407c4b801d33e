"""The probe of the contract test: loads the exported folder as a user would, with plain transformers.

Run as a script in a separate process, in which this project cannot be imported::

    python -P contract_probe.py FOLDER REQUEST.json ANSWER.safetensors

The same function answers the request for the trainer's model (contract.py).
Names of dimensions: T tokens of all prompts of a case without padding, V vocabulary.
"""

import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any


class _Absent(MetaPathFinder):
    """Import hook that hides this project's packages."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] in ("mm1", "mm1_components", "mm1_workflows"):
            raise ModuleNotFoundError(f"{fullname} is not available in the contract test")


def answer_cases(model: Any, processor: Any, cases: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Run a model on the cases of a request.

    Args:
        model: the model, in evaluation mode.
        processor: its processor.
        cases: name, texts, images (paths of all texts, in order), max_new_tokens and num_beams of each.
        **settings: settings of `generate` in place of the model's own.

    Returns:
        ``<name>.logits``, float32 (T, V), and ``<name>.tokens``, the generated tokens (rows of texts).
    """
    import torch
    from PIL import Image

    outputs = {}
    for case in cases:
        images = [Image.open(path) for path in case["images"]]
        inputs = processor(text=case["texts"], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits[inputs["attention_mask"].bool()]
            tokens = model.generate(**inputs, max_new_tokens=case["max_new_tokens"], num_beams=case["num_beams"], **settings)
        outputs[f"{case['name']}.logits"] = logits.float().contiguous()
        outputs[f"{case['name']}.tokens"] = tokens[:, inputs["input_ids"].shape[1] :].contiguous()
    return outputs


def chat_ids(tokenizer: Any, chats: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the token ids of chats of text, by the tokenizer alone: ``chat <number>.ids``."""
    import torch

    ids = [tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for chat in chats]
    return {f"chat {number}.ids": torch.tensor(row) for number, row in enumerate(ids)}


def settings_ids(generation: Any) -> dict[str, Any]:
    """Return the ids in generation settings that end an answer, and those that are never generated."""
    import torch

    stops, suppressed = generation.eos_token_id, generation.suppress_tokens or []
    ids = {"stop tokens": stops if isinstance(stops, list) else [stops or 0], "suppressed tokens": suppressed}
    return {f"{name}.settings": torch.tensor(sorted(values)) for name, values in ids.items()}


def main(folder: str, request: str, answer: str) -> None:
    """Load the folder and run the request."""
    sys.meta_path.insert(0, _Absent())
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    torch.set_num_threads(1)
    job = json.loads(Path(request).read_text(encoding="utf-8"))
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
    outputs = chat_ids(AutoTokenizer.from_pretrained(folder, local_files_only=True), job["chats"])
    for dtype, cases in job["cases"].items():
        model = AutoModelForImageTextToText.from_pretrained(
            folder, trust_remote_code=True, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
        ).eval()
        outputs |= settings_ids(model.generation_config)
        outputs |= {f"{dtype} {name}": tensor for name, tensor in answer_cases(model, processor, cases).items()}
    save_file(outputs, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
