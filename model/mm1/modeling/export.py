"""Export of a whole model to a folder that plain transformers can load.

    model, processor -> export -> folder (weights, configurations, tokenizer, code) -> AutoModelForImageTextToText

The folder contains the code of this package, so that it loads with `trust_remote_code=True` without this project.
Its bytes depend only on the model and the processor.
"""

from pathlib import Path

import torch

from .modeling import MM1ForConditionalGeneration
from .processing import TURN_END_TOKEN, MM1Processor, num_token_ids


def export(
    model: MM1ForConditionalGeneration,
    processor: MM1Processor,
    folder: Path | str,
    weights: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a folder that plain transformers can load with `trust_remote_code=True`.

    Args:
        model: the model.
        processor: its processor.
        folder: target folder; created if it is missing.
        weights: state dict to write in place of the model's own; an empty one writes no weights.

    Returns:
        The folder.
    """
    folder = Path(folder)
    set_stop_tokens(model, processor)
    model.save_pretrained(folder, state_dict=weights)
    processor.save_pretrained(folder)
    return folder


def set_stop_tokens(model: MM1ForConditionalGeneration, processor: MM1Processor) -> None:
    """Set the end-of-sequence and padding tokens of generation, unless they are already set, and suppress ids without a token.

    The vocabulary of a model can be larger than that of its tokenizer, see parts.py.
    """
    tokenizer, generation = processor.tokenizer, model.generation_config
    without_token = range(num_token_ids(tokenizer), model.config.text_config.vocab_size)
    generation.suppress_tokens = [model.config.image_token_id, *without_token]
    if generation.eos_token_id is None:
        turn_end = tokenizer.convert_tokens_to_ids(TURN_END_TOKEN)
        stops = {tokenizer.eos_token_id, turn_end} - {None, tokenizer.unk_token_id}
        generation.eos_token_id = sorted(stops)
    if generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id
