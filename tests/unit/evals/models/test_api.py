"""A model behind an OpenAI-compatible API: a small server that fails on command, and this project's own."""

from __future__ import annotations

import base64
import email.utils
import io
import time

import pytest
from PIL import Image

from mm1.errors import ConfigurationError, NetworkError
from mm1.evals.models import client as client_module
from mm1.evals.models.api import ApiModel, portable
from mm1.evals.models.client import ApiClient, read_key
from mm1.evals.models.config import ModelSettings
from mm1.evals.models.find import find_model
from mm1.evals.models.own import OwnModel
from mm1.generation.generator import Generator
from mm1.generation.prompt import Conversation, Message, Request
from tests.support.fake_api import FakeApi, serving
from tests.support.serving import server
from tests.support.tiny_mm1 import picture, tiny_mm1


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.001)


def connect(address, **settings):
    return ApiModel(ApiClient(address, ModelSettings(**{"retry_s": 20} | settings)), "fake")


ASKS = [
    Request(("what is", "this ?")),
    Request((picture(1), "what is this ?"), prefix=(picture(2), "a ring .")),
    Conversation((Message("user", (picture(3), "what is it ?")),), prefix=(Message("system", ("be short",)),)),
]


def test_text_goes_to_completions_and_images_and_conversations_to_the_chat():
    with serving(api := FakeApi()) as address:
        model = connect(address)
        answers = model.generate(ASKS, max_new_tokens=5, stop=["\n", "?"])
    assert model.completes and model.can_score
    assert [answer.text for answer in answers] == ["", "saw IMAGE a ring . IMAGE what is this", "saw IMAGE what is it"]
    assert answers[1].num_prompt_tokens == 7 and answers[1].finish_reason == "stop"
    sent = [(path, body) for path, body, _ in api.requests if "echo" not in body and body.get("max_tokens") == 5]
    (completion,) = [body for path, body in sent if path == "completions"]
    assert completion["prompt"] == "what is this ?" and completion["temperature"] == 0 and completion["stop"] == ["\n", "?"]
    plain, chat = [body["messages"] for path, body in sent if path == "chat/completions"]
    if len(plain) > 1:
        plain, chat = chat, plain
    assert [part["type"] for part in plain[0]["content"]] == ["image_url", "text", "image_url", "text"]
    assert chat[0] == {"role": "system", "content": "be short"}
    url = plain[0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == picture(2)


def test_a_server_without_completions_gets_plain_prompts_as_a_message_and_cannot_score():
    with serving(FakeApi(lacks=("completions",))) as address:
        model = connect(address)
        (answer,) = model.generate(ASKS[:1], max_new_tokens=5)
    assert answer.text == "saw what is this ?" and not model.can_score


def test_choices_are_scored_by_the_log_probabilities_of_their_tokens_alone():
    with serving(FakeApi()) as address:
        model = connect(address)
        counts = []
        ((red, longer), (other,)) = model.score(
            [Request(("the ring is",)), Request(("it is ",))], [[" red", "very blue"], ["x"]], counts.append
        )
        assert (red.logprob, red.num_tokens, red.is_greedy) == (-4.0, 1, True)
        assert (longer.logprob, longer.num_tokens) == (-10.0, 2) and other.logprob == -2.0 and counts == [2]
        with pytest.raises(ConfigurationError, match="--choose generate"):
            model.score(ASKS[1:2], [["a"]])
    with serving(FakeApi(echoes=False)) as address:
        assert not connect(address).can_score


@pytest.mark.parametrize(
    "failures",
    [
        [(429, {"retry-after": "0"}, {"error": {"message": "slow down"}})] * 3,
        [(429, {"retry-after": email.utils.formatdate(time.time() - 5, usegmt=True)}, {})],
        [(500, {}, b"<html>oops"), (503, {}, {}), (408, {}, {})],
        [(200, {}, b"{half")],
        [(200, {}, [])],
    ],
    ids=["429", "429 with a date", "500", "damaged", "no object"],
)
def test_failures_that_pass_are_repeated(failures):
    with serving(api := FakeApi()) as address:
        model = connect(address)
        api.failures = list(failures)
        assert model.generate(ASKS[1:], max_new_tokens=5)[1].text == "saw IMAGE what is it ?"
        assert not api.failures


def test_the_wait_that_the_server_asks_for_is_kept_or_ends_the_attempts():
    with serving(api := FakeApi()) as address:
        model = connect(address, retry_s=5)
        api.failures = [(429, {"retry-after": "60"}, {"error": {"message": "quota"}})]
        started = time.monotonic()
        with pytest.raises(NetworkError, match="status 429: quota, after 1 attempt"):
            model.generate(ASKS[:1], max_new_tokens=5)
        assert time.monotonic() - started < 5


def test_a_slow_answer_is_given_up_and_asked_for_again():
    with serving(api := FakeApi()) as address:
        model = connect(address, request_timeout_s=0.3, retry_s=0)
        api.hold.clear()
        with pytest.raises(NetworkError, match=r"no answer within 0\.3 s"):
            model.generate(ASKS[:1], max_new_tokens=5)


def test_an_address_that_nobody_listens_at():
    with serving(FakeApi()) as address:
        pass
    with pytest.raises(NetworkError, match="the connection failed"):
        connect(address, retry_s=0)
    with pytest.raises(ConfigurationError):
        connect("http://localhost:port/v1", retry_s=0)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "OPENAI_API_KEY"), (403, "rights of the key"), (404, "--model-name"), (400, "fewer demonstrations")],
)
def test_refusals_are_errors_at_once_with_the_remedy(status, remedy):
    with serving(api := FakeApi()) as address:
        model = connect(address)
        api.failures = [(status, {}, {"error": {"message": "maximum context length is 10", "code": "x"}})]
        seen = len(api.requests)
        with pytest.raises(ConfigurationError, match=remedy):
            model.generate(ASKS[1:2], max_new_tokens=5)
        assert len(api.requests) == seen + 1


