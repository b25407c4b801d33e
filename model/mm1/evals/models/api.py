"""A model behind an OpenAI-compatible API.

    conversation                      POST chat/completions
    plain prompt of text              POST completions, if the server has it
    plain prompt with images          POST chat/completions, as one message of the user
    likelihood of choices             POST completions with echo and logprobs, for prompts of text, if the server has it

What the server has is found out by asking once. Images are sent as data URLs, upright.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import numpy as np

from mm1.data.images import data_url, decode_image, open_image
from mm1.data.images.orientation import UPRIGHT
from mm1.errors import ConfigurationError, DataError
from mm1.evals.models.base import OnBatch, joined
from mm1.evals.models.client import ApiClient, Refused
from mm1.evals.models.config import ModelChoice
from mm1.evals.models.echo import likelihood_of
from mm1.generation.images import bytes_of, reading
from mm1.generation.prompt import AnyPrompt, Completion, Conversation, Image, Likelihood, Message, Request, Segment

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
MAX_STOPS = 4
"""Stop strings that OpenAI's API takes."""
_SENT_AS_IS = ("JPEG", "PNG", "WEBP")
_LACKING = (400, 404, 405, 422, 501)
"""Status codes of a server that does not have what is asked."""


class ApiModel:
    """A model behind an API.

    Args:
        client: connection to the server.
        model: name of the model in requests.
    """

    def __init__(self, client: ApiClient, model: str) -> None:
        self.client = client
        self.model = model
        self.name = f"{model} at {client.address}"
        self._length_field = "max_tokens"
        self._omitted: frozenset[str] = frozenset()
        self.completes = self._has_completions()
        self.can_score = self.completes and self._echoes()

    @classmethod
    def connect(cls, choice: ModelChoice) -> ApiModel:
        """Connect to the address, and find out what it has.

        Raises:
            ConfigurationError: the server refuses the key or the model.
            NetworkError: it does not answer.
        """
        return cls(ApiClient(choice.name, choice.settings), choice.settings.model_name)

    # -- the contract -----------------------------------------------------------------------------------------------

    def generate(
        self, asks: Sequence[AnyPrompt], *, max_new_tokens: int, stop: Sequence[str] = (), on_batch: OnBatch | None = None
    ) -> list[Completion]:
        """Continue each prompt greedily (temperature 0)."""

        def work(ask: AnyPrompt) -> Completion:
            text = _plain_text(ask)
            if text is not None and self.completes:
                return _completion(self._post("completions", {"prompt": text}, max_new_tokens, stop), stop)
            body = {"messages": [_message(message) for message in _messages(ask)]}
            return _completion(self._post("chat/completions", body, max_new_tokens, stop), stop)

        return self._all(work, list(asks), on_batch)

    def score(
        self, asks: Sequence[AnyPrompt], continuations: Sequence[Sequence[str]], on_batch: OnBatch | None = None
    ) -> list[list[Likelihood]]:
        """Compute the log-likelihood of each continuation of each prompt.

        Raises:
            ConfigurationError: a prompt has images or is a conversation, whose log-probabilities no such API gives.
        """
        pairs = [(_plain_text(ask), text) for ask, texts in zip(asks, continuations, strict=True) for text in texts]
        if any(before is None for before, _ in pairs):
            raise ConfigurationError(
                f"{self.name} gives log-probabilities of plain prompts of text only: let it generate its choice "
                "(--choose generate), or evaluate the model's folder"
            )
        results = iter(self._all(self._likelihood, pairs, None))
        if on_batch:
            on_batch(len(asks))
        return [[next(results) for _ in texts] for texts in continuations]

    def _likelihood(self, pair: tuple[str, str]) -> Likelihood:
        before, continuation = pair
        space = "" if before[-1:].isspace() or continuation[:1].isspace() else " "
        text = before + space + continuation
        answer = self._post("completions", {"prompt": text, "echo": True, "logprobs": 1}, 1, ())
        return likelihood_of(_choice(answer), len(before), len(text), self.name)

    def embed_images(self, images: Sequence[Image]) -> np.ndarray | None:
        """Return None: the API gives no features of images."""
        return None

    # -- requests ---------------------------------------------------------------------------------------------------

    def _all(self, work: Callable[[Any], ResultT], tasks: Sequence[Any], on_batch: OnBatch | None) -> list[ResultT]:
        """Work on all tasks, several at a time; the first error ends the others."""
        with ThreadPoolExecutor(self.client.settings.concurrency) as pool:
            futures: list[Future[ResultT]] = [pool.submit(work, task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
                    if on_batch:
                        on_batch(1)
            except BaseException:
                self.client.close()  # otherwise, requests that failed would go on for the whole time for retries
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _post(self, path: str, body: dict[str, Any], max_new_tokens: int, stop: Sequence[str]) -> dict[str, Any]:
        """Send a request; fields that the model refuses are renamed or left out, in this request and all later ones."""
        texts = [text for text in stop if text][:MAX_STOPS]
        while True:
            length_field, omitted = self._length_field, self._omitted
            fields = {"model": self.model, "temperature": 0, length_field: max_new_tokens} | ({"stop": texts} if texts else {})
            kept = {name: value for name, value in fields.items() if name not in omitted}
            try:
                return dict(self.client.request("POST", path, kept | body))
            except Refused as error:
                self._adapt(error.reason)
                if (length_field, omitted) == (self._length_field, self._omitted):
                    raise

    def _adapt(self, reason: str) -> None:
        """Adapt the fields of requests to a model that refuses some, such as OpenAI's reasoning models."""
        if "max_completion_tokens" in reason:
            self._length_field = "max_completion_tokens"
        for name in ("temperature", "stop"):
            if f"'{name}'" in reason and "support" in reason.lower() and name not in self._omitted:
                self._omitted |= {name}
                log.warning("%s does not take %s: requests are sent without it (%s)", self.name, name, reason)

    def _has_completions(self) -> bool:
        try:
            return bool(self._post("completions", {"prompt": "a b"}, 1, ()))
        except Refused as error:
            if error.status not in _LACKING:
                raise
            return False

    def _echoes(self) -> bool:
        try:
            return self._likelihood(("a", " b")).num_tokens > 0
        except (Refused, DataError):
            return False


def _plain_text(ask: AnyPrompt) -> str | None:
    """Return the text of a plain prompt; None for a conversation or a prompt with images."""
    if not isinstance(ask, Request):
        return None
    pieces = joined(ask.segments)
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], str) else None


