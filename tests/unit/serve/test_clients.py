"""The server as clients use it: openai, litellm, langchain-openai and curl, over real HTTP, with a tiny random model."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from mm1.generation.config import EngineSettings
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from tests.support.tiny_mm1 import picture, tiny_mm1

KEY = "key-of-the-test"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(picture(3)).decode()}}
QUESTION = [{"role": "user", "content": [IMAGE, {"type": "text", "text": "what colour is the ring ?"}]}]
RED = [{"role": "user", "content": "red ring"}]


@pytest.fixture(scope="module")
def address():
    engine = Engine(Generator(*tiny_mm1()), EngineSettings(max_running=4, max_waiting=4))
    settings = ServeSettings(model_name="tiny", max_request_bytes=200_000, default_max_tokens=12)
    with running(create_app(engine, settings, api_keys=[KEY])) as address:
        yield address
    engine.close()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No client may look for prices, traces or proxies elsewhere."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "True")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


# -- openai -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(address):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def ask(client, messages=QUESTION, **fields):
    return client.chat.completions.create(model="tiny", messages=messages, **fields)


def test_openai_whole_streamed_and_asynchronous_answers_are_equal(client, address):
    import openai

    whole = ask(client).choices[0]
    assert whole.message.role == "assistant" and whole.message.content and whole.finish_reason in ("stop", "length")
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.message.content
    assert chunks[-1].usage.completion_tokens == ask(client).usage.completion_tokens

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=3, timeout=60) as other:
            replies = await asyncio.gather(*(ask(other) for _ in range(3)))
            streamed = [chunk async for chunk in await ask(other, stream=True)]
        pieces = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
        return [*(reply.choices[0].message.content for reply in replies), "".join(pieces)]

    assert asyncio.run(together()) == [whole.message.content] * 4


def test_openai_arguments_that_are_none_are_the_defaults(client):
    names = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "n", "logprobs", "top_logprobs")
    names += ("stream", "stream_options", "response_format", "tools", "tool_choice", "frequency_penalty", "presence_penalty")
    names += ("logit_bias", "user", "metadata", "store", "service_tier", "parallel_tool_calls", "modalities")
    assert ask(client, **dict.fromkeys(names)).choices[0].message == ask(client).choices[0].message


def test_openai_several_answers_and_log_probabilities(client):
    reply = ask(client, RED, n=3, temperature=1.5, seed=2**63 - 1, logprobs=True, top_logprobs=3, max_tokens=6)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    for choice in reply.choices:
        tokens = choice.logprobs.content
        assert len(tokens) <= 6 and all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens)
        assert all(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob for token in tokens)
    again = ask(client, RED, n=3, temperature=1.5, seed=2**63 - 1, max_tokens=6)
    assert [choice.message.content for choice in again.choices] == [choice.message.content for choice in reply.choices]


def test_openai_streams_of_several_answers_add_up(client):
    whole = ask(client, RED, n=2, temperature=1.5, seed=3, max_tokens=8)
    texts = ["", ""]
    for chunk in ask(client, RED, n=2, temperature=1.5, seed=3, max_tokens=8, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


@pytest.mark.parametrize("length", [1, 2, 5, 12, 40])
def test_openai_stop_strings_are_the_same_streamed(client, length):
    text = ask(client, RED, max_tokens=40).choices[0].message.content
    stops = [text[length : length + 2] or "x", "never in it ?"]
    whole = ask(client, RED, max_tokens=40, stop=stops).choices[0].message.content
    chunks = ask(client, RED, max_tokens=40, stop=stops, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert stops[0] not in whole and text.startswith(whole)


def test_openai_prefilled_answers_are_continued(client):
    begun = {"role": "assistant", "content": "blue"}
    plain, continued, another = (ask(client, messages, max_tokens=4) for messages in (RED, [*RED, begun], [*RED, begun, *RED]))
    assert plain.usage.prompt_tokens < continued.usage.prompt_tokens <= plain.usage.prompt_tokens + 2  # no end of a turn
    assert another.usage.prompt_tokens > continued.usage.prompt_tokens + 4

    def goes_on(question: str) -> bool:
        asked = [{"role": "user", "content": question}]
        (choice,) = ask(client, asked, max_tokens=10, logprobs=True).choices
        half = "".join(token.token for token in choice.logprobs.content[:5])
        rest = ask(client, [*asked, {"role": "assistant", "content": half}], max_tokens=5).choices[0].message.content
        return half.lstrip() + rest == choice.message.content

    # The tiny model writes half characters, and tokens that a tokenizer would not choose: most answers cannot be sent back.
    assert any(
        goes_on(question) for question in ("red", "blue", "what is it ?", "a photo of the ring", "dax wug", "big", "this")
    )


def test_openai_structured_output_and_tools_are_refused_by_name(client):
    import openai
    from pydantic import BaseModel

    class Colour(BaseModel):
        name: str

    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.parse(model="tiny", messages=RED, response_format=Colour)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError, match="tool") as refusal:
        ask(client, RED, tools=[tool], tool_choice="required")
    assert refusal.value.param and refusal.value.body["type"] == "invalid_request_error"


def test_openai_completions_with_echo_and_several_prompts(client):
    reply = client.completions.create(model="tiny", prompt=["red ring", "blue"], max_tokens=4, logprobs=2)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert all(len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) for choice in reply.choices)
    scored = client.completions.create(model="tiny", prompt="red ring", max_tokens=0, echo=True, logprobs=1).choices[0]
    assert scored.text == "red ring" and scored.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in scored.logprobs.token_logprobs[1:])
    streamed = client.completions.create(model="tiny", prompt="red ring", max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == reply.choices[0].text


def test_openai_models(client):
    import openai

    (model,) = client.models.list().data
    assert client.models.retrieve("tiny") == model and model.id == "tiny" and model.max_model_len == 512
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_openai_errors_have_their_class(client, address):
    import openai

    with pytest.raises(openai.BadRequestError) as refusal:
        ask(client, [{"role": "user", "content": "red ring " * 600}])
    assert refusal.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt", messages=RED)
    with pytest.raises(openai.APIStatusError) as large:
        ask(client, [{"role": "user", "content": "x" * 300_000}])
    assert large.value.status_code == 413
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong"), RED)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ask(client, RED, temperature=7)


def test_openai_retries_a_busy_server_until_it_answers(client):
    import openai

    asked = dict(messages=RED, max_tokens=200)
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: refused(openai.RateLimitError, ask, client, **asked), range(24)))
    busy = [reply for reply in replies if isinstance(reply, openai.RateLimitError)]
    assert busy and all(int(error.response.headers["retry-after"]) >= 1 for error in busy)
    texts = {reply.choices[0].message.content for reply in replies if reply not in busy}
    assert len(texts) == 1
    with ThreadPoolExecutor(4) as pool:
        patient = list(pool.map(lambda _: ask(client.with_options(max_retries=8), **asked), range(4)))
    assert {reply.choices[0].message.content for reply in patient} == texts


def refused(kind, function, *arguments, **options):
    """The answer of a function, or its error of that kind."""
    try:
        return function(*arguments, **options)
    except kind as error:
        return error


# -- litellm, langchain -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Item.*ReadOnly:UserWarning", "ignore::DeprecationWarning")
def test_litellm_answers_streams_and_maps_errors(address):
    """One test, because importing litellm takes longer than all of it."""
    litellm = pytest.importorskip("litellm")
    litellm.telemetry = False
    options = dict(model="openai/tiny", api_base=f"{address}/v1", api_key=KEY, num_retries=0, max_retries=0)
    whole = litellm.completion(messages=QUESTION, **options).choices[0].message.content
    chunks = litellm.completion(messages=QUESTION, stream=True, **options)
    assert whole and "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=[{"role": "user", "content": "red ring " * 600}], **options)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=RED, **(options | {"api_key": "wrong"}))
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=RED, **(options | {"model": "openai/gpt"}))

    def busy(_):
        return refused(litellm.RateLimitError, litellm.completion, messages=RED, max_tokens=200, **options)

    with ThreadPoolExecutor(24) as pool:
        assert any(isinstance(reply, litellm.RateLimitError) for reply in pool.map(busy, range(24)))


def test_langchain_invokes_streams_stops_and_names_what_is_refused(address):
    langchain = pytest.importorskip("langchain_openai")
    import openai

    chat = langchain.ChatOpenAI(model="tiny", base_url=f"{address}/v1", api_key=KEY, max_retries=0, temperature=0)
    whole = chat.invoke([("system", "short"), ("user", "red ring")])
    assert whole.content and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in chat.stream([("system", "short"), ("user", "red ring")])) == whole.content
    assert chat.invoke(QUESTION).content
    stop = whole.content[3:5]
    stopped = chat.invoke([("system", "short"), ("user", "red ring")], stop=[stop]).content
    streamed = "".join(chunk.content for chunk in chat.stream([("system", "short"), ("user", "red ring")], stop=[stop]))
    assert stopped == streamed and stop not in stopped
    assert asyncio.run(chat.ainvoke(QUESTION)).content == chat.invoke(QUESTION).content
    schema = {"title": "Colour", "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    for method, field in (("json_schema", "response_format"), ("json_mode", "response_format"), ("function_calling", "tool")):
        with pytest.raises(openai.BadRequestError, match=field):
            chat.with_structured_output(schema, method=method).invoke("red")


# -- curl -------------------------------------------------------------------------------------------------------------------

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")


def curl(
    address: str, *options: str, body: object = None, path: str = "/v1/chat/completions", key: str = KEY
) -> tuple[int, str]:
    """Status and body of a reply to curl."""
    data = ["--data-binary", "@-"] if body is not None else []
    command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {key}", *data, *options]
    text = body if isinstance(body, str) else json.dumps(body)
    ended = subprocess.run([*command, address + path], input=text, capture_output=True, text=True, timeout=90)
    assert ended.returncode == 0, ended.stderr
    reply, _, status = ended.stdout.rpartition("\n")
    return int(status), reply


@needs_curl
def test_curl_media_types_chunks_and_old_http(address):
    body = {"messages": RED, "max_tokens": 6}
    status, reply = curl(address, "-H", "Content-Type: application/json", body=body)
    expected = json.loads(reply)["choices"]
    assert status == 200
    for options in (
        (),  # application/x-www-form-urlencoded, as curl calls every body
        ("-H", "Content-Type: text/plain"),
        ("-H", "Content-Type:"),
        ("-H", "Content-Type: application/json; charset=utf-8"),
        ("-H", "Content-Type: application/json", "-H", "Transfer-Encoding: chunked"),
        ("-H", "Content-Type: application/json", "--http1.0"),
        ("-H", "Content-Type: application/json", "-H", "Expect: 100-continue"),
        ("-H", "Content-Type: application/json", "--compressed"),
    ):
        status, reply = curl(address, *options, body=body)
        assert status == 200 and json.loads(reply)["choices"] == expected, (options, reply)


@needs_curl
def test_curl_streams_events(address):
    status, reply = curl(address, "-N", "-H", "Content-Type: application/json", body={"messages": RED, "stream": True})
    lines = [line for line in reply.splitlines() if line and not line.startswith(":")]
    assert status == 200 and lines[-1] == "data: [DONE]" and all(line.startswith("data: ") for line in lines)


@needs_curl
@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"', '{"messages": 3}', "\ufeff{}", "{'messages': []}"])
def test_curl_bodies_that_are_no_request_get_an_error_body(address, body):
    status, reply = curl(address, "-H", "Content-Type: application/json", body=body)
    error = json.loads(reply)["error"]
    assert status == 400 and error["message"] and error["type"] == "invalid_request_error"


@needs_curl
def test_curl_other_methods_and_paths(address):
    assert curl(address)[0] == 405 and "error" in json.loads(curl(address)[1])
    assert curl(address, path="/v1/nothing")[0] == 404
    assert curl(address, "-I", path="/healthz")[0] == 200
    assert curl(address, path="/health")[0] == 200
    assert curl(address, path="/v1/models", key="wrong")[0] == 401


def test_a_client_that_vanishes_in_its_body_harms_nobody(address, client):
    host, _, port = address.removeprefix("http://").partition(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    for sent in (head, head + b"Content-Length: 99\r\n\r\n{", head + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"):
        with socket.create_connection((host, int(port))) as left:
            left.sendall(sent)
    assert ask(client, RED).choices[0].message.content
