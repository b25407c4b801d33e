"""Images of requests: data: URLs as browsers read them, the decoder's formats and no others, allowed hosts."""

from __future__ import annotations

import base64
import http.server
import io
import threading
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm1.data.images import FORMATS
from mm1.data.prepare.locations.fetch import Fetcher
from mm1.generation import encode
from mm1.serve.api.data_urls import data_of, is_data_url
from mm1.serve.api.images import is_allowed
from tests.support.chat_requests import ask, refusal, uri, user
from tests.support.tiny_mm1 import picture

PNG = picture(1)
TEXT = base64.b64encode(PNG).decode()
FORMS = {
    "plain": f"data:image/png;base64,{TEXT}",
    "charset": f"data:image/png;charset=utf-8;base64,{TEXT}",
    "name": f"data:image/png;name=a%20b.png;base64,{TEXT}",
    "upper case": f"DATA:IMAGE/PNG;BASE64,{TEXT}",
    "lines of 76": f"data:image/png;base64,{base64.encodebytes(PNG).decode()}",
    "lines of CRLF": f"data:image/png;base64,{base64.encodebytes(PNG).decode()}".replace("\n", "\r\n"),
    "blanks": f" data:image/png; base64 , {TEXT} ",
    "no padding": f"data:image/png;base64,{TEXT.rstrip('=')}",
    "too much padding": f"data:image/png;base64,{TEXT.rstrip('=')}====",
    "url-safe": f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
    "percent-encoded base64": f"data:image/png;base64,{quote(TEXT, safe='')}",
    "percent-encoded bytes": f"data:image/png,{quote(PNG)}",
    "no media type": f"data:;base64,{TEXT}",
    "wrong media type": f"data:image/jpeg;base64,{TEXT}",
    "text": f"data:text/plain;base64,{TEXT}",
    "fragment": f"data:image/png;base64,{TEXT}#top",
}


def image_part(url, bare: bool = False):
    return {"role": "user", "content": [{"type": "image_url", "image_url": url if bare else {"url": url, "detail": "auto"}}]}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_data_url_is_the_same_image(client, form):
    assert data_of(FORMS[form].strip()) == PNG
    usual = ask(client, image_part(FORMS["plain"])).json()["choices"]
    assert ask(client, image_part(FORMS[form])).json()["choices"] == usual
    assert ask(client, image_part(FORMS[form], bare=True)).json()["choices"] == usual


@given(st.binary(max_size=200), st.integers(1, 80), st.sampled_from(["\n", "\r\n", " ", "\t"]), st.booleans(), st.booleans())
def test_base64_is_read_whatever_breaks_pads_or_spells_it(data, width, gap, padded, url_safe):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    wrapped = gap.join(text[start : start + width] for start in range(0, len(text), width))
    assert data_of(f"data:;base64,{wrapped}") == data


@given(st.binary(max_size=200))
def test_percent_encoded_bytes_are_read(data):
    assert data_of(f"data:,{quote(data)}") == data and is_data_url("dAtA:,x")


def encoded(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_the_decoders_formats_are_read(client, form):
    assert ask(client, image_part(uri(encoded(form)))).status_code == 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (encoded("PPM"), "supported format"),
        (encoded("TGA"), "supported format"),
        (encoded("PCX"), "supported format"),
        (encoded("ICO"), "ICO images are not supported"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG images are not supported"),
        (b"%PDF-1.7 ...", "PDF images are not supported"),
        (b"\0\0\0 ftypheic" + bytes(64), "HEIC images are not supported"),
        (b"GIF89a", "supported format"),
        (b"", "empty"),
        (b"not an image", "supported format"),
    ],
    ids=["ppm", "tga", "pcx", "ico", "svg", "pdf", "heic", "cut", "empty", "text"],
)
def test_other_formats_are_refused_with_the_supported_ones(client, data, says):
    error = refusal(ask(client, image_part(uri(data, "image/png"))))
    assert says in error["message"] and error["code"] == "invalid_image"
    assert error["param"] == "messages[0].content[0].image_url.url"
    assert not data or all(form in error["message"] for form in FORMATS)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,AAAAA", "is the end missing"),
        ("data:image/png;base64,AA=AA", "unexpected character '='"),
        ("data:image/png;base64,AAA€", "unexpected character"),
        (TEXT, "expected a data: URL"),
        ("", "expected a data: URL"),
        ("ftp://example.com/x.png", "expected a data: URL"),
        ("blob:https://example.com/1", "expected a data: URL"),
    ],
)
def test_other_urls_are_refused(client, url, says):
    error = refusal(ask(client, image_part(url)))
    assert says in error["message"] and error["code"] == "invalid_image_url" and len(error["message"]) < 300


