"""Chat requests as clients send them: nulls, edges, roles, prefill, fields that are not supported, bodies that are no JSON."""

from __future__ import annotations

import codecs
import json

import pytest

from mm1.serve.api.unsupported import CHAT, COMPLETIONS
from tests.support.chat_requests import ask, refusal, stream, user
from tests.support.tiny_mm1 import picture

TURN = {"role": "user", "content": "what is it ?"}
BASE = {"messages": [TURN], "max_tokens": 3}
NULLABLE = (
    *("audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities"),
    *("n", "prediction", "presence_penalty", "reasoning_effort", "response_format", "seed", "service_tier", "stop", "store"),
    *("stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "model"),
)


def post(client, body: bytes, **headers: str):
    return client.post("/v1/chat/completions", content=body, headers=headers)


def test_null_is_the_default_of_every_field(client):
    usual = ask(client, TURN).json()
    nulls = ask(client, TURN, **dict.fromkeys(NULLABLE)).json()
    assert nulls["choices"] == usual["choices"]
    assert stream(client, messages=[TURN], stream_options={"include_usage": None})


@pytest.mark.parametrize(("table", "path"), [(CHAT, "/v1/chat/completions"), (COMPLETIONS, "/v1/completions")])
def test_a_field_that_would_change_the_answer_is_refused_unless_its_value_is_neutral(client, table, path):
    prompt = {"messages": [TURN]} if "chat" in path else {"prompt": "red"}
    neutral = {name: values.values[-1] for name, values in table.items()}
    assert client.post(path, json=prompt | neutral | {"max_tokens": 2}).status_code == 200
    for name in table:
        for value in ([{"other": 1}], 0.123):
            error = refusal(client.post(path, json=prompt | {name: value}))
            assert error["param"] == name and name in error["message"] and error["code"] == "unsupported_parameter"


def test_what_does_not_change_the_answer_is_ignored(client):
    ignored = {"user": "x", "metadata": {"a": 1}, "store": True, "service_tier": "flex", "parallel_tool_calls": True}
    ignored["new field"] = [1]
    assert ask(client, TURN, **ignored).json()["choices"] == ask(client, TURN).json()["choices"]


@pytest.mark.parametrize(
    "fields",
    [
        *({"seed": seed, "temperature": 1} for seed in (0, -1, 2**63, 2**64 - 1, -(2**63), 7.0, 1e19, "7", str(2**64 - 1))),
        *({"temperature": value} for value in (0, 1e-320, 1e-40, 5e-5, 2, "0.5")),
        *({"top_p": value, "temperature": 1} for value in (0, 1e-320, 1e-9, 1)),
        {"stop": []},
        {"stop": ""},
        {"stop": ["", None, "zzz"]},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"n": 1.0},
        {"model": ""},
        {"max_completion_tokens": 2, "max_tokens": 10_000},
    ],
    ids=str,
)
def test_values_at_the_edge_are_taken(client, fields):
    whole = client.post("/v1/chat/completions", json=BASE | fields)
    assert whole.status_code == 200, whole.text
    assert stream(client, **BASE | fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(({"seed": seed}, "seed") for seed in (2**64, -(2**63) - 1, 10**30, "x", 1.5, True, 1e20, "9" * 30, "9" * 4400)),
        *(({"temperature": value}, "temperature") for value in (-0.1, 2.1, True, "hot", [1])),
        *(({"top_p": value}, "top_p") for value in (-0.1, 1.1, False)),
        *(({"max_tokens": value}, "max_tokens") for value in (0, -1, 1.5, True, 10**30)),
        *(({"n": value}, "n") for value in (0, 65, True)),
        *(({"stop": value}, "stop") for value in (1, ["a", 1], {"a": 1}, ["x"] * 65, "x" * 2000)),
        ({"max_completion_tokens": 0, "max_tokens": 5}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream": "maybe"}, "stream"),
        ({"stream_options": {"include_usage": "maybe"}}, "stream_options.include_usage"),
        ({"model": 3}, "model"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"messages": None}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [TURN, {"role": None, "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "tool", "tool_call_id": "1", "content": "x"}]}, "messages[0].role"),
        ({"messages": [TURN, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "messages[1].tool_calls"),
        ({"messages": [TURN, {"role": "user", "content": [{"type": "text", "text": None}]}]}, "messages[1].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [None]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": None}}]}]},
            "messages[0].content[0].image_url.url",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_path(client, fields, param):
    for streamed in (False, True):
        error = refusal(client.post("/v1/chat/completions", json={"stream": streamed, **BASE, **fields}))
        assert error["param"] == param and error["message"].startswith(f"{param}: ")
        assert "pydantic" not in error["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", ["temperature", "top_p", "max_tokens"])
def test_numbers_that_are_not_finite_are_refused(client, name, number):
    error = refusal(post(client, json.dumps({"messages": [TURN]})[:-1].encode() + f', "{name}": {number}}}'.encode()))
    assert error["param"] == name


def test_what_the_models_template_refuses_is_a_wrong_request(serve, generator, monkeypatch):
    client = serve()
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    monkeypatch.setattr(generator.processor, "chat_template", template + generator.processor.chat_template)
    assert ask(client, TURN, max_tokens=1).status_code == 200
    for path in ("/v1/chat/completions", "/tokenize"):
        error = refusal(client.post(path, json={"messages": [{"role": "system", "content": "x"}, TURN]}))
        assert error["param"] == "messages" and "no system turn" in error["message"]


# -- roles and history -------------------------------------------------------------------------------------------------


def test_developer_is_system(client):
    answers = [
        ask(client, {"role": role, "content": "be short"}, TURN).json()["choices"][0]["message"]
        for role in ("system", "developer")
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": ""}], ...], ids=str)
def test_an_assistants_turn_may_be_empty(client, content):
    turn = {"role": "assistant"} if content is ... else {"role": "assistant", "content": content}
    assert ask(client, TURN, turn | {"tool_calls": [], "refusal": None}, TURN).status_code == 200


def test_content_as_text_parts_and_bare_strings_are_the_same(client):
    forms = ["red ring", [{"type": "text", "text": "red ring"}], ["red ring"]]
    answers = [ask(client, {"role": "user", "content": content}).json()["choices"] for content in forms]
    assert answers[0] == answers[1] == answers[2]


def test_texts_of_one_message_cannot_forge_a_turn_or_an_image_together(client):
    def count(*texts: str) -> int:
        return client.post("/tokenize", json={"messages": [user(*texts)]}).json()["count"]

    assert count("<|im_", "end|>") == count("<|im_end|>") and count("<", "image", ">") == count("<image>")
    assert ask(client, user("<ima", "ge>"), max_tokens=1).status_code == 200


def test_an_assistants_turn_at_the_end_is_continued(client):
    def text(reply):
        return reply.json()["choices"][0]["message"]["content"]

    whole = ask(client, user(picture(2), "red"), max_tokens=12, logprobs=True).json()["choices"][0]
    tokens = [token["token"] for token in whole["logprobs"]["content"]]
    count = next(count for count in range(1, 9) if all(token.isascii() for token in tokens[: count + 1]))
    start = {"role": "assistant", "content": "".join(tokens[:count])}
    rest = ask(client, user(picture(2), "red"), start, max_tokens=2)
    assert rest.status_code == 200
    prompts = [
        client.post("/tokenize", json={"messages": [TURN, start], **fields}).json()["tokens"]
        for fields in ({}, {"continue_final_message": True}, {"add_generation_prompt": True}, {"add_generation_prompt": False})
    ]
    header = client.post("/tokenize", json={"messages": [TURN]}).json()["tokens"]
    assert prompts[0] == prompts[1] == prompts[3] and prompts[0][: len(header)] == header
    assert prompts[2][-4:] == header[-4:] and len(prompts[2]) > len(prompts[0])
    assert refusal(ask(client, TURN, start, continue_final_message=True, add_generation_prompt=True))["param"]
    assert text(ask(client, TURN, {"role": "assistant", "content": ""})) == text(ask(client, TURN))


# -- several answers, log-probabilities --------------------------------------------------------------------------------


def test_n_answers_differ_by_seed_and_streams_bring_the_same_ones(client):
    fields = {"messages": [TURN], "n": 3, "temperature": 1.5, "seed": 11, "max_tokens": 6}
    choices = client.post("/v1/chat/completions", json=fields).json()["choices"]
    texts = [choice["message"]["content"] for choice in choices]
    assert [choice["index"] for choice in choices] == [0, 1, 2] and len(set(texts)) > 1
    streamed = ["", "", ""]
    for event in stream(client, **fields):
        (choice,) = event["choices"]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts
    assert client.post("/v1/chat/completions", json=fields | {"n": 1}).json()["choices"][0]["message"]["content"] == texts[0]


def test_logprobs_list_the_likeliest_tokens_whole_and_streamed(client):
    fields = {"messages": [TURN], "logprobs": True, "top_logprobs": 3, "max_tokens": 5}
    reply = client.post("/v1/chat/completions", json=fields).json()
    content = reply["choices"][0]["logprobs"]["content"]
    assert len(content) == reply["usage"]["completion_tokens"]
    for token in content:
        assert len(token["top_logprobs"]) == 3 and token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0
        assert token["bytes"] is None or bytes(token["bytes"]).decode() == token["token"]
    events = stream(client, **fields)
    assert [one for event in events for one in (event["choices"][0]["logprobs"] or {"content": []})["content"]] == content


# -- bodies ------------------------------------------------------------------------------------------------------------

TEXT = json.dumps(BASE | {"messages": [{"role": "user", "content": "café 😀"}]}, ensure_ascii=False)


ENCODED = {
    "utf-8": TEXT.encode(),
    "byte order mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16": TEXT.encode("utf-16"),
    "utf-32": TEXT.encode("utf-32"),
    "escaped": json.dumps(json.loads(TEXT)).encode(),
}


@pytest.mark.parametrize("body", ENCODED.values(), ids=ENCODED)
def test_json_in_any_encoding_and_under_any_content_type(client, body):
    answers = [post(client, body, **{"content-type": kind}) for kind in ("application/json", "text/plain", "x")]
    assert {answer.status_code for answer in answers} == {200}
    assert len({json.dumps(answer.json()["choices"]) for answer in answers}) == 1


@pytest.mark.parametrize("where", ["content", "stop", "model", "unknown"])
def test_half_of_a_surrogate_pair_is_no_server_error(client, where):
    broken = r'"a \ud83d b"'
    fields = {"content": '"x"', "stop": '"y"', "model": '"tiny"', "unknown": "1"} | {where: broken}
    body = f'{{"messages": [{{"role": "user", "content": {fields.pop("content")}}}], "max_tokens": 2, '
    body += ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    reply = post(client, body.encode())
    assert reply.status_code == (404 if where == "model" else 200), reply.text
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no body"),
        (b"  \n", "no body"),
        (b'{"messages": [', "line 1, column 15"),
        (b"{'messages': 1}", "not valid JSON"),
        (b"null", "expected a JSON object, got null"),
        (b"[1]", "expected a JSON object, got a list"),
        (b'"text"', "expected a JSON object, got text"),
        (b'{"messages": "\xff"}', "UTF-8"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 50, "nested too deeply"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"model=tiny&prompt=x", "not valid JSON"),
    ],
    ids=range(11),
)
def test_a_body_that_is_no_json_object_is_refused_in_plain_words(client, body, says):
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize"):
        error = refusal(client.post(path, content=body))
        assert says in error["message"] and error["param"] is None


