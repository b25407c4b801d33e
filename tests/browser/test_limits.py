"""The server's limits on the chat page: large photos, long histories."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.chat_page import jpeg
from tests.support.tiny_mm1 import picture


@pytest.fixture(scope="module")
def narrow(serve):
    """A server with low limits."""
    with serve(
        max_images=3, max_request_bytes=60_000, max_tokens=40, default_max_tokens=4, max_image_pixels=1_000_000
    ) as address:
        yield address


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_phone_photo_is_scaled_and_upright(chat, orientation):
    chat.add(("phone.jpg", jpeg(5000, 4000, orientation)))
    expect(chat.images).to_have_count(1)
    assert chat.ask("what is it ?")
    (image,) = chat.sent_images()
    assert image.size == ((2048, 1638) if orientation == 1 else (1638, 2048)) and not image.getexif().get(0x0112)
    width, height = image.size
    seen = [image.convert("RGB").getpixel((width * x // 4, height * y // 4)) for y in (1, 3) for x in (1, 3)]
    red, green, blue, white = (254, 0, 0), (0, 128, 1), (0, 0, 254), (255, 255, 255)
    expected = [red, green, blue, white] if orientation == 1 else [blue, red, white, green]
    assert np.abs(np.array(seen) - np.array(expected)).max() < 12


def test_photos_keep_the_servers_limit_of_pixels(open_page, narrow):
    chat = open_page(narrow)
    chat.add(("photo.jpg", jpeg(1300, 800)))
    expect(chat.images).to_have_count(1)
    chat.ask("x")
    (image,) = chat.sent_images()
    assert image.width * image.height <= 1_000_000 and abs(image.width / image.height - 1300 / 800) < 0.01


def test_small_images_are_sent_as_they_are(chat):
    data = picture(3)
    chat.add(("small.png", data), type="image/png")
    expect(chat.images).to_have_count(1)
    chat.ask("x")
    assert chat.sent_images()[0].fp.getvalue() == data


@pytest.mark.parametrize(
    ("name", "data", "kind"), [("a.jpg", b"no image", "image/jpeg"), ("notes.pdf", b"%PDF", "application/pdf")]
)
def test_a_file_that_is_no_image_is_named(chat, name, data, kind):
    chat.write("text")
    chat.add((name, data), (f"second-{name}", data), type=kind)
    assert name in chat.notice and f"second-{name}" in chat.notice and chat.text == "text"


def test_more_images_than_a_message_may_have_are_named(open_page, narrow):
    chat = open_page(narrow)
    chat.add(*((f"{number}.png", picture(number)) for number in range(5)), type="image/png")
    expect(chat.images).to_have_count(3)
    assert "at most 3 images" in chat.notice
    assert chat.ask("x") and len(chat.sent_images()) == 3


def test_old_images_are_left_out_with_a_notice(open_page, narrow):
    chat = open_page(narrow)
    for number in range(5):
        chat.add((f"{number}.png", picture(number)), type="image/png")
        expect(chat.images).to_have_count(1)
        assert chat.ask(f"what is number {number} ?")
        assert chat.page.locator("#notice").is_hidden()
    assert [len(chat.sent_images(number)) for number in range(5)] == [1, 2, 3, 3, 3]
    note = chat.page.locator(".trimmed")
    assert "3 images" in note.inner_text() and chat.page.locator(".unsent").count() == 2
    top, bottom = chat.box(".trimmed")
    assert chat.box(".unsent")[1] <= top and bottom <= chat.box(".exchange:nth-last-child(3)")[0]


def test_old_bytes_are_left_out_with_a_notice(open_page, narrow):
    chat = open_page(narrow)
    for number in range(3):
        chat.add((f"{number}.png", picture(number, side=160)), type="image/png")
        expect(chat.images).to_have_count(1)
        assert chat.ask(f"what is number {number} ?")
    assert [len(chat.sent_images(number)) for number in range(3)] == [1, 1, 1]
    assert "58 KB" in chat.page.locator(".trimmed").inner_text()


def test_a_full_context_leaves_out_the_oldest_and_asks_again(chat):
    for number in range(4):
        assert chat.ask(f"{number} " + "red ring blue " * 400)
    assert chat.page.locator("#notice").is_hidden()
    assert "context" in chat.page.locator(".trimmed").inner_text()
    first = chat.requests[-1]["messages"][0]["content"][0]["text"]
    assert not first.startswith("0 ")


def test_a_message_beyond_the_context_is_given_back(chat):
    text = "red ring blue " * 1500
    chat.send(text)
    assert "context" in chat.notice and chat.text == text.strip()


def test_a_message_that_leaves_little_room_gets_a_short_answer(open_page, serve):
    with serve() as address:
        chat = open_page(address)
        answer = chat.ask("red ring blue " * 1350)
        assert answer and chat.page.locator("#notice").is_hidden() and "max_tokens" not in chat.requests[-1]


def test_a_proxy_that_takes_less_than_the_server_gets_less(chat):
    def proxy(route):
        if len(route.request.post_data_buffer) > 4_000:
            route.fulfill(status=413, body="<html>Request Entity Too Large</html>", content_type="text/html")
        else:
            route.continue_()

    chat.page.route("**/v1/chat/completions", proxy)
    for number in range(3):
        assert chat.ask(f"{number} " + "red ring blue " * 110)
    assert [len(body["messages"]) for body in chat.requests] == [1, 3, 5, 3]
    assert "too large" in chat.page.locator(".trimmed").inner_text()
    chat.send("y" * 5_000)
    assert "413" in chat.notice and chat.text == "y" * 5_000
