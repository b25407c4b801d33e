"""Published decoders and towers become the model of a run: import, experts from dense layers, statistics of images."""

import json

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, load
from mm1.train.config import TrainJob
from mm1.train.import_decoder import publish_imported
from mm1.train.model import Init, build_model
from mm1.train.model_origin import settle_parts
from mm1.train.upcycle import upcycle
from tests.support.tiny_runs import small_run

SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
TOWER = {**SHAPE, "num_hidden_layers": 1, "image_size": 16, "patch_size": 4}
SPARSE = ("model.decoder.num_experts=3", "model.decoder.sparse_every=2", "model.decoder.expert_ffn_size=0")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    torch.manual_seed(7)
    decoder = Qwen3Config(
        **SHAPE, num_hidden_layers=4, num_key_value_heads=1, head_dim=16, vocab_size=512, initializer_range=0.2
    )
    Qwen3ForCausalLM(decoder).save_pretrained(root / "qwen3", max_shard_size="50KB")
    SiglipVisionModel(SiglipVisionConfig(**TOWER)).save_pretrained(root / "siglip")
    SiglipImageProcessor().save_pretrained(root / "siglip")
    CLIPVisionModel(CLIPVisionConfig(**TOWER)).save_pretrained(root / "clip")
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(root / "clip")
    CLIPVisionModel(CLIPVisionConfig(**TOWER)).save_pretrained(root / "silent")
    return root


@pytest.fixture(scope="module")
def imported(mixture, folders, tmp_path_factory):
    """The checkpoint that the text stage publishes for a decoder folder."""
    store, data, _ = mixture
    scratch = tmp_path_factory.mktemp("import")
    decoder = str(folders / "qwen3")
    config = settle_parts(small_run("mm1_tiny_lm"), "", "", decoder)
    job = TrainJob(config=config, data=data, store=store.uri, key="import", folder=str(scratch), decoder=decoder)
    return Init(load(publish_imported(job, store, scratch), Checkpoint), store)


def build(mixture, folder, init, recipe, *overrides, vision=""):
    store, _, mix = mixture
    config = settle_parts(small_run(recipe, *overrides), init.checkpoint.stage if init else "", vision, "")
    return build_model(config, mix, store, folder, init=init, vision=vision)


def test_a_published_dense_decoder_becomes_experts_that_answer_the_same(mixture, folders, imported, tmp_path):
    dense = Qwen3ForCausalLM.from_pretrained(folders / "qwen3").eval()
    model, _ = build(mixture, tmp_path, imported, "mm1_tiny_moe", *SPARSE, vision=str(folders / "clip"))
    ids = torch.arange(4, 84).view(2, 40)
    with torch.no_grad():
        # The weighted sum of equal experts is rounded once more than one expert's output.
        torch.testing.assert_close(model.eval()(ids).logits, dense(ids).logits, rtol=1e-4, atol=1e-5)
    layers = model.model.language_model.layers
    assert [hasattr(layer.mlp, "experts") for layer in layers] == [False, True, False, True]
    for layer, source in zip(layers, dense.model.layers, strict=True):
        if not hasattr(layer.mlp, "experts"):
            assert torch.equal(layer.mlp.gate_proj.weight, source.mlp.gate_proj.weight)
            continue
        wanted = torch.cat([source.mlp.gate_proj.weight, source.mlp.up_proj.weight])
        assert all(torch.equal(expert, wanted) for expert in layer.mlp.experts.gate_up_proj)
        assert all(torch.equal(expert, source.mlp.down_proj.weight) for expert in layer.mlp.experts.down_proj)
        assert layer.mlp.experts.gate_up_proj.shape[0] == 3
    routers = [layer.mlp.gate.weight for layer in layers if hasattr(layer.mlp, "experts")]
    assert all(0.1 < router.std() < 0.3 for router in routers) and not torch.equal(*routers)
    assert {parameter.requires_grad for parameter in model.parameters()} == {True}


def test_a_seed_means_the_same_routers_and_tower(mixture, imported, tmp_path):
    first, _ = build(mixture, tmp_path, imported, "mm1_tiny_moe", *SPARSE)
    same, _ = build(mixture, tmp_path, imported, "mm1_tiny_moe", *SPARSE)
    other, _ = build(mixture, tmp_path, imported, "mm1_tiny_moe", *SPARSE, "train.seed=1")
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in first.state_dict().items())
    name = "model.language_model.layers.1.mlp.gate.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    fresh, _ = build(mixture, tmp_path, None, "mm1_tiny")
    for name, parameter in fresh.model.vision_tower.named_parameters():
        assert torch.equal(first.model.vision_tower.get_parameter(name), parameter), name


