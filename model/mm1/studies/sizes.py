"""Size and learning rate of a level, read from its settings. Torch-free."""

from __future__ import annotations

from mm1.errors import ConfigurationError
from mm1.studies import fit, ladder
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


def check_sizes(study: Study) -> None:
    """Check before the training that the analysis of a study will have enough sizes and rates, and know them.

    Raises:
        ConfigurationError: it will not; the message names what to add.
    """
    if study.analysis == "levels":
        return
    sizes = {level: size_of(study, level) for level in study.levels}
    if study.analysis == "scaling":
        below = len({*sizes.values()}) - (0 if study.target else 1)
        if below < ladder.MIN_SIZES:
            raise ConfigurationError(f"levels: expected at least {ladder.MIN_SIZES} sizes below the predicted one, got {below}")
        if not any(score.lower_is_better for score in study.scores.values()):
            raise ConfigurationError("scores: the analysis scaling predicts losses: add one, such as {mean: [loss/captions]}")
        if study.target:
            size_of(study)
        return
    grid: dict[tuple[int, float], str] = {}
    for level, size in sizes.items():
        rate = rate_of(study, level)
        if (other := grid.setdefault((size, rate), level)) != level:
            raise ConfigurationError(f"levels: {other!r} and {level!r} have the same size and learning rate; remove one")
    if len({*sizes.values()}) < fit.MIN_SIZES:
        raise ConfigurationError(f"levels: expected at least {fit.MIN_SIZES} sizes, got {len({*sizes.values()})}")
    for size in {*sizes.values()}:
        if (rates := sum(size == other for other, _ in grid)) < fit.MIN_RATES:
            raise ConfigurationError(
                f"levels: expected at least {fit.MIN_RATES} learning rates for the size {size:,}, got {rates}"
            )


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
