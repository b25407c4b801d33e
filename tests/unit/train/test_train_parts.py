"""Where the parts of a model come from, and upcycling."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from mm1.checkpoint.write import put_model
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint
from mm1.recipes import registry
from mm1.train.config import ModelConfig, SequenceConfig
from mm1.train.model import Init, build_model
from mm1.train.model_origin import check_against_mixture, check_sequence, sequence_of, settle_parts
from tests.support.mixtures import build_mix
from tests.support.tiny_runs import small_run


def checkpoint_of(stage: str, model: dict | None = None) -> Checkpoint:
    counts = dict.fromkeys(("step", "total_steps", "sequences_seen", "tokens_seen", "images_seen", "num_parameters"), 1)
    return Checkpoint(stage=stage, recipe="r", config={}, world_size=1, model=model or {}, **counts)


@pytest.mark.parametrize(
    ("recipe", "stage", "vision", "fresh"),
    [
        ("mm1_tiny", "", "", {"vision", "connector", "decoder"}),
        ("mm1_tiny", "text", "", {"vision", "connector"}),
        ("mm1_tiny", "imported", "", {"vision", "connector"}),
        ("mm1_tiny", "vision", "", {"connector"}),
        ("mm1_tiny_moe", "vision", "", {"connector", "decoder"}),
        ("mm1_tiny_clip", "", "", {"vision", "connector", "decoder", "clip"}),
        ("mm1_tiny_aim", "text", "", {"vision", "connector", "aim"}),
        ("mm1_clip", "vision", "", {"connector", "clip"}),
        ("mm1_tiny", "pretrain", "", set()),
        ("mm1_tiny", "pretrain", "clip", {"connector"}),
        ("mm1_tiny", "", "clip", {"connector", "decoder"}),
        ("mm1_tiny_sft", "pretrain", "", set()),
        ("mm1_tiny_moe", "text", "", {"vision", "connector", "decoder"}),
    ],
)
def test_sections_are_kept_for_fresh_parts_only(recipe, stage, vision, fresh):
    config = settle_parts(registry.get(recipe), stage, vision, "")
    assert {name for name in ModelConfig.model_fields if getattr(config.model, name) is not None} == fresh


def test_parts_without_origin_and_overrides_without_effect_are_refused(mixture):
    with pytest.raises(ConfigurationError, match="set init to a checkpoint of the previous stage"):
        settle_parts(registry.get("mm1_tiny_sft"), "", "", "")
    with pytest.raises(ConfigurationError, match="the connector comes from init, so it has no effect"):
        settle_parts(registry.get("mm1_tiny"), "pretrain", "", "", ["model.connector.depth=2"])
    moe, expert_fields = registry.get("mm1_tiny_moe"), ["model.decoder.num_experts=8", "model.decoder.sparse_every=1"]
    assert settle_parts(moe, "text", "", "", expert_fields).model.decoder is not None
    with pytest.raises(ConfigurationError, match=r"model.decoder.ffn_size=8: the decoder comes from init"):
        settle_parts(moe, "text", "", "", [*expert_fields, "model.decoder.ffn_size=8"])
    with pytest.raises(ConfigurationError, match=r"num_experts=8: the decoder comes from init"):
        settle_parts(registry.get("mm1_tiny"), "text", "", "", ["model.decoder.num_experts=8"])
    with pytest.raises(ConfigurationError, match="stage pretrain, whose connector fits its tower"):
        settle_parts(registry.get("mm1_tiny_clip"), "pretrain", "", "")
    with pytest.raises(ConfigurationError, match="only the text stage"):
        settle_parts(registry.get("mm1_tiny"), "", "", "somewhere")
    with pytest.raises(ConfigurationError, match="image_tokens=16"):
        check_against_mixture({"image_tokens": 16, "vision_config": {"patch_size": 8, "image_size": 16}}, mixture[2])
    with pytest.raises(ConfigurationError, match=r"image_size=20, the tower's own size, or another multiple of 5"):
        check_against_mixture({"image_tokens": 4, "vision_config": {"patch_size": 5, "image_size": 20}}, mixture[2])


def test_a_mixture_that_a_recipe_does_not_want_is_refused(mixture):
    _, _, mix = mixture
    made = {"max_images": mix.max_images, "image_size_px": mix.image_size_px, "image_tokens": mix.image_tokens}
    check_sequence(None, sequence_of(mix))
    check_sequence(SequenceConfig(length=mix.sequence_length, **made), sequence_of(mix))
    for field in ("length", *made):
        wanted = SequenceConfig(**{"length": mix.sequence_length, **made, field: 4096})
        with pytest.raises(ConfigurationError, match=rf"sequence\.{field}=4096: build the mixture with"):
            check_sequence(wanted, sequence_of(mix))


@pytest.mark.parametrize("recipe", ["mm1_tiny", "mm1_tiny_moe"])
@pytest.mark.parametrize("decoder", ["init=unit", "init=normal", "tie_embeddings=true"])
def test_a_seed_gives_the_same_model_in_every_dtype(mixture, tmp_path, recipe, decoder):
    """The weights of a bfloat16 run are float32 at ZeRO stage 0, and bfloat16 above."""
    store, _, mix = mixture
    overrides = (f"model.decoder.{decoder}", "train.dtype=bfloat16", "optim.name=adamw")
    whole, rounded = (
        build_model(small_run(recipe, *overrides, f"train.zero_stage={stage}"), mix, store, tmp_path / str(stage))[0]
        for stage in (0, 1)
    )
    for name, weight in whole.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(rounded.get_parameter(name), weight.bfloat16()), name


def test_a_vocabulary_may_be_rounded_up_but_never_cuts_the_tokenizer(mixture, tmp_path):
    store, _, mix = mixture
    model, processor = build_model(small_run("mm1_tiny", "model.decoder.vocab_size=512"), mix, store, tmp_path)
    assert model.lm_head.weight.shape[0] == model.get_input_embeddings().weight.shape[0] == 512
    assert len(processor.tokenizer) < 512
    with pytest.raises(ConfigurationError, match=r"vocab_size=8, but .* set model\.decoder\.vocab_size=384"):
        build_model(small_run("mm1_tiny", "model.decoder.vocab_size=8"), mix, store, tmp_path)


@pytest.fixture(scope="module")
def text_base(mixture, tmp_path_factory):
    """A checkpoint of the text stage, untrained."""
    store, _, mix = mixture
    folder = tmp_path_factory.mktemp("base")
    model, processor = build_model(small_run("mm1_tiny_lm"), mix, store, folder)
    return model, Init(checkpoint_of("text", put_model(store, model, processor, folder / "out")), store)


def test_a_text_base_gives_its_language_model_and_nothing_else(mixture, tmp_path, text_base):
    store, _, mix = mixture
    base, init = text_base
    config = settle_parts(small_run("mm1_tiny", "train.seed=1"), init.checkpoint.stage, "", "")
    model, _ = build_model(config, mix, store, tmp_path, init=init)
    for name, parameter in model.named_parameters():
        is_language = "language_model" in name or name == "lm_head.weight"
        assert is_language or parameter.std() == 0 or not torch.equal(parameter, base.get_parameter(name)), name
        assert not is_language or torch.equal(parameter, base.get_parameter(name)), name


def test_an_upcycled_model_computes_what_the_dense_one_did(mixture, tmp_path, text_base):
    store, _, mix = mixture
    base, init = text_base
    config = settle_parts(small_run("mm1_tiny_moe"), init.checkpoint.stage, "", "")
    sparse, _ = build_model(config, mix, store, tmp_path, init=init)
    ids = torch.arange(4, 44).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(sparse(ids).logits, base(ids).logits, rtol=1e-4, atol=1e-5)
    assert sparse.config.num_experts == 4
    assert sum(parameter.numel() for parameter in sparse.parameters()) > sum(
        parameter.numel() for parameter in base.parameters()
    )


def test_upcycling_to_experts_of_another_width_is_refused(mixture, tmp_path, text_base):
    store, _, mix = mixture
    _, init = text_base
    config = settle_parts(small_run("mm1_tiny_moe", "model.decoder.expert_ffn_size=32"), init.checkpoint.stage, "", "")
    with pytest.raises(ConfigurationError, match="expert_ffn_size=32"):
        build_model(config, mix, store, tmp_path, init=init)


def test_real_parts_come_from_their_folders(mixture, tmp_path):
    store, _, mix = mixture
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    tower = CLIPVisionModel(CLIPVisionConfig(**shape, num_hidden_layers=1, image_size=24, patch_size=8))
    tower.save_pretrained(tmp_path / "clip")
    decoder = Qwen3ForCausalLM(
        Qwen3Config(**shape, num_hidden_layers=1, num_key_value_heads=2, head_dim=16, vocab_size=200, tie_word_embeddings=True)
    )
    decoder.save_pretrained(tmp_path / "qwen")
    config = settle_parts(small_run("mm1_tiny_lm"), "", str(tmp_path / "clip"), str(tmp_path / "qwen"))
    assert config.model.decoder is None and config.model.vision is None
    model, processor = build_model(config, mix, store, tmp_path, vision=str(tmp_path / "clip"), decoder=str(tmp_path / "qwen"))
    vocabulary = len(processor.tokenizer)
    assert model.config.text_config.vocab_size == -vocabulary // 128 * -128 > vocabulary > 200
    embedding = model.get_input_embeddings().weight
    assert torch.equal(embedding[:200], decoder.get_input_embeddings().weight)
    assert torch.equal(embedding, model.lm_head.weight)
    kernels = [parameter for name, parameter in model.named_parameters() if name.endswith("patch_embedding.weight")]
    wanted = [parameter for name, parameter in tower.named_parameters() if name.endswith("patch_embedding.weight")]
    assert len(kernels) == len(wanted) == 1 and torch.equal(kernels[0], wanted[0])


def test_a_table_of_positions_shorter_than_the_sequences_is_refused(mixture, tmp_path):
    store, _, mix = mixture
    for positions in (mix.sequence_length, mix.sequence_length - 1):
        gpt2 = GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=positions, vocab_size=300)
        GPT2LMHeadModel(gpt2).save_pretrained(tmp_path / str(positions))
    config = settle_parts(small_run("mm1_tiny_lm"), "", "", "gpt2")
    build_model(config, mix, store, tmp_path, decoder=str(tmp_path / str(mix.sequence_length)))
    with pytest.raises(ConfigurationError, match=r"positions for 63: build the mixture with sequence_length=63"):
        build_model(config, mix, store, tmp_path, decoder=str(tmp_path / "63"))


def test_data_of_another_tokenizer_are_refused(mixture, tmp_path, text_base):
    store, _, _ = mixture
    _, init = text_base
    _, other = build_mix(store, tmp_path / "other", weights={"text": 1.0}, vocabulary=280)
    config = settle_parts(small_run("mm1_tiny"), init.checkpoint.stage, "", "")
    with pytest.raises(ConfigurationError, match="its tokenizer is not the one"):
        build_model(config, other, store, tmp_path, init=init)


def test_patches_that_do_not_fit_the_image_are_refused(mixture, tmp_path):
    store, _, mix = mixture
    with pytest.raises(ConfigurationError, match="cannot be divided into the tower"):
        build_model(small_run("mm1_tiny", "model.vision.patch_size_px=5"), mix, store, tmp_path)


def test_a_connector_whose_heads_do_not_fit_is_one_clear_error(mixture, tmp_path):
    store, _, mix = mixture
    config = small_run("mm1_tiny", "model.connector.type=attention_pool", "model.connector.num_heads=7")
    with pytest.raises(ConfigurationError, match="cannot build the model"):
        build_model(config, mix, store, tmp_path)