def test_fields_that_a_model_refuses_are_renamed_or_left_out():
    def refuse(body):
        if "max_tokens" in body:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "temperature" in body:
            return "Unsupported value: 'temperature' does not support 0 with this model."
        return ""

    with serving(api := FakeApi(lacks=("completions",))) as address:
        model = connect(address)
        api.refuse = refuse
        answers = model.generate([ASKS[2]] * 12, max_new_tokens=5)
        assert {answer.text for answer in answers} == {"saw IMAGE what is it ?"}
        assert api.requests[-1][1].keys() == {"model", "messages", "max_completion_tokens"}
        api.refuse = lambda body: "no such thing"
        with pytest.raises(ConfigurationError, match="no such thing"):
            model.generate([ASKS[2]], max_new_tokens=5)


def test_several_requests_at_a_time_in_their_order():
    with serving(api := FakeApi()) as address:
        model = connect(address, concurrency=4)
        asks = [Request((f"number {number}",)) for number in range(40)]
        counts = []
        answers = model.generate(asks, max_new_tokens=5, stop=["\n"], on_batch=counts.append)
    assert [answer.text for answer in answers] == [f"{number} again" for number in range(40)]
    assert api.most_at_once <= 4 and sum(counts) == 40


def test_the_key_is_sent_and_never_shown(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    (tmp_path / "key").write_text("sk-from-file\n")
    with serving(api := FakeApi()) as address:
        for settings, key in (({}, "sk-from-environment"), ({"api_key_file": str(tmp_path / "key")}, "sk-from-file")):
            model = connect(address, **settings)
            assert api.requests[-1][2]["Authorization"] == f"Bearer {key}"
            repeated = {"error": {"message": f"Incorrect API key provided: {key}"}}
            api.failures = [(500, {}, key.encode()), (200, {}, repeated), (401, {}, repeated)]
            with pytest.raises(ConfigurationError) as error:
                model.generate(ASKS[:1], max_new_tokens=5)
            assert key not in f"{error.value!r} {caplog.text} {vars(model)!r} {model.client.settings!r}"
    (tmp_path / "empty").write_text("")
    for name in ("empty", "missing"):
        with pytest.raises(ConfigurationError, match="--api-key-file"):
            connect(address, api_key_file=str(tmp_path / name))


@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-two\nlines", "sk-two words", "sk-bell\a"])
def test_a_key_that_no_header_can_have_is_refused_without_showing_it(key, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    (tmp_path / "key").write_text(key, encoding="utf-8")
    for settings, source in (({}, "OPENAI_API_KEY"), ({"api_key_file": str(tmp_path / "key")}, "--api-key-file")):
        with pytest.raises(ConfigurationError, match=source) as error:
            connect("http://localhost:9/v1", **settings)
        assert "sk-" not in str(error.value)


def test_a_key_file_may_have_a_mark_of_its_encoding(tmp_path):
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsk-from-file\r\n")
    assert read_key(str(tmp_path / "key")) == "sk-from-file"


@pytest.mark.parametrize("address", ["http://me:secret@host/v1", "http://host/v1?api_key=secret", "http://host/v1#secret"])
def test_an_address_with_a_secret_is_refused(address):
    for find in (lambda: find_model(address, ModelSettings(model_name="m")), lambda: connect(address)):
        with pytest.raises(ConfigurationError, match="--api-key-file") as error:
            find()
        assert "secret" not in str(error.value)


def test_a_web_page_in_place_of_answers_is_an_error_at_once():
    page = (200, {"content-type": "text/html; charset=utf-8"}, b"<html>welcome</html>")
    with serving(api := FakeApi()) as address:
        api.failures = [page] * 3
        with pytest.raises(ConfigurationError, match="a web page, not JSON; check the address"):
            find_model(address, ModelSettings())
        api.failures = [page]  # a path that the server does not know
        model = connect(address)
        assert not model.completes
        for failures in ([], [page]):  # the second page is a proxy's, after the server has answered
            api.failures = failures
            assert [answer.text for answer in model.generate(ASKS[2:], max_new_tokens=5)] == ["saw IMAGE what is it ?"]


def test_an_error_with_status_200_is_repeated_and_parts_of_an_answer_are_joined(monkeypatch):
    with serving(api := FakeApi(lacks=("completions",))) as address:
        model = connect(address)
        api.failures = [(200, {}, {"error": {"message": "overloaded", "code": 429}})]
        parts = [{"type": "text", "text": "a red"}, {"type": "text", "text": " ring"}, {"type": "reference"}]
        monkeypatch.setattr(api, "_content", lambda path, body: {"choices": [{"message": {"content": parts}}]})
        assert [answer.text for answer in model.generate(ASKS[2:], max_new_tokens=5)] == ["a red ring"]
        monkeypatch.setattr(api, "_content", lambda path, body: {"choices": [{"message": {"content": None}}]})
        assert [answer.text for answer in model.generate(ASKS[2:], max_new_tokens=5)] == [""]


def test_the_name_of_the_model_is_asked_for():
    with serving(FakeApi()) as address:
        choice = find_model(f"{address}/", ModelSettings())
        assert choice.settings.model_name == "fake" and choice.kind == "api" and choice.name == address
        assert choice.digest != find_model(address, ModelSettings(model_name="other")).digest
    with serving(FakeApi(lacks=("models",))) as address, pytest.raises(ConfigurationError, match="status 404"):
        find_model(address, ModelSettings())


def test_images_are_sent_as_people_see_them():
    pixels = Image.new("RGB", (4, 2), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, bitmap = io.BytesIO(), io.BytesIO()
    pixels.save(turned, "JPEG", exif=exif)
    pixels.save(bitmap, "BMP")
    for data, size in ((turned.getvalue(), (2, 4)), (bitmap.getvalue(), (4, 2))):
        sent = Image.open(io.BytesIO(portable(data)))
        assert sent.size == size and sent.format == "PNG"


def test_our_own_server_answers_as_the_model_in_this_process(tmp_path, warm_python):
    generator = Generator(*tiny_mm1())
    generator.model.save_pretrained(tmp_path / "model")
    generator.processor.save_pretrained(tmp_path / "model")
    turns = (Message("user", (picture(1), "what is this ?")),)
    asks = [
        Conversation(turns),
        Conversation((Message("user", ("this is",)),), prefix=(*turns, Message("assistant", ("dax",)))),
    ]
    asks = [*asks, Request((picture(4), "what colour is the ring ?"))]
    with server(warm_python, tmp_path / "log", "--model", str(tmp_path / "model")) as (address, _):
        choice = find_model(f"{address.rstrip('/')}/v1", ModelSettings(retry_s=5))
        model = ApiModel.connect(choice)
        answers = model.generate(asks, max_new_tokens=8)
        asks[2] = Conversation((Message("user", asks[2].prompt),))
        expected = OwnModel(generator).generate(asks, max_new_tokens=8)
        assert [answer.text for answer in answers] == [answer.text for answer in expected]
        texts = [Request(("what colour is the ring ?",)), Request(("this is",))]
        if model.completes:
            plain = OwnModel(generator).generate(texts, max_new_tokens=8)
            assert [each.text for each in model.generate(texts, max_new_tokens=8)] == [each.text for each in plain]
        if model.can_score:
            choices = [[" red", " big blue"], [" dax", " wug"]]
            direct = OwnModel(generator).score(texts, choices)
            for ours, own in zip(model.score(texts, choices), direct, strict=True):
                assert [each.logprob for each in ours] == pytest.approx([each.logprob for each in own], abs=1e-3)
