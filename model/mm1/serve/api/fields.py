"""Fields that chat completions and completions share, and how a field is refused.

null means the default, as in OpenAI's API. Numbers may be written as 1.0 or "1"; booleans are not numbers.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mm1.config.base import INT64_MAX, Config
from mm1.config.resolve import complaint_of
from mm1.generation.config import Sampling
from mm1.serve.api.body import kind_of
from mm1.serve.api.errors import ApiError

BodyT = TypeVar("BodyT", bound="Body")

MAX_STOPS = 64
MAX_STOP_LENGTH = 1000
LEAST_TOP_P = 1e-9
"""Stands for a top_p of 0: only the likeliest token."""
_INTEGER = re.compile(r"-?[0-9]{1,40}")


class Body(Config):
    """JSON of a request; null is the same as a missing field, and unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def _seed(value: Any) -> Any:
    """Accept signed and unsigned integers of 64 bits, also as 7.0 or "7"."""
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"expected an integer of 64 bits, got {value if abs(value) < 2**80 else 'a longer one'}")
        return max(-INT64_MAX, value - 2**64 if value > INT64_MAX else value)
    return value


def _stops(value: Any) -> Any:
    """Accept a string or a list; empty strings and nulls end no answer."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError(f"expected text or a list of texts, got {kind_of(value)}")
    texts = [text for text in texts if text]
    if len(texts) > MAX_STOPS or any(len(text) > MAX_STOP_LENGTH for text in texts):
        raise ValueError(f"expected at most {MAX_STOPS} texts of at most {MAX_STOP_LENGTH} characters")
    return tuple(texts)


class StreamOptions(Body):
    """Options of a stream."""

    include_usage: bool = False


class AnswerFields(Body):
    """Fields of a request for answers."""

    model: str = ""
    max_tokens: int | None = None
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=0, le=1)
    seed: Annotated[int | None, BeforeValidator(_seed)] = None
    n: int = Field(default=1, ge=1)
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops)] = ()
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def sampling(self, number: int) -> Sampling:
        """Return the sampling of one of the `n` answers; each has a seed of its own."""
        sampling = Sampling(temperature=self.temperature, top_p=self.top_p or LEAST_TOP_P, seed=self.seed)
        return sampling.of_answer(number)


def read_fields(cls: type[BodyT], body: dict[str, Any]) -> BodyT:
    """Build the fields of a request.

    Raises:
        ApiError: the first field that is wrong.
    """
    try:
        return cls.model_validate(body)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        path = path_of(item["loc"])
        raise ApiError(f"{path}: {complaint_of(item)}", path) from None


def path_of(location: tuple[str | int, ...]) -> str:
    """Write the location of a field: ``messages[1].content``."""
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location)
    return path.removeprefix(".")
