"""Training on images in tiles: the checkpoint keeps the layout, and a recipe's layout must be the mixture's."""

import pytest

from mm1.checkpoint.read import load_model
from mm1.errors import ConfigurationError
from mm1.generation.generator import Generator
from mm1.generation.prompt import Request
from mm1.manifests import Checkpoint, digest_of_manifest, load, manifest_key
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.model_origin import check_pairs, check_sequence, sequence_sizes
from tests.support.mixtures import build_mix, encoded_image
from tests.support.tiny_runs import job_of, small_run

SIZES = {"length": 2048, "max_images": 14, "image_size_px": 672, "image_tokens": 144}


def test_a_model_trained_on_tiles_answers_with_tiles(tmp_path, alone):
    store = LocalStore(tmp_path / "store")
    _, mix = build_mix(
        store, tmp_path, weights={"captions": 1.0}, sequence_length=96, max_images=20, image_layout="dynamic,grid=2-4"
    )
    data = f"{store.uri}/{manifest_key(digest_of_manifest(mix))}"
    result = build_run(job_of(small_run("mm1_tiny", "train.steps=2"), store, data, tmp_path / "run"), 0, 1).go()
    model, processor = load_model(store, load(result.manifest, Checkpoint), tmp_path / "model")
    assert processor.image_layout == "dynamic,grid=2-4"
    (completion,) = Generator(model, processor).generate(
        [Request((encoded_image(0, size=(40, 20)), "a photo of"))], max_new_tokens=2
    )
    assert completion.num_prompt_tokens > 3 * mix.image_tokens


def test_a_recipes_layout_must_be_the_mixtures():
    tiled = sequence_sizes(**SIZES, image_layout="static")
    check_sequence(registry.get("mm1_sft_1344").sequence, tiled)
    with pytest.raises(ConfigurationError, match=r"image_layout=single in its mixture.*image_layout=static: build the mixture"):
        check_sequence(registry.get("mm1_sft_1344").sequence, sequence_sizes(**SIZES))
    with pytest.raises(ConfigurationError, match="data"):
        sequence_sizes(**SIZES, image_layout="tiled")
    assert "image_layout" not in registry.get("mm1_sft").sequence.model_dump(), "as in earlier checkpoints"


def test_pairs_of_whole_images_and_captions_need_whole_images():
    whole, tiled = sequence_sizes(**SIZES), sequence_sizes(**SIZES, image_layout="static")
    for recipe in ("mm1_tiny_clip", "mm1_tiny_aim", "mm1_tiny"):
        check_pairs(registry.get(recipe).model, whole)
    for recipe in ("mm1_tiny_aim", "mm1_tiny"):
        check_pairs(registry.get(recipe).model, tiled)
    with pytest.raises(ConfigurationError, match=r"image_layout=static in its mixture.*model\.clip.*image_layout=single"):
        check_pairs(registry.get("mm1_tiny_clip").model, tiled)
