"""The size of a decoder that the studies compute from its configuration, against the model itself."""

from mm1.recipes.tiny import mm1_tiny_moe
from mm1.studies.sizes import num_parameters
from mm1.train.config import SequenceConfig
from mm1.train.empty_model import empty_model
from mm1.train.model import model_config
from mm1.train.optim import num_decoder_parameters


def test_sizes_are_those_of_the_model():
    model = mm1_tiny_moe().model
    model = model.model_copy(update={"decoder": model.decoder.model_copy(update={"vocab_size": 300, "expert_ffn_size": 80})})
    sequence = SequenceConfig(length=64, max_images=4, image_size_px=16, image_tokens=4)
    assert num_parameters(model.decoder) == num_decoder_parameters(empty_model(model_config(model, sequence)))