def _messages(ask: AnyPrompt) -> list[Message]:
    if isinstance(ask, Conversation):
        return [*ask.prefix, *ask.messages]
    return [Message("user", tuple(joined(ask.segments)))]


def _message(message: Message) -> dict[str, Any]:
    if all(isinstance(part, str) for part in message.content):
        return {"role": message.role, "content": "".join(str(part) for part in message.content)}
    return {"role": message.role, "content": [_part(part) for part in message.content]}


def _part(part: Segment) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": data_url(portable(part))}}


def portable(image: Image) -> bytes:
    """Return an encoded image that every server shows upright: as it is, or as PNG if it is turned or of a rare format.

    Raises:
        DataError: it cannot be read.
    """
    with reading(image):
        data = bytes_of(image)
        header = open_image(data)
        if header.form in _SENT_AS_IS and header.orientation == UPRIGHT:
            return data
        buffer = io.BytesIO()
        decode_image(data).save(buffer, "PNG")
        return buffer.getvalue()


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(answer["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        raise DataError(f"the server's answer has no choices: {str(answer)[:200]}") from None


def _completion(answer: dict[str, Any], stop: Sequence[str]) -> Completion:
    """Read the answer of a chat or of a completion; cut at stop strings that the server did not apply."""
    choice = _choice(answer)
    message, usage = choice.get("message"), answer.get("usage")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    text = _joined_parts(text).encode("utf-8", "replace").decode("utf-8")
    cuts = [position for each in stop if each and (position := text.find(each)) >= 0]
    finished = "length" if choice.get("finish_reason") == "length" and not cuts else "stop"
    num_prompt_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
    return Completion(text[: min(cuts, default=len(text))].strip(), (), finished, int(num_prompt_tokens or 0))  # type: ignore[arg-type]


def _joined_parts(content: Any) -> str:
    """Return the text of an answer, which some servers divide into parts as in a request; empty if there is none."""
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(str(part) for part in parts if part)
    return str(content or "")
