"""The probe of the contract test: loads the exported folder as a user would, with plain transformers.

Run as a script in a separate process, in which this project cannot be imported::

    python -P contract_probe.py FOLDER REQUEST.json ANSWER.safetensors

For each prompt of the request it saves the logits of the prompt and the greedily generated tokens.
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


def main(folder: str, request: str, answer: str) -> None:
    """Load the folder and run the request's prompts."""
    sys.meta_path.insert(0, _Absent())
    import torch
    from PIL import Image
    from safetensors.torch import save_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(1)
    job = json.loads(Path(request).read_text(encoding="utf-8"))
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=True, local_files_only=True, use_safetensors=True, dtype=getattr(torch, job["dtype"])
    ).eval()
    outputs = {}
    for index, prompt in enumerate(job["prompts"]):
        images = [Image.open(path) for path in prompt["images"]]
        inputs = processor(text=prompt["text"], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            outputs[f"{index}.logits"] = model(**inputs).logits[0].float().contiguous()
            output = model.generate(**inputs, max_new_tokens=job["max_new_tokens"], do_sample=False)
        outputs[f"{index}.tokens"] = output[0, inputs["input_ids"].shape[1] :].contiguous()
    save_file(outputs, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
