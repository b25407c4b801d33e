"""Chat templates of model families: conversations as the decoder knows them, and what of them is learnt. Torch-free.

    template (Jinja), messages -> render   -> text, as transformers renders it for generation
                               -> documents -> text with the answers in it: what is learnt, and where training splits the text

What is learnt of a conversation follows from the template alone: an answer begins where the prompt of a generation would end
(the conversation before it, with ``add_generation_prompt``), and ends with the special token after its text. Generation splits
prompts at the same places, so that it gives the model the token ids of the training.

Some templates render a turn differently once others follow (they drop reasoning, or move the system prompt to the last turn).
Then an answer is learnt from the text in which it is the last one, and a conversation becomes several documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mm1.errors import ConfigurationError

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], bool], str]
"""Messages, and whether to add the header of the next answer -> text."""
IMAGE_TOKEN = "<image>"
MARK = "{#- mm1: contents are text, with image tokens -#}"
"""Begins the template of a family; MM1's own, ChatML, has no such line."""
PRELUDE = (
    MARK
    + "{%- set as_text = namespace(messages=[]) -%}"
    + "{%- for message in messages -%}"
    + "{%- if message['content'] is string -%}{%- set as_text.messages = as_text.messages + [message] -%}"
    + "{%- else -%}{%- set content = namespace(text='') -%}"
    + "{%- for item in message['content'] or [] -%}"
    + f"{{%- if item['type'] == 'image' -%}}{{%- set content.text = content.text + '{IMAGE_TOKEN}' -%}}"
    + "{%- elif item['type'] == 'text' -%}{%- set content.text = content.text + item['text'] -%}{%- endif -%}"
    + "{%- endfor -%}"
    + "{%- set as_text.messages = as_text.messages + [dict(message, content=content.text)] -%}"
    + "{%- endif -%}{%- endfor -%}"
    + "{%- set messages = as_text.messages %}"
)
"""Turns contents with parts into text: templates of decoders without images know only that."""
SYSTEM_AS_QUESTION = (
    "{%- if messages | length > 1 and messages[0]['role'] == 'system' -%}"
    "{%- set question = messages[0]['content'] + '\n\n' + messages[1]['content'] -%}"
    "{%- set messages = [dict(messages[1], content=question)] + messages[2:] %}{%- endif %}"
)
"""Puts the system prompt at the beginning of the first question, for templates that refuse it."""
PROBE = (
    {"role": "user", "content": f"{IMAGE_TOKEN}first question"},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "second question"},
    {"role": "assistant", "content": "second answer"},
)


class Span(NamedTuple):
    """An answer in a text."""

    start: int
    """Characters before it."""
    stop: int
    """Characters up to the end of the special token that ends it."""
    learnt: bool = True


class Document(NamedTuple):
    """A rendered conversation."""

    text: str
    answers: tuple[Span, ...]

    def pieces(self) -> list[tuple[str, bool]]:
        """Split the text where training does; each piece with whether it is learnt."""
        pieces, end = [], 0
        for span in self.answers:
            pieces += [(self.text[end : span.start], False), (self.text[span.start : span.stop], span.learnt)]
            end = span.stop
        return [piece for piece in (*pieces, (self.text[end:], False)) if piece[0]]


def answers_in(text: str, messages: Sequence[Message], render: Render, specials: Sequence[str]) -> list[Span]:
    """Find the answers of a conversation in a text that begins with it.

    Args:
        text: the rendered conversation, which may go on.
        messages: its turns, with texts as contents.
        render: the template.
        specials: texts of special tokens, one of which ends an answer.

    Returns:
        The answers that the text has as a generation would; one that the template renders differently there is left out.
    """
    spans = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            start, stop, rendered = _answer(messages[: number + 1], render, specials)
            if stop and text.startswith(rendered[:stop]):
                spans.append(Span(start, stop))
    return spans


