"""Completions for harnesses: prompts of every form, echo and log-probabilities, lm-evaluation-harness itself; tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mm1.generation.prompt import Request
from tests.support.chat_requests import refusal, stream

PROMPT = "what colour is the ring ?"


def complete(client, prompt, **fields):
    return client.post("/v1/completions", json={"prompt": prompt, **fields})


def tokens_of(client, text: str) -> list[int]:
    return client.post("/tokenize", json={"prompt": text}).json()["tokens"]


def test_a_completion_continues_the_text(client, generator):
    reply = complete(client, PROMPT, max_tokens=6).json()
    (expected,) = generator.generate([Request((PROMPT,))], max_new_tokens=6)
    (choice,) = reply["choices"]
    assert choice["text"].strip() == expected.text and choice["finish_reason"] == expected.finish_reason
    assert reply["object"] == "text_completion" and reply["id"].startswith("cmpl-") and choice["logprobs"] is None
    assert reply["usage"]["prompt_tokens"] == expected.num_prompt_tokens


def test_prompts_of_every_form_give_the_same_completions(client):
    first, second = tokens_of(client, PROMPT), tokens_of(client, "a red ring")
    texts = [choice["text"] for choice in complete(client, [PROMPT, "a red ring"]).json()["choices"]]
    assert [choice["text"] for choice in complete(client, [first, second]).json()["choices"]] == texts
    assert complete(client, first).json()["choices"][0]["text"] == texts[0]
    assert complete(client, [PROMPT]).json()["choices"][0]["text"] == texts[0]
    assert complete(client, "", max_tokens=2).json()["usage"]["prompt_tokens"] == 1, "the start of a document"
    assert complete(client, [PROMPT, "a"], n=2, max_tokens=1).json()["choices"][3]["index"] == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [None]}, "prompt[0]"),
        ({"prompt": [[1, "x"]]}, "prompt[0][1]"),
        ({"prompt": [5, -1]}, "prompt[1]"),
        ({"prompt": [5, 10**9]}, "prompt[1]"),
        ({"prompt": [[5], [1]]}, "prompt[1][0]"),
        ({"prompt": "see <image>"}, "prompt"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": "x", "n": 65}, "n"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
    ],
    ids=str,
)
def test_wrong_prompts_are_refused_by_their_path(client, body, param):
    assert refusal(client.post("/v1/completions", json=body))["param"] == param


@pytest.mark.parametrize("max_tokens", [0, 1, 4])
def test_echo_with_logprobs_lists_the_prompts_tokens_first(client, generator, max_tokens):
    ids = tokens_of(client, PROMPT)
    reply = complete(client, ids, max_tokens=max_tokens, echo=True, logprobs=2).json()
    (choice,) = reply["choices"]
    logprobs = choice["logprobs"]
    count = len(ids) + reply["usage"]["completion_tokens"]
    assert {len(column) for column in logprobs.values()} == {count} and reply["usage"]["completion_tokens"] <= max_tokens
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    assert all(-1e4 < value <= 0 for value in logprobs["token_logprobs"][1:])
    assert logprobs["text_offset"][:2] == [0, len(logprobs["tokens"][0])]
    score = sum(logprobs["token_logprobs"][1 : len(ids)])
    (scores,) = generator.score([Request((" what",))], [[" colour is the ring ?"]])
    assert math.isclose(score, float(getattr(scores[0], "logprob", scores[0])), abs_tol=1e-3)
    for value, top in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True):
        assert value in top.values() and 2 <= len(top) <= 3


@pytest.mark.parametrize(
    "prompt", [PROMPT, "  red", "\u00e9\U0001f600 red", "<|im_start|>user\nred ring<|im_end|>", "", [300, 5, 301]], ids=repr
)
def test_offsets_are_those_of_the_text(client, prompt):
    fields = {"prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 6}
    (choice,) = client.post("/v1/completions", json=fields).json()["choices"]
    text, logprobs = choice["text"], choice["logprobs"]
    (answer,) = client.post("/v1/completions", json=fields | {"echo": False}).json()["choices"]
    count, length = len(answer["logprobs"]["tokens"]), len(text) - len(answer["text"])
    assert all(offset >= length for offset in logprobs["text_offset"][-count:]), "the answer's"
    assert all(offset < max(1, length) for offset in logprobs["text_offset"][:-count]), "the prompt's"
    in_part = False  # of a character, which has more tokens
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        without_text = token.startswith("<|") and offset >= length
        if not (in_part or "\ufffd" in token or without_text):
            assert text[offset:].startswith((token, token.removeprefix(" "))), (token, offset)
        in_part = "\ufffd" in token


def test_a_stream_adds_up_with_echo_and_logprobs(client):
    fields = {"prompt": PROMPT, "echo": True, "logprobs": 1, "max_tokens": 5}
    (whole,) = client.post("/v1/completions", json=fields).json()["choices"]
    choices = [event["choices"][0] for event in stream(client, "/v1/completions", **fields)]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    for column, values in whole["logprobs"].items():
        assert [value for choice in choices for value in choice["logprobs"][column]] == values
    assert choices[-1]["finish_reason"] == whole["finish_reason"]


PAIRS = [("a red", " ring"), ("what colour is the", " square ?"), ("big", " blue circle")]


def harness(client) -> Any:
    """lm-evaluation-harness' model of a server."""
    api_models = pytest.importorskip("lm_eval.models.openai_completions", reason="lm-evaluation-harness is not installed")
    address = f"{client.base_url}/v1/completions".replace("//v1", "/v1")
    return api_models.LocalCompletionsAPI(
        base_url=address, model="tiny", tokenizer_backend="remote", batch_size=2, max_length=512
    )


