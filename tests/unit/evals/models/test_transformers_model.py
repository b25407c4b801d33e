"""Models of transformers that are not this project's: their own `generate` and forward pass are the reference."""

from __future__ import annotations

import functools
import importlib.util
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mm1.errors import CheckpointError, ConfigurationError
from mm1.evals.models.config import ModelSettings
from mm1.evals.models.transformers_model import TransformersModel
from mm1.generation.prompt import Conversation, Message, Request
from tests.support import foreign_models


def picture(seed: int, width: int = 24, height: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(seed, 20 + 4 * seed) for seed in range(5)]
FAMILIES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(package) is None for package in foreign_models.NEEDS.get(name, ())),
            reason=f"its processor needs {' and '.join(foreign_models.NEEDS.get(name, ()))}",
        ),
    )
    for name in foreign_models.FAMILIES
]
PLAIN = [
    Request(("what colour is the ring ?",)),
    Request((PICTURES[0], "what colour is the ring ?")),
    Request((PICTURES[1], "a photo of"), prefix=(PICTURES[2], "a photo of a big blue ring .")),
    Request((PICTURES[3], "what is this ?"), prefix=(PICTURES[4], "what is this ? square . ", PICTURES[0], "wug .")),
]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = foreign_models.FAMILIES[request.param](tmp_path_factory.mktemp("foreign") / request.param)
    return TransformersModel.load(folder, ModelSettings(batch_size=8))


