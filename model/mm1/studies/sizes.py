"""Size and learning rate of a level, read from its settings. Torch-free."""

from __future__ import annotations

from mm1.errors import ConfigurationError
from mm1.studies.chains import run_config
from mm1.studies.config import Study
from mm1.studies.files import merged, read_base
from mm1.train.config import DecoderConfig
from mm1.train.schedule import learning_rate_law

PRETRAIN, TEXT_BASE = "pretrain", "text_base"


def size_of(study: Study, level: str = "") -> int:
    """Return N of a level: non-embedding parameters of its decoder.

    Args:
        study: the study.
        level: name of the level; empty: the study's target.

    Raises:
        ConfigurationError: the decoder is not in the settings, but comes from a folder.
    """
    chain = _chain(study, level)
    stage = TEXT_BASE if TEXT_BASE in chain else PRETRAIN
    decoder = run_config(chain, stage).model.decoder
    if decoder is None or chain[stage].get("decoder"):
        raise ConfigurationError(f"{level}: the size of the decoder is not in the settings of {stage}: remove {stage}.decoder")
    return num_parameters(decoder)


def rate_of(study: Study, level: str) -> float:
    """Return the peak learning rate of pre-training of a level."""
    lr = run_config(_chain(study, level), PRETRAIN).optim.lr
    return learning_rate_law(size_of(study, level)) if lr == "law" else lr


def _chain(study: Study, level: str) -> dict[str, dict[str, str]]:
    return merged(read_base(study.base), study.settings, study.levels[level] if level else study.target)


def num_parameters(decoder: DecoderConfig) -> int:
    """Count the non-embedding parameters of a Qwen3 decoder; of experts, those of its dense counterpart.

    Equal to :func:`mm1.train.optim.num_decoder_parameters`, which counts a model.
    """
    width, head = decoder.hidden_size, decoder.head_size
    attention = 2 * width * head * (decoder.num_heads + decoder.num_kv_heads) + 2 * head
    ffns = [decoder.ffn_size] * decoder.num_layers
    if decoder.num_experts:
        sparse = slice(decoder.sparse_every - 1, None, decoder.sparse_every)
        ffns[sparse] = [decoder.expert_ffn_size or decoder.ffn_size] * len(ffns[sparse])
    return sum(attention + 3 * width * ffn + 2 * width for ffn in ffns) + width