def _answer(messages: Sequence[Message], render: Render, specials: Sequence[str]) -> tuple[int, int, str]:
    """Return start and end of the last answer, and the text; ends are 0 if the text does not continue its prompt."""
    prompt, rendered = render(messages[:-1], True), render(messages, False)
    content = messages[-1]["content"].strip()
    index = rendered.find(content, len(prompt)) if rendered.startswith(prompt) else -1
    if index < 0:
        return 0, 0, rendered
    end = index + len(content)
    ends = [stop + len(token) for token in specials if token and (stop := rendered.find(token, end)) >= 0]
    return len(prompt), min(ends, default=len(rendered)), rendered


def documents(messages: Sequence[Message], render: Render, specials: Sequence[str]) -> list[Document]:
    """Render a conversation that ends with an answer, so that each answer is learnt once.

    Args:
        messages: its turns, with texts as contents.
        render: the template.
        specials: texts of special tokens.

    Raises:
        ValueError: the template shows an answer in no text as a generation would.
    """
    made: list[Document] = []
    learnt: set[int] = set()
    ends = [number + 1 for number, message in enumerate(messages) if message["role"] == "assistant"]
    for end, following in zip(ends, (*ends[1:], 0), strict=True):
        _, stop, text = _answer(messages[:end], render, specials)
        if not stop:
            raise ValueError("its chat template does not begin an answer as the prompt of a generation ends")
        if following and _answer(messages[:following], render, specials)[2].startswith(text[:stop]):
            continue
        spans = [span._replace(learnt=span.stop not in learnt) for span in answers_in(text, messages[:end], render, specials)]
        learnt |= {span.stop for span in spans}
        made.append(Document(text, tuple(spans)))
    return made


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer."""

    text: str
    """Jinja."""
    tokens: Mapping[str, str]
    """Named special tokens that it may use: bos_token, eos_token."""
    specials: tuple[str, ...]
    """Texts of all special tokens."""

    @cached_property
    def _compiled(self) -> Any:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        return environment.from_string(self.text)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """Render messages as transformers does; without today's date, so that the same data give the same text.

        Raises:
            TemplateError: the template refuses the messages.
        """
        options = {"tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        return str(self._compiled.render(messages=list(messages), **options, **self.tokens))

    def documents(self, messages: Sequence[Message]) -> list[Document]:
        """Render a conversation; see :func:`documents`.

        Raises:
            TemplateError: the template refuses the messages.
            ValueError: what is learnt cannot be found.
        """
        ends = [token for token in self.specials if token != IMAGE_TOKEN]
        made = documents(messages, self.render, ends)
        images = sum(message["content"].count(IMAGE_TOKEN) for message in messages)
        if made and made[-1].text.count(IMAGE_TOKEN) != images:
            raise ValueError("its chat template leaves out images")
        return made

    def adopted(self) -> ChatTemplate:
        """Return a family's template as MM1 uses it: contents may have parts, and there may be a system prompt."""
        made = replace(self, text=PRELUDE + self.text)
        try:
            made.render([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], True)
        except TemplateError:
            return replace(self, text=PRELUDE + SYSTEM_AS_QUESTION + self.text)
        return made

    def check(self) -> None:
        """Refuse a template that cannot render a conversation about an image for training.

        Raises:
            ConfigurationError: what is learnt cannot be found, or images get lost.
        """
        try:
            learnt = [piece for document in self.documents(PROBE) for piece, is_learnt in document.pieces() if is_learnt]
            problem = "" if len(learnt) == 2 else f"{len(learnt)} of 2 answers are found"
        except (TemplateError, ValueError) as error:
            problem = str(error)
        if problem:
            raise ConfigurationError(
                f"tokenizer: the chat template of the folder cannot be used for training: {problem}; remove chat_template from "
                "its tokenizer_config.json (and chat_template.jinja) to use ChatML"
            )


def _refuse(message: str) -> None:
    raise TemplateError(message)


class _Generation(Extension):
    """The block ``{% generation %}`` of transformers, which marks an answer; what is learnt is found without it."""

    tags = {"generation"}  # noqa: RUF012 - as the class of Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
