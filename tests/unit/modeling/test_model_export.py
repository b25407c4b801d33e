"""An exported folder loads in plain transformers where this project is not installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from mm1.modeling.export import export
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import build_processor
from mm1.modeling.stopping import TURN_END_TOKEN
from tests.support.tiny_mm1 import tiny_mm1
from tests.support.tiny_model import tiny_model, tiny_tokenizer

LOADER = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "mm1" or name.startswith("mm1."):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
import numpy as np, torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor
folder = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
inputs = processor(text="<image>what is it ?", images=[image])
with torch.no_grad():
    logits = model(**inputs).logits
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
assert model.model.language_model.config._attn_implementation == "mm1_packed"
text = processor(text="a red ring")
causal = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
base = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
with torch.no_grad():
    same = torch.equal(causal(**text).logits, model(**text).logits)
    same = same and torch.equal(base(**text).last_hidden_state, model.model(**text).last_hidden_state)
classes = [AutoConfig.from_pretrained(folder, trust_remote_code=True), base, causal, model]
eos = model.generation_config.eos_token_id
answer = {"logits": logits.tolist(), "tokens": tokens.tolist(), "eos": eos, "same": same}
json.dump(answer | {"classes": [type(item).__name__ for item in classes]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = tiny_model(moe=True, text={"vocab_size": len(tiny_tokenizer())})
    processor = build_processor(tiny_tokenizer(), image_tokens=4, image_size=16, image_layout="dynamic,grid=2-6")
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
    assert answer["classes"] == ["MM1Config", "MM1Model", "MM1ForConditionalGeneration", "MM1ForConditionalGeneration"]
    assert answer["same"]


def test_the_same_model_gives_the_same_bytes(exported, tmp_path):
    model, processor, folder = exported
    again = export(model, processor, tmp_path / "again")
    files = sorted(file.name for file in folder.iterdir())
    assert sorted(file.name for file in again.iterdir()) == files
    assert {"config.json", "model.safetensors", "tokenizer.json", "modeling.py", "processing.py"} <= set(files)
    for name in files:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def stopping_model():
    """A model for which, after any token, the end of the turn is by far the most probable one."""
    model, processor = tiny_mm1()
    end = processor.tokenizer.convert_tokens_to_ids(TURN_END_TOKEN)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 30.0
        model.lm_head.weight.mul_(1e-3)
        model.lm_head.weight[end, 0] = 5.0
    return model, processor


@pytest.mark.parametrize("brought", [None, 0, [0], [7, 300], 5_000])
def test_generate_ends_with_the_turn_whatever_the_decoder_brought(tmp_path, brought):
    model, processor = stopping_model()
    model.config.text_config.eos_token_id = brought if isinstance(brought, int) else None
    model.generation_config.update(eos_token_id=brought, do_sample=True, temperature=0.6, top_k=20)
    loaded = MM1ForConditionalGeneration.from_pretrained(export(model, processor, tmp_path))
    stops = {0, 3} | ({7, 300} if brought == [7, 300] else set())  # 5,000 is no id of the tokenizer
    assert set(loaded.generation_config.eos_token_id) == stops
    chat = [{"role": "user", "content": [{"type": "text", "text": "what is it ?"}]}]
    inputs = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    answers = loaded.generate(**inputs, max_new_tokens=20, num_return_sequences=1)
    assert answers[0, inputs["input_ids"].shape[1] :].tolist() == [3]


def test_the_folder_has_all_that_the_server_knows(tmp_path):
    model, processor = tiny_mm1()
    model.resize_token_embeddings(512)  # more rows than the tokenizer has ids
    settings = json.loads((export(model, processor, tmp_path) / "generation_config.json").read_text())
    del settings["transformers_version"]
    assert settings == {
        "do_sample": False,
        "eos_token_id": [0, 3],
        "max_new_tokens": 256,
        "pad_token_id": 0,
        "suppress_tokens": [1, *range(323, 512)],
    }


def test_the_stock_pipeline_ends_with_the_turn(tmp_path):
    folder = export(*stopping_model(), tmp_path)
    ask = pipeline("image-text-to-text", model=str(folder), trust_remote_code=True)
    image = Image.new("RGB", (16, 16), "red")
    content = [{"type": "image", "image": image}, {"type": "text", "text": "what is it ?"}]
    (answer,) = ask(text=[{"role": "user", "content": content}], return_full_text=False)
    assert answer["generated_text"] == ""
