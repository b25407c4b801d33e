"""Fields of OpenAI's and vLLM's APIs that would change the answer, and that this server does not have.

One table: field -> the values that change nothing, which pass, and the remedy for all others, which are refused. Fields that
are neither here nor in the requests are ignored, because they do not change the answer: `user`, `metadata`, `store` ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mm1.serve.api.errors import ApiError


class Neutral(NamedTuple):
    """A field that is refused unless its value changes nothing."""

    values: tuple[Any, ...]
    remedy: str = "remove it"


NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_TOOLS = "this model was not trained with tools; describe the task in the messages"
_FORMAT = "ask for the format in the messages and check the answer"
_SAMPLING = "use temperature and top_p"
_LENGTH = "use max_tokens and stop"

ANSWERS: dict[str, Neutral] = {
    # penalties and sampling
    "frequency_penalty": Neutral((0,), _SAMPLING),
    "presence_penalty": Neutral((0,), _SAMPLING),
    "repetition_penalty": Neutral((1,), _SAMPLING),
    "length_penalty": Neutral((1,), _SAMPLING),
    "no_repeat_ngram_size": Neutral((0,), _SAMPLING),
    "logit_bias": Neutral(NOTHING, _SAMPLING),
    "top_k": Neutral((-1, 0), _SAMPLING),
    "min_p": Neutral((0,), _SAMPLING),
    "typical_p": Neutral((1,), _SAMPLING),
    "mirostat": Neutral((0,), _SAMPLING),
    "xtc_probability": Neutral((0,), _SAMPLING),
    "dry_multiplier": Neutral((0,), _SAMPLING),
    "use_beam_search": Neutral(NOTHING, _SAMPLING),
    "early_stopping": Neutral(NOTHING, _SAMPLING),
    "allowed_token_ids": Neutral(NOTHING, _SAMPLING),
    "bad_words": Neutral(NOTHING, _SAMPLING),
    "logits_processors": Neutral(NOTHING, _SAMPLING),
    "vllm_xargs": Neutral(NOTHING),
    # length and end
    "min_tokens": Neutral((0,), _LENGTH),
    "ignore_eos": Neutral(NOTHING, _LENGTH),
    "stop_token_ids": Neutral(NOTHING, _LENGTH),
    "include_stop_str_in_output": Neutral(NOTHING, "append the stop string to the answer"),
    "truncate_prompt_tokens": Neutral(NOTHING, "shorten the prompt before sending it"),
    # form of the answer
    "response_format": Neutral((*NOTHING, {"type": "text"}), _FORMAT),
    "structured_outputs": Neutral(NOTHING, _FORMAT),
    "guided_json": Neutral(NOTHING, _FORMAT),
    "guided_regex": Neutral(NOTHING, _FORMAT),
    "guided_choice": Neutral(NOTHING, _FORMAT),
    "guided_grammar": Neutral(NOTHING, _FORMAT),
    "guided_json_object": Neutral(NOTHING, _FORMAT),
    "guided_whitespace_pattern": Neutral(NOTHING, _FORMAT),
    "structural_tag": Neutral(NOTHING, _FORMAT),
    "json_schema": Neutral(NOTHING, _FORMAT),
    "grammar": Neutral(NOTHING, _FORMAT),
    "regex": Neutral(NOTHING, _FORMAT),
    "skip_special_tokens": Neutral((True,)),
    "spaces_between_special_tokens": Neutral((True, False)),
    "return_tokens_as_token_ids": Neutral(NOTHING),
    "return_token_ids": Neutral(NOTHING, "use /tokenize"),
    "prompt_logprobs": Neutral(NOTHING, "use echo and logprobs of /v1/completions"),
    "prompt_embeds": Neutral(NOTHING, "send text"),
}
CHAT: dict[str, Neutral] = ANSWERS | {
    "tools": Neutral(NOTHING, _TOOLS),
    "tool_choice": Neutral((*NOTHING, "none", "auto"), _TOOLS),
    "functions": Neutral(NOTHING, _TOOLS),
    "function_call": Neutral((*NOTHING, "none", "auto"), _TOOLS),
    "web_search_options": Neutral(NOTHING, _TOOLS),
    "audio": Neutral(NOTHING, "this model answers with text"),
    "modalities": Neutral((*NOTHING, ["text"]), "this model answers with text"),
    "prediction": Neutral(NOTHING),
    "moderation": Neutral(NOTHING, "check the text with a service of its own"),
    "reasoning_effort": Neutral((*NOTHING, "none", "default"), "this model does not reason before it answers"),
    "thinking": Neutral((*NOTHING, {"type": "disabled"}), "this model does not reason before it answers"),
    "verbosity": Neutral((*NOTHING, "medium"), _LENGTH),
    "best_of": Neutral((1,), "use n"),
    "echo": Neutral(NOTHING, "use echo of /v1/completions"),
    "suffix": Neutral(NOTHING),
    "chat_template": Neutral(NOTHING, "the template of the model is used; render other prompts and use /v1/completions"),
    "chat_template_kwargs": Neutral((*NOTHING, {"enable_thinking": False}), "the template has no options"),
    "documents": Neutral(NOTHING, "put the documents into the messages"),
    "mm_processor_kwargs": Neutral(NOTHING, "resize images before sending them"),
}
COMPLETIONS: dict[str, Neutral] = ANSWERS | {
    "suffix": Neutral(NOTHING, "this model continues text only at its end"),
    "best_of": Neutral((1,), "use n"),
}


def refuse_unsupported(body: Mapping[str, Any], table: Mapping[str, Neutral]) -> None:
    """Refuse a request with a field that would change the answer and is not supported.

    Raises:
        ApiError: names the field.
    """
    for name, neutral in table.items():
        value = body.get(name)
        if value is not None and not any(_equal(value, other) for other in neutral.values):
            raise ApiError(f"{name}: not supported by this server: {neutral.remedy}", name, "unsupported_parameter")


def _equal(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; a boolean is not a number."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
