"""Moving a model to a device and a dtype for inference."""

import torch

from mm1.generation.device import move_to
from mm1.generation.generator import Generator
from tests.support.tiny_mm1 import tiny_mm1

CPU = torch.device("cpu")


def test_weights_change_their_type_and_positions_stay_exact():
    model, _ = tiny_mm1()
    table = {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    assert any("inv_freq" in name for name in table)
    move_to(model, CPU, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for name, buffer in model.named_buffers():
        if name in table:
            torch.testing.assert_close(buffer, table[name], rtol=0, atol=0)


def test_shared_weights_stay_shared():
    model, _ = tiny_mm1()
    model.lm_head.weight = model.get_input_embeddings().weight
    move_to(model, CPU, torch.bfloat16)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_model_that_was_trained_in_bfloat16_answers_in_float32_where_there_is_no_gpu():
    model, processor = tiny_mm1()
    weights = Generator(move_to(model, CPU, torch.bfloat16), processor).model.dtype
    assert weights == (torch.bfloat16 if torch.cuda.is_available() else torch.float32)
