"""Parts from folders laid out as public checkpoints are: the same numbers come out as from their own models."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionModel,
    Qwen3ForCausalLM,
    Qwen3MoeForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionModel,
)

from mm1.modeling.attention import PACKED_ATTENTION
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.parts import build_from_parts
from tests.support.tiny_model import tiny_config, tiny_model

FIELDS = {"image_tokens": 4, "connector_hidden_size": 16, "connector_depth": 1, "connector_num_heads": 4}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 32}
SHARD = "20KB"  # several files and an index, even of tiny models


def from_parts(vision, decoder, **fields):
    return MM1ForConditionalGeneration.from_parts(vision, decoder, **{**FIELDS, **fields}).eval()


def write_shards(state: dict[str, torch.Tensor], folder: Path, count: int = 2) -> None:
    """The files of a public checkpoint: shards and their index."""
    names = sorted(state)
    files = {name: f"model-{1 + number % count:05d}-of-{count:05d}.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: state[name].contiguous() for name in names if files[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    torch.manual_seed(0)
    Qwen3ForCausalLM(tiny_config().text_config).save_pretrained(root / "qwen3", max_shard_size=SHARD)
    tied = tiny_config(text={"tie_word_embeddings": True}).text_config
    Qwen3ForCausalLM(tied).save_pretrained(root / "tied", max_shard_size=SHARD)
    for name, vision_class, whole_class, whole_config, text_config in (
        ("clip", CLIPVisionModel, CLIPModel, CLIPConfig, CLIPTextConfig),
        ("siglip", SiglipVisionModel, SiglipModel, SiglipConfig, SiglipTextConfig),
    ):
        vision = tiny_config(vision=name).vision_config
        vision_class(vision).save_pretrained(root / f"{name}_vision", max_shard_size=SHARD)
        text = text_config(**TEXT, **({"projection_size": 32} if name == "siglip" else {}))
        whole_class(whole_config(vision_config=vision, text_config=text)).save_pretrained(root / name, max_shard_size=SHARD)
    return root


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("name", "classes"), [("clip", (CLIPVisionModel, CLIPModel)), ("siglip", (SiglipVisionModel, SiglipModel))]
)
def test_towers_in_shards_give_the_same_numbers(root, name, classes, whole):
    folder = root / (name if whole else f"{name}_vision")
    assert len(list(folder.glob("*.safetensors"))) > 1
    source = classes[whole].from_pretrained(folder).eval()
    source = source.vision_model if whole else source
    pixels = torch.randn(2, 3, 16, 16)
    model = from_parts(folder, root / "qwen3")
    assert torch.equal(model.model.vision_tower(pixels).last_hidden_state, source(pixels).last_hidden_state)
    assert model.config.vision_config.model_type == f"{name}_vision_model"


def test_a_tower_with_the_names_of_older_files_is_read(root, tmp_path):
    source = CLIPVisionModel.from_pretrained(root / "clip_vision").eval()
    state = {f"vision_model.{name}": tensor for name, tensor in source.state_dict().items()}
    save_file({**state, "vision_model.embeddings.position_ids": torch.arange(17)[None]}, tmp_path / "model.safetensors")
    config = json.loads((root / "clip_vision" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
    pixels = torch.randn(2, 3, 16, 16)
    tower = from_parts(tmp_path, root / "qwen3").model.vision_tower
    assert torch.equal(tower(pixels).last_hidden_state, source(pixels).last_hidden_state)


@pytest.mark.parametrize("name", ["qwen3", "tied"])
def test_decoders_in_shards_give_the_same_numbers(root, name):
    assert len(list((root / name).glob("*.safetensors"))) > 1
    model, source = from_parts(root / "clip", root / name), Qwen3ForCausalLM.from_pretrained(root / name).eval()
    ids = torch.arange(4, 24).view(2, 10)
    assert torch.equal(model(ids).logits, source(ids).logits)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == (name == "tied")
    assert model.model.language_model.config._attn_implementation == PACKED_ATTENTION


def test_a_tied_decoder_may_have_its_output_layer_in_its_files(root, tmp_path):
    source = Qwen3ForCausalLM.from_pretrained(root / "tied")
    (tmp_path / "config.json").write_text((root / "tied" / "config.json").read_text())
    write_shards({name: tensor.clone() for name, tensor in source.state_dict().items()}, tmp_path)
    model = from_parts(root / "clip", tmp_path)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, source.lm_head.weight)


def test_experts_are_read_one_by_one_as_public_checkpoints_have_them(root, tmp_path):
    """Names, configuration and type of the files of Qwen3-MoE, where each expert has its own matrices."""
    config = tiny_config(moe=True, text={"decoder_sparse_step": 1}).text_config
    torch.manual_seed(1)
    source = Qwen3MoeForCausalLM(config).eval()
    for parameter in source.parameters():
        parameter.data = parameter.data.bfloat16().float()
    state = {}
    for name, tensor in source.state_dict().items():
        prefix, _, kind = name.partition(".experts.")
        if kind == "gate_up_proj":
            for number, expert in enumerate(tensor):
                gate, up = expert.chunk(2)
                state[f"{prefix}.experts.{number}.gate_proj.weight"] = gate
                state[f"{prefix}.experts.{number}.up_proj.weight"] = up
        elif kind == "down_proj":
            state |= {f"{prefix}.experts.{number}.down_proj.weight": expert for number, expert in enumerate(tensor)}
        else:
            state[name] = tensor
    assert "model.layers.0.mlp.experts.3.gate_proj.weight" in state and "model.layers.1.mlp.gate.weight" in state
    write_shards({name: tensor.to(torch.bfloat16) for name, tensor in state.items()}, tmp_path)
    fields = {**config.to_dict(), "torch_dtype": "bfloat16", "mlp_only_layers": [], "rope_scaling": None, "rope_theta": 1e4}
    for name in ("rope_parameters", "dtype", "num_local_experts", "layer_types"):
        fields.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps({**fields, "num_experts": 4, "architectures": ["Qwen3MoeForCausalLM"]}))
    model = from_parts(root / "clip", tmp_path)
    for name, tensor in source.model.state_dict().items():
        assert torch.equal(model.model.language_model.state_dict()[name], tensor), name
    ids = torch.arange(4, 24).view(2, 10)
    # The difference is 0 here; but which expert is added first is up to each of the two implementations.
    torch.testing.assert_close(model(ids).logits, source(ids).logits, rtol=1e-5, atol=1e-6)
    assert model.config.num_experts == 4 and model.config.norm_topk_prob


@pytest.mark.parametrize("connector", ["average_pool", "attention_pool", "c_abstractor"])
@pytest.mark.parametrize("parts", [("clip", None), (None, "qwen3"), ("siglip", "tied")])
def test_no_fresh_weight_is_left_undrawn(root, parts, connector):
    """Memory that nobody wrote is made to hold NaN for this test."""
    folders = [root / part if part else None for part in parts]
    torch.use_deterministic_algorithms(True)
    try:
        model = from_parts(*folders, config=tiny_config(), connector_type=connector)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    usual = tiny_model(connector).model.connector
    for name, parameter in model.model.connector.named_parameters():
        wanted = usual.get_parameter(name).std(correction=0).item()
        assert parameter.std(correction=0).item() == pytest.approx(wanted, rel=0.5), name


def test_a_seed_means_one_connector_whatever_the_type_of_the_weights(root):
    models = []
    for seed, dtype in ((1, torch.float32), (1, torch.bfloat16), (2, torch.float32)):
        torch.manual_seed(seed)
        models.append(from_parts(root / "clip", root / "qwen3", dtype=dtype))
    plain, rounded, other = (model.model.connector.state_dict() for model in models)
    assert all(torch.equal(plain[name].bfloat16(), rounded[name]) for name in plain)
    assert not all(torch.equal(plain[name], other[name]) for name in plain)
    assert {parameter.dtype for parameter in models[1].parameters()} == {torch.bfloat16}
    # The angles of far positions need all digits.
    assert models[1].model.language_model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_loaded_decoder_is_shared_not_copied(root):
    source = tiny_model(seed=3)
    model = build_from_parts(MM1ForConditionalGeneration, root / "clip", source, **FIELDS)
    assert model.lm_head.weight.data_ptr() == source.lm_head.weight.data_ptr()
    assert torch.equal(model.lm_head.weight, tiny_model(seed=3).lm_head.weight)
    ids = torch.arange(4, 24).view(2, 10)
    assert torch.equal(model(ids).logits, source(ids).logits)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read as Linux tells it")
def test_weights_are_held_once(root, tmp_path):
    decoder = Qwen3ForCausalLM(tiny_config(text={"vocab_size": 16384, "hidden_size": 512}).text_config)
    decoder.save_pretrained(tmp_path)
    size = sum(parameter.numel() * parameter.element_size() for parameter in decoder.parameters())

    def kilobytes(field: str) -> int:
        return int(
            next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)).split()[1]
        )

    def growth(origin) -> float:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = kilobytes("VmRSS")
        model = build_from_parts(MM1ForConditionalGeneration, root / "clip", origin, **FIELDS)
        assert sum(parameter.sum() for parameter in model.parameters()).isfinite()  # reads all of them
        return (kilobytes("VmHWM") - before) * 1024 / size

    assert growth(decoder) < 0.3
    assert 0.8 < growth(tmp_path) < 1.3


def test_the_files_are_as_they_were_after_training(root):
    path = next((root / "clip_vision").glob("*.safetensors"))
    before = {name: tensor.clone() for name, tensor in load_file(path).items()}
    model = from_parts(root / "clip_vision", root / "qwen3")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(path).items())