def test_experts_have_the_type_of_the_dense_weights(mixture, imported, tmp_path):
    dense, _ = build(mixture, tmp_path, imported, "mm1_tiny")
    for parameter in dense.parameters():
        parameter.data = parameter.data.bfloat16()
    sparse = upcycle(dense, small_run("mm1_tiny_moe", *SPARSE).model.decoder)
    assert {parameter.dtype for parameter in sparse.parameters()} == {torch.bfloat16}
    assert sparse.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert sparse.lm_head.weight.data_ptr() == dense.lm_head.weight.data_ptr()  # shared, not copied


def test_experts_narrower_than_the_dense_layer_are_refused(mixture, imported, tmp_path):
    with pytest.raises(ConfigurationError, match=r"expert_ffn_size=32: .* which is 64 wide"):
        build(mixture, tmp_path, imported, "mm1_tiny_moe", "model.decoder.expert_ffn_size=32")


def test_only_the_connector_is_fresh_beside_a_published_tower_and_decoder(mixture, folders, imported, tmp_path):
    models = [
        build(mixture, tmp_path, imported, "mm1_tiny", f"train.seed={seed}", vision=str(folders / "siglip"))[0]
        for seed in (0, 1)
    ]
    tower = SiglipVisionModel.from_pretrained(folders / "siglip")
    decoder = Qwen3ForCausalLM.from_pretrained(folders / "qwen3")
    for model in models:
        for name, parameter in model.model.vision_tower.named_parameters():
            assert torch.equal(parameter, tower.get_parameter(name)), name
        for name, parameter in model.model.language_model.named_parameters():
            assert torch.equal(parameter, decoder.model.get_parameter(name)), name
        assert torch.equal(model.lm_head.weight, decoder.lm_head.weight)
    first, second = (model.model.connector.state_dict() for model in models)
    assert not all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("tower", "mean", "std"),
    [
        ("siglip", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("clip", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ("silent", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ],
)
def test_images_are_normalised_as_the_tower_was_trained(mixture, folders, imported, tmp_path, tower, mean, std):
    _, processor = build(mixture, tmp_path, imported, "mm1_tiny", vision=str(folders / tower))
    assert (tuple(processor.image_processor.image_mean), tuple(processor.image_processor.image_std)) == (mean, std)
    processor.save_pretrained(tmp_path / "saved")
    fields = json.loads(next((tmp_path / "saved").glob("*processor_config.json")).read_text())
    assert tuple(fields.get("image_processor", fields)["image_mean"]) == mean


def test_images_that_are_no_whole_number_of_patches_are_refused(mixture, tmp_path):
    _, _, mix = mixture
    patch_size = mix.image_size_px // 2 - 1
    tower = CLIPVisionModel(CLIPVisionConfig(**{**TOWER, "patch_size": patch_size, "image_size": 4 * patch_size}))
    tower.save_pretrained(tmp_path / "clip")
    with pytest.raises(
        ConfigurationError, match=rf"patches of {patch_size} pixels: build the mixture with image_size={4 * patch_size}"
    ):
        build(mixture, tmp_path, None, "mm1_tiny", vision=str(tmp_path / "clip"))


def test_a_decoder_is_imported_whatever_the_size_of_the_images(mixture, folders, tmp_path):
    store, data, mix = mixture
    decoder = str(folders / "qwen3")
    patch_size = mix.image_size_px // 2 + 1
    config = settle_parts(small_run("mm1_tiny_lm", f"model.vision.patch_size_px={patch_size}"), "", "", decoder)
    job = TrainJob(config=config, data=data, store=store.uri, key="odd", folder=str(tmp_path), decoder=decoder)
    checkpoint = load(publish_imported(job, store, tmp_path), Checkpoint)
    found = checkpoint.config["model"]["vision"]["patch_size_px"]
    assert found == mix.image_size_px // 2 and mix.image_size_px % found == 0


def test_a_damaged_folder_is_a_configuration_error(mixture, folders, imported, tmp_path):
    (tmp_path / "clip").mkdir()
    for path in (folders / "clip").iterdir():
        (tmp_path / "clip" / path.name).write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ConfigurationError, match=r"cannot build the model: vision: .* not a complete safetensors file: download it"
    ):
        build(mixture, tmp_path, imported, "mm1_tiny", vision=str(tmp_path / "clip"))