# -- images of allowed hosts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.org", True),
        ("A.ORG.", True),
        ("b.a.org", False),
        ("x.c.org", True),
        ("y.x.c.org", True),
        ("c.org", False),
        ("evilc.org", False),
        ("", False),
    ],
)
def test_hosts_are_names_or_names_below_one(host, allowed):
    assert is_allowed(host, ["a.org", "*.c.org"]) == allowed
    assert is_allowed(host, ["*"]) == bool(host)


@pytest.fixture(scope="module")
def images():
    """A server of images on this machine: address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            places = {"/ring.png": (200, PNG), "/text": (200, b"text"), "/large": (200, bytes(300_000))}
            status, body = places.get(self.path, (404, b""))
            self.send_response(302 if self.path == "/away" else status)
            if self.path == "/away":
                self.send_header("Location", f"http://localhost:{self.server.server_port}/ring.png")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_images_of_allowed_hosts_are_fetched(serve, images):
    hosts = ("127.0.0.1",)
    fetcher = Fetcher(private=True, max_bytes=200_000, timeout_s=5, allows=lambda host: is_allowed(host, hosts))
    client = serve(image_hosts=hosts, app={"fetcher": fetcher})
    usual = ask(client, image_part(uri(PNG))).json()["choices"]
    assert ask(client, image_part(f"{images}/ring.png")).json()["choices"] == usual
    for path, says in {
        "missing": "status 404",
        "text": "not an image",
        "large": "too large",
        "away": "host not allowed",
    }.items():
        error = refusal(ask(client, image_part(f"{images}/{path}")))
        assert says in error["message"] and error["param"] == "messages[0].content[0].image_url.url"
    counted = client.get("/metrics").text
    assert 'mm1_image_fetches_total{result="fetched"} 2.0\n' in counted, "text is fetched, and then refused"
    assert 'mm1_image_fetches_total{result="failed"} 3.0\n' in counted


def test_private_addresses_are_never_fetched(serve, images):
    client = serve(image_hosts=("*",))
    for url in (f"{images}/ring.png", "http://169.254.169.254/latest", "http://[::1]/x", "http://localhost/x"):
        assert "not a public address" in refusal(ask(client, image_part(url)))["message"]


def test_a_host_that_is_not_in_the_list_is_named(serve):
    client = serve(image_hosts=("a.org",))
    for url in ("https://b.org/x.png", "https://a.org@b.org/x.png", "http://a.org.b.org/x", "http:///x", "https://[/x"):
        error = refusal(ask(client, image_part(url)))
        assert error["code"] == "remote_image" and "a.org only" in error["message"]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_damaged_one_of_several_images_is_named(client, streamed):
    good, bad = picture(1), picture(2, side=64)[:-300]
    error = refusal(ask(client, user("a"), {"role": "assistant", "content": "b"}, user(good, "c", bad), stream=streamed))
    assert error["param"] == "messages[2].content[2]" and error["code"] == "invalid_image"
    assert error["message"].startswith("messages[2].content[2]: ") and "cannot be read" in error["message"]


def test_the_engines_thread_decodes_no_image(client, monkeypatch):
    threads = set()
    read = encode.read_pixels

    def watched(*arguments):
        threads.add(threading.current_thread().name)
        return read(*arguments)

    monkeypatch.setattr(encode, "read_pixels", watched)
    assert ask(client, user(picture(77), "x", picture(78)), max_tokens=1).status_code == 200
    assert threads and all(name.startswith("mm1-prepare") for name in threads)
