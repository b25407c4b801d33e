"""The plug-in of vLLM: registration, names of the weights, and the module that it builds, without vLLM's kernels."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import GenerationConfig, GPT2Config, PhiConfig

from mm1.modeling.configuration import MM1Config
from mm1.modeling.export import export
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.serve.vllm_plugin.register import register
from mm1.serve.vllm_plugin.weights import ARCHITECTURE, prefixes, vllm_name
from tests.support.tiny_mm1 import tiny_mm1
from tests.support.tiny_model import tiny_config
from tests.support.vllm_stand_in import Items, ProcessorInputs, install

SIZES: dict[str, Any] = {"vocab_size": 400, "hidden_size": 32}


def config_of(decoder: str) -> MM1Config:
    if decoder in ("qwen3", "qwen3_moe", "tied"):
        return tiny_config(moe=decoder == "qwen3_moe", text={"vocab_size": 400}, tie_word_embeddings=decoder == "tied")
    if decoder == "gpt2":
        text: Any = GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=2, n_positions=256, tie_word_embeddings=False)
    else:
        text = PhiConfig(**SIZES, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, tie_word_embeddings=False)
    return MM1Config(**tiny_config().to_dict() | {"text_config": text.to_dict(), "lm_head_bias": decoder == "phi"})


DECODERS = ["qwen3", "qwen3_moe", "tied", "gpt2", "phi"]


def exported(decoder: str, folder: Path) -> tuple[MM1ForConditionalGeneration, dict[str, torch.Tensor]]:
    """A tiny model, and the tensors that its export has on disk."""
    torch.manual_seed(0)
    model = MM1ForConditionalGeneration(config_of(decoder)).eval()
    export(model, tiny_mm1()[1], folder)
    return model, load_file(folder / "model.safetensors")


def build(monkeypatch: pytest.MonkeyPatch, config: MM1Config) -> Any:
    """The module that vLLM would run."""
    install(monkeypatch)
    generation = {"suppress_tokens": [1, *range(323, 400)]}
    model_config = SimpleNamespace(hf_config=config, try_get_generation_config=lambda: generation)
    plugin = importlib.import_module("mm1.serve.vllm_plugin.model")
    return plugin.MM1ForVllm(vllm_config=SimpleNamespace(model_config=model_config)).eval()


def test_it_is_an_entry_point_of_vllm() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '[project.entry-points."vllm.general_plugins"]\nmm1 = "mm1.serve.vllm_plugin.register:register"' in text
    for entry in entry_points(group="vllm.general_plugins", name="mm1"):  # none if an older version is installed
        assert entry.load() is register


def test_it_registers_once_however_often_it_is_called(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = install(monkeypatch)
    for _ in range(3):
        register()  # in each process of vLLM
    assert list(registry.models) == [ARCHITECTURE] and not caplog.records
    module, _, name = registry.models[ARCHITECTURE].partition(":")
    assert hasattr(importlib.import_module(module), name)
    assert MM1ForConditionalGeneration.__name__ == ARCHITECTURE


@pytest.mark.parametrize("missing", ["BaseDummyInputsBuilder", "PromptReplacement", "WeightsMapper", "SupportsMultiModal"])
def test_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str) -> None:
    registry = install(monkeypatch, "9.9")
    for name in [name for name in sys.modules if name.startswith("vllm")]:
        monkeypatch.delattr(sys.modules[name], missing, raising=False)
    register()
    (record,) = caplog.records
    assert f"vLLM 9.9 is not supported (it has no {missing} in vllm." in record.message and "mm1 serve" in record.message
    assert not registry.models


def test_without_vllm_it_says_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with caplog.at_level(logging.WARNING):
        register()
    (record,) = caplog.records
    assert "vLLM cannot be imported" in record.message


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_exported_weight_has_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: str) -> None:
    model, tensors = exported(decoder, tmp_path)
    names = {vllm_name(name, prefixes(model.config.text_config)) for name in tensors}
    module = build(monkeypatch, model.config)
    stacked = {"gate_up_proj", "down_proj"}  # of transformers' experts in memory; on disk, as in vLLM, they are one by one
    expected = {name for name in module.state_dict() if not (decoder == "qwen3_moe" and name.rpartition(".")[2] in stacked)}
    experts = {name for name in names if ".experts." in name}
    assert names - experts == expected - {name for name in expected if decoder == "tied" and "lm_head" in name}
    assert bool(experts) == (decoder == "qwen3_moe")


def test_a_foreign_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.other\.weight is not a weight"):
        vllm_name("model.other.weight", prefixes(config_of("qwen3").text_config))


@pytest.mark.parametrize("decoder", ["qwen3", "tied", "gpt2", "phi"])
def test_its_module_computes_the_same_logits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, decoder: str) -> None:
    model, tensors = exported(decoder, tmp_path)
    module = build(monkeypatch, model.config)
    loaded = module.load_weights(tensors.items())
    if decoder == "tied":
        module.language_model.lm_head.weight = module.language_model.model.embed_tokens.weight
    assert loaded == {name for name in module.state_dict() if not (decoder == "tied" and "lm_head" in name)}
    ids, pixels = torch.tensor([[5, 1, 1, 1, 1, 7, 1, 1, 1, 1, 9]]), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features_NKD = module.embed_multimodal(pixel_values=list(pixels))
        embeds_BSD = model.get_input_embeddings()(ids).clone()
        embeds_BSD[ids == 1] = features_NKD.flatten(0, 1)
        hidden_TD = module(None, torch.arange(ids.shape[1]), inputs_embeds=embeds_BSD[0])
        logits_TV = module.compute_logits(hidden_TD)
        expected_TV = model(input_ids=ids, pixel_values=pixels).logits[0]
    kept = [token for token in range(400) if token != 1 and token < 323]
    torch.testing.assert_close(logits_TV[:, kept], expected_TV[:, kept], atol=1e-5, rtol=1e-5)
    assert torch.isinf(logits_TV[:, [1, 323, 399]]).all()
    assert module.embed_multimodal() == []


def test_images_of_a_prompt_are_placed_by_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    plugin = importlib.import_module("mm1.serve.vllm_plugin.model")
    _, processor = tiny_mm1()
    processing = plugin.MM1MultiModalProcessor()
    processing.info = SimpleNamespace(get_hf_config=lambda: config_of("qwen3"), get_hf_processor=lambda: processor)
    (update,) = processing._get_prompt_updates({}, {}, None)
    assert (update.modality, update.target, update.replacement) == ("image", [1], [1, 1, 1, 1])
    dummy = plugin.MM1DummyInputs()
    dummy.info = processing.info
    assert dummy.get_dummy_text({"image": 3}) == "<image>" * 3
    assert plugin.MM1ForVllm.get_placeholder_str("image", 0) == "<image>"
    with pytest.raises(ValueError, match="images only"):
        plugin.MM1ForVllm.get_placeholder_str("audio", 0)


@pytest.mark.parametrize(("layout", "count"), [("", 2), ("static,marks=index", 2), ("dynamic,grid=2-4", 1), ("dynamic", 3)])
def test_the_tiles_of_an_image_are_one_item(monkeypatch: pytest.MonkeyPatch, layout: str, count: int) -> None:
    install(monkeypatch)
    plugin = importlib.import_module("mm1.serve.vllm_plugin.model")
    _, processor = tiny_mm1()
    processor.image_layout = layout
    processing = plugin.MM1MultiModalProcessor()
    processing.info = SimpleNamespace(get_hf_config=lambda: config_of("qwen3"), get_hf_processor=lambda: processor)
    images = [Image.new("RGB", (40 + number, 20)) for number in range(count)]
    outputs, fields, of_images = processing.apply(ProcessorInputs("<image>red" * count, Items(image=images), {}))
    expected = processor(text="<image>red" * count, images=images)
    assert torch.equal(outputs["input_ids"], expected["input_ids"])
    assert torch.equal(outputs["pixel_values"], expected["pixel_values"])
    red, tokens = processor.encode("red"), [each[0] if layout else each for each in of_images]
    assert outputs["input_ids"][0].tolist() == [token for ids in tokens for token in (*ids, *red)]
    if not layout:
        assert fields == {"pixel_values": "image"}
        return
    counts = [ids.count(1) // 4 for ids in tokens]
    assert fields == {"pixel_values": ("image", counts), "num_tiles": "image"}
    assert all(embedded == 1 for _, embedded in of_images)
    assert (min(counts) > 1) == (count < 3), "three images are not divided"


def test_features_of_tiles_are_given_by_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, tensors = exported("qwen3", tmp_path)
    module = build(monkeypatch, model.config)
    module.load_weights(tensors.items())
    pixels = torch.randn(7, 3, *model.config.image_size)
    with torch.no_grad():
        features_NKD = module.embed_multimodal(pixel_values=pixels)
        first, second = module.embed_multimodal(pixel_values=[pixels[:5], pixels[5:]], num_tiles=torch.tensor([5, 2]))
    torch.testing.assert_close(first, features_NKD[:5].flatten(0, 1))
    torch.testing.assert_close(second, features_NKD[5:].flatten(0, 1))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (pip install vllm, on a GPU)")
def test_a_real_vllm_answers_as_generate_does(tmp_path: Path) -> None:
    from vllm import LLM, SamplingParams

    model, processor = tiny_mm1()
    folder = export(model, processor, tmp_path)
    prompt = "what colour is the ring ?"
    inputs = processor(text=prompt)
    settings = GenerationConfig(max_new_tokens=8, suppress_tokens=[1], eos_token_id=[0, 3], pad_token_id=0)
    expected = model.generate(**inputs, generation_config=settings)[0, inputs["input_ids"].shape[1] :].tolist()
    (answer,) = LLM(str(folder), trust_remote_code=True, dtype="float32", max_model_len=64, enforce_eager=True).generate(
        [prompt], SamplingParams(temperature=0, max_tokens=8)
    )
    assert list(answer.outputs[0].token_ids) == expected