def assert_scores_are_the_generators(model, generator, pairs) -> None:
    from lm_eval.api.instance import Instance

    results = model.loglikelihood([Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)])
    for (context, continuation), (score, is_greedy) in zip(pairs, results, strict=True):
        ((expected,),) = generator.score([Request((context,))], [[continuation]])
        assert math.isclose(score, expected.logprob, abs_tol=1e-3) and is_greedy == expected.is_greedy


def test_the_harness_scores_a_continuation_after_which_the_text_ends(client, generator, monkeypatch):
    """It drops the last token, which it asked for: the stop token's place must be in the lists, too."""
    pytest.importorskip("lm_eval")
    logits_of = generator.decoder.logits

    def ending(hidden_ND):
        logits_NV = logits_of(hidden_ND).clone()
        logits_NV[:, 0] = logits_NV.max(dim=-1).values + 1
        return logits_NV

    monkeypatch.setattr(generator.decoder, "logits", ending)
    (choice,) = complete(client, PROMPT, max_tokens=5, logprobs=1).json()["choices"]
    assert choice["text"] == "" and choice["finish_reason"] == "stop" and choice["logprobs"]["tokens"] == ["<|endoftext|>"]
    chat = {"messages": [{"role": "user", "content": PROMPT}], "logprobs": True}
    for event in (*stream(client, **chat), client.post("/v1/chat/completions", json=chat).json()):
        assert not (event["choices"][0]["logprobs"] or {}).get("content"), "chats list the tokens of the text"
    assert_scores_are_the_generators(harness(client), generator, PAIRS)


def test_the_harness_cuts_what_is_longer_than_the_context(client):
    model = harness(client)
    from lm_eval.api.instance import Instance

    pair = ("a red ring " * 400, " square")
    ((score, _),) = model.loglikelihood([Instance("loglikelihood", {}, pair, 0)])
    assert -30 < score < 0


def test_the_harness_scores_as_the_generator_does(client, generator):
    model = harness(client)
    from lm_eval.api.instance import Instance

    assert_scores_are_the_generators(model, generator, PAIRS)
    generate = Instance("generate_until", {}, ("a red", {"until": ["zzz"], "max_gen_toks": 5}), 0)
    (text,) = model.generate_until([generate])
    assert text == complete(client, tokens_of(client, "a red"), max_tokens=5).json()["choices"][0]["text"]


@pytest.mark.parametrize(("num_tokens", "max_tokens", "expected"), [(505, None, 7), (511, None, 1), (512, 0, 0), (511, 1, 1)])
def test_a_prompt_may_fill_the_context(serve, num_tokens, max_tokens, expected):
    client = serve(max_tokens=None)
    reply = complete(client, [300] * num_tokens, max_tokens=max_tokens, seed=1).json()
    assert reply["usage"]["completion_tokens"] == expected, reply


@pytest.mark.parametrize(("num_tokens", "max_tokens"), [(512, None), (512, 1), (513, 0), (513, None)])
def test_a_prompt_that_leaves_no_room_is_refused_as_too_long(client, num_tokens, max_tokens):
    error = refusal(complete(client, [300] * num_tokens, max_tokens=max_tokens))
    assert error["code"] == "context_length_exceeded" and str(num_tokens) in error["message"]


def test_a_server_with_a_limit_below_the_apis_default_answers_requests_without_one(serve):
    reply = complete(serve(max_tokens=3), PROMPT).json()
    assert reply["usage"]["completion_tokens"] <= 3, reply


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_tokenize_counts_as_answers_do_and_detokenize_inverts(client):
    messages = [{"role": "user", "content": PROMPT}]
    reply = client.post("/tokenize", json={"messages": messages, "return_token_strs": True}).json()
    usage = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()["usage"]
    assert reply["count"] == len(reply["tokens"]) == len(reply["token_strs"]) == usage["prompt_tokens"]
    assert reply["max_model_len"] == 512
    ids = tokens_of(client, PROMPT)
    assert client.post("/detokenize", json={"tokens": ids}).json()["prompt"].strip() == PROMPT
    assert tokens_of(client, "<|endoftext|>") == [0] and tokens_of(client, "") == []
    assert client.get("/tokenizer_info").json()["eos_token"] == "<|endoftext|>"
    assert refusal(client.post("/detokenize", json={"tokens": [1, 10**9]}))["param"] == "tokens[1]"
    assert refusal(client.post("/tokenize", json={}))["param"] == "prompt"
    assert refusal(client.post("/tokenize", json={"prompt": "x", "model": "other"}), 404)["code"] == "model_not_found"


def test_what_is_longer_than_the_context_is_counted(client):
    assert client.post("/tokenize", json={"prompt": "red " * 40_000}).json()["count"] > 40_000
    messages = [{"role": "user", "content": PROMPT}] * 600
    assert client.post("/tokenize", json={"messages": messages}).json()["count"] > 6000


def test_models_by_name(client):
    (model,) = client.get("/v1/models").json()["data"]
    assert model == client.get("/v1/models/tiny").json() and model["max_model_len"] == 512 and model["root"] == "tiny"
    for name in ("other", "org/model"):
        assert refusal(client.get(f"/v1/models/{name}"), 404)["code"] == "model_not_found"