def decoded(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def reference(model, text, images, **options):
    images = [[decoded(image) for image in images]] if images else None
    return model.processor(text=[text], images=images, return_tensors="pt", **options)


def own_generate(model, text, images, length):
    """The answer of the model's own generate, alone."""
    inputs = reference(model, text, images)
    output = model.model.generate(**inputs, max_new_tokens=length, do_sample=False)
    tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
    ends = [position for position, token in enumerate(tokens) if token in model.stop_ids]
    return tokens[: ends[0]] if ends else tokens


def test_a_batch_of_prompts_is_answered_as_each_alone_by_the_models_own_generate(model):
    answers = model.generate(PLAIN, max_new_tokens=8)
    mark = model.render.image_mark
    for request, answer in zip(PLAIN, answers, strict=True):
        pieces = [*request.prefix, *request.prompt]
        text = "".join(piece if isinstance(piece, str) else mark for piece in pieces)
        images = [piece for piece in pieces if not isinstance(piece, str)]
        assert list(answer.tokens) == own_generate(model, text, images, 8)
        assert answer.num_prompt_tokens == reference(model, text, images)["input_ids"].shape[1]
    assert len({answer.tokens for answer in answers}) > 2, "answers depend on the prompt"


def test_a_conversation_is_rendered_by_the_models_chat_template(model):
    few = (Message("user", (PICTURES[1], "what is this ?")), Message("assistant", ("a ring .",)))
    asks = [
        Conversation((Message("user", (PICTURES[0], "what is this ?")),)),
        Conversation((Message("user", (PICTURES[2], "what is this ?")),), prefix=few),
        Conversation((Message("user", ("this is dax ?",)),)),
    ]
    for ask, answer in zip(asks, model.generate(asks, max_new_tokens=6), strict=True):
        turns = [
            {"role": turn.role, "content": [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                                            for part in turn.content]}
            for turn in (*ask.prefix, *ask.messages)
        ]  # fmt: skip
        text = model.processor.apply_chat_template(turns, add_generation_prompt=True)
        images = [part for turn in (*ask.prefix, *ask.messages) for part in turn.content if not isinstance(part, str)]
        assert list(answer.tokens) == own_generate(model, text, images, 6)


def test_the_images_count_each_in_its_place(model):
    swapped = [Request((PICTURES[1], PICTURES[0], "a photo of")), Request((PICTURES[0], PICTURES[1], "a photo of"))]
    choices = [[" big", " blue ring ."]] * 2
    first, second = model.score(swapped, choices)
    assert [each.logprob for each in first] != [each.logprob for each in second]


def test_continuations_have_the_likelihood_of_the_models_own_forward_pass(model):
    choices = [" red", " green .", " a big blue ring", " x"]
    scored = model.score(PLAIN, [choices] * len(PLAIN))
    mark = model.render.image_mark
    for request, likelihoods in zip(PLAIN, scored, strict=True):
        pieces = [*request.prefix, *request.prompt]
        text = "".join(piece if isinstance(piece, str) else mark for piece in pieces)
        images = [piece for piece in pieces if not isinstance(piece, str)]
        start = reference(model, text, images)["input_ids"].shape[1]
        for choice, likelihood in zip(choices, likelihoods, strict=True):
            inputs = reference(model, text + choice, images)
            with torch.inference_mode():
                logprobs = model.model(**inputs).logits[0].log_softmax(-1)
            ids = inputs["input_ids"][0].tolist()
            expected = sum(float(logprobs[position - 1, ids[position]]) for position in range(start, len(ids)))
            assert likelihood.logprob == pytest.approx(expected, abs=1e-3) and likelihood.num_tokens == len(ids) - start
            assert likelihood.is_greedy == (logprobs[start - 1 : -1].argmax(-1).tolist() == ids[start:])


def test_an_answer_ends_before_a_stop_string(model):
    (whole,) = model.generate([PLAIN[1]], max_new_tokens=12)
    middle = whole.text[len(whole.text) // 2 :][:2]
    (cut,) = model.generate([PLAIN[1]], max_new_tokens=12, stop=[middle])
    assert cut.text == whole.text[: whole.text.index(middle)].strip() and cut.finish_reason == "stop"


def test_marks_of_images_in_the_text_of_an_item_are_text(model):
    token = str(model.processor.image_token)
    rendered = model.render(Request((PICTURES[0], f"what is {token} ? </s>")))
    assert rendered.text.count(token) == model.render.image_mark.count(token) and "</s>" not in rendered.text


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return foreign_models.llava(tmp_path_factory.mktemp("llava") / "model")


def test_a_full_memory_halves_the_batch_and_changes_no_answer(llava, monkeypatch):
    expected = TransformersModel.load(llava, ModelSettings(batch_size=8)).generate(PLAIN[1:2] * 8, max_new_tokens=4)
    model = TransformersModel.load(llava, ModelSettings(batch_size=8))
    sizes, forward = [], model.model.forward

    @functools.wraps(forward)
    def full(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(**inputs)

    monkeypatch.setattr(model.model, "forward", full)
    counts = []
    assert model.generate(PLAIN[1:2] * 8, max_new_tokens=4, on_batch=counts.append) == expected
    assert max(sizes) == 8 and model.batch_size == 2 and sum(counts) == 8


def test_answers_are_greedy_whatever_the_folder_sets(llava, tmp_path):
    expected = TransformersModel.load(llava, ModelSettings()).generate(PLAIN, max_new_tokens=8)
    copy = _copy(llava, tmp_path / "sampling")
    path = copy / "generation_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"do_sample": True, "temperature": 1.5, "repetition_penalty": 9.0})
    )
    assert TransformersModel.load(copy, ModelSettings()).generate(PLAIN, max_new_tokens=8) == expected


def test_a_folder_whose_tensors_are_missing_is_refused(llava, tmp_path):
    copy = _copy(llava, tmp_path / "missing")
    tensors = load_file(copy / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "multi_modal_projector" not in name}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"multi_modal_projector.*would be random"):
        TransformersModel.load(copy, ModelSettings())


def test_folders_that_cannot_be_evaluated_are_refused_with_the_remedy(llava, tmp_path):
    code = _copy(llava, tmp_path / "code")
    config = json.loads((code / "config.json").read_text())
    remote = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.Model"}}
    (code / "config.json").write_text(json.dumps(config | remote))
    with pytest.raises(ConfigurationError, match="--trust-remote-code"):
        TransformersModel.load(code, ModelSettings())
    text = tmp_path / "text"
    text.mkdir()
    (text / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigurationError, match="not an image-text-to-text model"):
        TransformersModel.load(text, ModelSettings())


def test_a_prompt_beyond_the_context_and_a_chat_without_template_are_refused(llava):
    model = TransformersModel.load(llava, ModelSettings())
    with pytest.raises(ConfigurationError, match="context"):
        model.generate([Request(("ring " * 2000,))], max_new_tokens=4)
    model.processor.chat_template = None
    with pytest.raises(ConfigurationError, match="--style plain"):
        model.generate([Conversation((Message("user", ("what ?",)),))], max_new_tokens=4)
    with pytest.raises(ConfigurationError, match="empty"):
        model.score(PLAIN[:1], [[""]])


def _copy(folder, to):
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to
