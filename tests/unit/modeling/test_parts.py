"""Models from pretrained parts in real Hugging Face folders."""

import pytest
import torch
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3ForCausalLM,
    SiglipVisionModel,
)

from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import packed_batch, tiny_config

FIELDS = {"image_tokens": 4, "connector_hidden_size": 16, "connector_depth": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    config = tiny_config()
    torch.manual_seed(0)
    Qwen3ForCausalLM(config.text_config).save_pretrained(root / "qwen3")
    AutoModel.from_config(config.vision_config).save_pretrained(root / "clip_vision")
    SiglipVisionModel(tiny_config(vision="siglip").vision_config).save_pretrained(root / "siglip_vision")
    text = CLIPTextConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=32)
    CLIPModel(CLIPConfig(vision_config=config.vision_config, text_config=text)).save_pretrained(root / "clip")
    gpt2 = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=40)
    GPT2LMHeadModel(gpt2).save_pretrained(root / "gpt2")
    return root


def test_the_decoder_answers_text_as_before(folders):
    model = MM1ForConditionalGeneration.from_parts(folders / "clip_vision", folders / "qwen3", **FIELDS).eval()
    ids = torch.arange(4, 20)[None]
    expected = Qwen3ForCausalLM.from_pretrained(folders / "qwen3")(ids).logits
    torch.testing.assert_close(model(ids).logits, expected)


@pytest.mark.parametrize("vision", ["clip_vision", "clip"])
def test_a_clip_tower_comes_alone_or_out_of_a_whole_clip(folders, vision):
    model = MM1ForConditionalGeneration.from_parts(folders / vision, None, config=tiny_config("average_pool")).eval()
    if vision == "clip":
        tower = CLIPModel.from_pretrained(folders / "clip").vision_model
    else:
        tower = AutoModel.from_pretrained(folders / "clip_vision")
    pixels = torch.randn(1, 3, 16, 16)
    expected = tower(pixels).last_hidden_state
    assert torch.equal(model.model.vision_tower(pixels).last_hidden_state, expected)


def test_a_siglip_tower_has_no_class_token_to_lose(folders):
    model = MM1ForConditionalGeneration.from_parts(folders / "siglip_vision", folders / "qwen3", **FIELDS).eval()
    pixels = torch.randn(1, 3, 16, 16)
    expected = SiglipVisionModel.from_pretrained(folders / "siglip_vision")(pixels).last_hidden_state
    assert torch.equal(model.model.vision_tower(pixels).last_hidden_state, expected)
    assert model.get_image_features(pixels).shape == (1, 4, 32)


def test_a_tied_decoder_with_other_names_works_and_grows_for_the_image_token(folders):
    model = MM1ForConditionalGeneration.from_parts(
        folders / "clip_vision", folders / "gpt2", image_token_id=40, **FIELDS
    ).train()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().num_embeddings == 128  # 41, padded
    batch = packed_batch([[9, 7], [12]], vocab_size=39)
    batch["input_ids"][batch["input_ids"] == 1] = 40
    model(**batch).loss.backward()


def test_a_saved_whole_can_be_loaded_again(folders, tmp_path):
    model = MM1ForConditionalGeneration.from_parts(folders / "clip", folders / "qwen3", **FIELDS).eval()
    model.save_pretrained(tmp_path)
    batch = packed_batch([[9, 7], [12]])
    assert torch.equal(MM1ForConditionalGeneration.from_pretrained(tmp_path)(**batch).loss, model(**batch).loss)


def test_a_part_without_folder_and_configuration_is_named(folders):
    with pytest.raises(ValueError, match="'vision'"):
        MM1ForConditionalGeneration.from_parts(None, folders / "qwen3", **FIELDS)
