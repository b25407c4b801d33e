"""Text and images become model inputs, and the same ones as in training."""

import base64

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from mm1.modeling.processing import MM1Processor, build_processor
from tests.support.tiny_model import tiny_tokenizer


@pytest.fixture(scope="module")
def processor():
    return build_processor(tiny_tokenizer(), image_tokens=4, image_size=16)


def _image(height=16, width=16, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _words(processor, ids):
    return [processor.tokenizer.decode([token]) for token in ids]


def test_a_word_has_one_token_wherever_it_stands(processor):
    inputs = processor(text="this is<image>this is", images=_image())
    assert _words(processor, inputs["input_ids"][0]) == [" this", " is", *["<image>"] * 4, " this", " is"]
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    assert inputs["attention_mask"].tolist() == [[1] * 8]


def test_chat_is_chatml_with_images_where_they_stand(processor):
    messages = [
        {"role": "system", "content": "describe"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it ?"}]},
        {"role": "assistant", "content": "red ."},
    ]
    text = processor.apply_chat_template(messages)
    assert text == (
        "<|im_start|>system\ndescribe<|im_end|>\n"
        "<|im_start|>user\n<image>what is it ?<|im_end|>\n"
        "<|im_start|>assistant\nred .<|im_end|>\n"
    )
    asked = processor.apply_chat_template(messages[:2], add_generation_prompt=True)
    assert asked == text.removesuffix("red .<|im_end|>\n")


def test_chat_tokens_are_those_of_its_pieces(processor):
    pieces = ["<|im_start|>user\n", "red .<|im_end|>\n", "<|im_start|>assistant\n", "what is<|im_end|>\n"]
    expected = [token for piece in pieces for token in processor.tokenizer.encode(piece, add_special_tokens=False)]
    assert processor.encode("".join(pieces)) == expected
    assert " what" in _words(processor, expected)  # as at any other place


def test_a_conversation_can_hold_its_images(processor):
    content = [{"type": "image", "image": _image()}, {"type": "text", "text": "what is it ?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    expected = processor(text="<|im_start|>user\n<image>what is it ?<|im_end|>\n<|im_start|>assistant\n", images=_image())
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])


def test_texts_are_padded_on_the_left(processor):
    inputs = processor(text=["red", "<image>this is dax"], images=[[], [_image()]])
    assert inputs["input_ids"].shape == (2, 7)
    assert inputs["attention_mask"].tolist() == [[0] * 6 + [1], [1] * 7]
    assert inputs["input_ids"][0, :6].tolist() == [0] * 6


def test_places_and_images_must_agree(processor):
    with pytest.raises(ValueError, match=r"2 image tokens \(<image>\), but got 1 images"):
        processor(text="<image><image>", images=_image())
    with pytest.raises(ValueError, match="text, images or both"):
        processor()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", [(16, 16), (40, 23), (7, 9)])
def test_the_fast_path_equals_the_image_processor(processor, mode, size):
    image = _image(*size).convert(mode)
    expected = processor.image_processor([image], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor.pixel_values([image]), expected, atol=1e-5, rtol=0)


def test_arrays_are_images_too(processor):
    image = _image(16, 16)
    assert torch.equal(processor.pixel_values([np.asarray(image)]), processor.pixel_values([image]))
    larger = _image(20, 30)
    assert torch.equal(processor.pixel_values([np.asarray(larger)]), processor.pixel_values([larger]))


def test_an_image_processor_that_crops_is_left_to_itself():
    cropping = CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})
    processor = MM1Processor(cropping, tiny_tokenizer(), image_tokens=4)
    image = _image(40, 23)
    expected = cropping([image], return_tensors="pt")["pixel_values"]
    assert torch.equal(processor.pixel_values([image]), expected)


def test_a_rectangular_size_keeps_height_and_width_apart():
    processor = build_processor(tiny_tokenizer(), image_tokens=4, image_size=(16, 24))
    assert processor.pixel_values([_image(50, 50)]).shape == (1, 3, 16, 24)


def test_saved_and_loaded_it_does_the_same(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = MM1Processor.from_pretrained(tmp_path)
    inputs = {"text": "<|im_start|>user\n<image>what is it ?", "images": _image(30, 20)}
    expected, got = processor(**inputs), loaded(**inputs)
    assert torch.equal(got["input_ids"], expected["input_ids"])
    assert torch.equal(got["pixel_values"], expected["pixel_values"])
    assert (loaded.image_tokens, loaded.chat_template) == (processor.image_tokens, processor.chat_template)


def test_a_tokenizer_without_the_image_token_is_refused():
    backend = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, pad_token="<|endoftext|>")
    with pytest.raises(ValueError, match="<picture>"):
        MM1Processor(CLIPImageProcessorPil(), backend, image_token="<picture>")


def test_an_image_may_be_a_path_or_a_data_url(processor, tmp_path):
    """As plain transformers and its server pass them; upright, and on white."""
    page = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    page.paste((255, 0, 0, 255), (0, 0, 10, 20))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    page.save(tmp_path / "page.png", exif=sideways)
    url = "data:image/png;base64," + base64.b64encode((tmp_path / "page.png").read_bytes()).decode()
    upright = Image.new("RGB", (20, 40), "white")
    upright.paste((255, 0, 0), (0, 0, 20, 10))
    wanted = processor(images=upright)["pixel_values"]
    for image in (tmp_path / "page.png", str(tmp_path / "page.png"), url, Image.open(tmp_path / "page.png")):
        torch.testing.assert_close(processor(images=[image])["pixel_values"], wanted)


def test_images_are_divided_if_they_are_few_or_if_the_caller_wants_it():
    processor = build_processor(tiny_tokenizer(), image_tokens=4, image_size=16, image_layout="dynamic,grid=4-4,marks=none")

    def rows(number, **options):
        inputs = processor(text="<image>a" * number, images=[_image(40, 30)] * number, **options)
        assert (inputs["input_ids"] == 1).sum() == 4 * len(inputs["pixel_values"])
        return len(inputs["pixel_values"])

    assert [rows(number) for number in (1, 2, 3)] == [5, 10, 3]
    assert (rows(1, divide_images=False), rows(3, divide_images=True)) == (1, 15)
    assert len(processor(images=[_image(40, 30)] * 3)["pixel_values"]) == 15, "without a text, each image is alone"
    texts = processor(text=["a", "<image>", "<image><image><image>"], images=[_image(9, 9)] * 4)
    assert len(texts["pixel_values"]) == 5 + 3, "each text is a sample"


def test_the_layout_is_saved_and_those_that_cannot_be_are_refused(processor, tmp_path):
    tiled = build_processor(tiny_tokenizer(), image_tokens=4, image_size=16, image_layout="static")
    tiled.save_pretrained(tmp_path / "tiled")
    assert MM1Processor.from_pretrained(tmp_path / "tiled").image_layout == "static"
    processor.save_pretrained(tmp_path / "single")
    assert "image_layout" not in (tmp_path / "single" / "processor_config.json").read_text(), "as before there were layouts"
    with pytest.raises(ValueError, match="expected single or static or dynamic"):
        build_processor(tiny_tokenizer(), image_tokens=4, image_size=16, image_layout="tiled")
    with pytest.raises(ValueError, match="to a square"):
        build_processor(tiny_tokenizer(), image_tokens=4, image_size=(16, 24), image_layout="static")