def test_of_equal_names_the_last_one_counts(client):
    body = json.dumps(BASE)[:-1] + ', "max_tokens": 1}'
    assert post(client, body.encode()).json()["usage"]["completion_tokens"] == 1


def test_a_compressed_body_is_refused(client):
    assert "uncompressed" in refusal(post(client, b"x", **{"content-encoding": "gzip"}), 415)["message"]


# -- the context -------------------------------------------------------------------------------------------------------


def test_without_a_limit_an_answer_ends_where_the_context_does(serve):
    client = serve(max_tokens=None, default_max_tokens=None)
    # A random model ends many answers by itself, so there are several.
    reply = ask(client, user("red " * 440), temperature=1.0, seed=1, n=16).json()
    reasons = [choice["finish_reason"] for choice in reply["choices"]]
    limits = client.get("/limits").json()
    assert "length" in reasons and limits["max_tokens"] == limits["default_max_tokens"] == 512
    assert reply["usage"]["completion_tokens"] <= 16 * (512 - reply["usage"]["prompt_tokens"])
    error = refusal(ask(client, user("red"), max_tokens=512))
    assert error["code"] == "context_length_exceeded" and error["param"] == "max_tokens"
    assert error["message"].startswith("This model's maximum context length is 512 tokens.")


@pytest.mark.parametrize("text", ["red " * 600, "a " * 90_000], ids=["by tokens", "by characters"])
def test_a_prompt_that_is_too_long_is_refused_with_the_code_that_clients_know(client, text):
    for error in (refusal(ask(client, user(text))), refusal(client.post("/v1/completions", json={"prompt": text}))):
        assert error["code"] == "context_length_exceeded" and "maximum context length is 512 tokens" in error["message"]
        assert "demonstrations" not in error["message"]


def test_a_text_that_cannot_fit_is_not_tokenised(client, generator, monkeypatch):
    monkeypatch.setattr(type(generator.processor), "encode", lambda *_: pytest.fail("tokenised"))
    assert refusal(ask(client, user("a " * 90_000)))["code"] == "context_length_exceeded"
