"""An exported folder loads in plain transformers where this project is not installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mm1.modeling.export import export
from mm1.modeling.processing import build_processor
from tests.support.tiny_model import tiny_model, tiny_tokenizer

LOADER = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "mm1" or name.startswith("mm1."):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
import numpy as np, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
folder = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
inputs = processor(text="<image>what is it ?", images=[image])
with torch.no_grad():
    logits = model(**inputs).logits
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
assert model.model.language_model.config._attn_implementation == "mm1_packed"
json.dump({"logits": logits.tolist(), "tokens": tokens.tolist(), "eos": model.generation_config.eos_token_id}, sys.stdout)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = tiny_model(moe=True, text={"vocab_size": len(tiny_tokenizer())})
    processor = build_processor(tiny_tokenizer(), image_tokens=4, image_size=16)
    return model, processor, export(model, processor, tmp_path_factory.mktemp("export") / "model")


def test_it_loads_without_the_project_and_answers_the_same(exported, tmp_path, monkeypatch):
    model, processor, folder = exported
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = subprocess.run([sys.executable, "-c", LOADER, str(folder)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    inputs = processor(text="<image>what is it ?", images=image)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(answer["logits"]), model(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert answer["tokens"] == model.generate(**inputs, max_new_tokens=8, do_sample=False).tolist()
    assert answer["eos"] == [0, 3]  # the end of a document and of a turn


def test_the_same_model_gives_the_same_bytes(exported, tmp_path):
    model, processor, folder = exported
    again = export(model, processor, tmp_path / "again")
    files = sorted(file.name for file in folder.iterdir())
    assert sorted(file.name for file in again.iterdir()) == files
    assert {"config.json", "model.safetensors", "tokenizer.json", "modeling.py", "processing.py"} <= set(files)
    for name in files:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name
