"""A conversation on the chat page: send, stream, stop, continue, retry, edit, copy, settings, failures."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from mm1.generation.config import EngineSettings
from tests.browser.chat_page import jpeg
from tests.support.waiting import wait_until

RED = jpeg(64, 48)


def test_a_question_about_an_image_is_answered(chat):
    chat.add(("red.jpg", RED))
    expect(chat.images).to_have_count(1)
    answer = chat.ask("what colour is the ring ?")
    assert answer and not chat.text and chat.images.count() == 0
    (message,) = chat.requests[0]["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    chat.ask("and the square ?")
    roles = [message["role"] for message in chat.requests[1]["messages"]]
    assert roles == ["user", "assistant", "user"] and chat.requests[1]["messages"][1]["content"]


def test_an_example_is_asked_with_one_click(chat):
    chat.page.locator(".example").first.click()
    expect(chat.page.locator(".assistant:not(.waiting) .text")).not_to_be_empty()
    assert chat.sent_images()[0].size == (16, 16)


def test_shift_enter_and_input_methods_do_not_send(chat):
    field = chat.page.locator("#text")
    field.fill("one")
    field.press("Shift+Enter")
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True, "cancelable": True})
    field.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True, "cancelable": True})
    assert chat.text == "one\n" and not chat.requests
    chat.write("   \n ")
    chat.send()
    assert not chat.requests and chat.page.locator("#send").is_disabled()


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_images_are_dropped_pasted_and_removed(chat, how):
    chat.add(("a.jpg", RED), ("b.jpg", RED), kind=how)
    expect(chat.images).to_have_count(2)
    chat.click("Remove a.jpg")
    expect(chat.images).to_have_count(1)
    chat.ask()
    assert len(chat.sent_images()) == 1


def test_several_files_are_chosen(chat):
    files = [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": RED} for number in range(3)]
    chat.page.locator("#files").set_input_files(files)
    expect(chat.images).to_have_count(3)


def test_stop_keeps_what_was_written_and_continue_goes_on(open_page, serve):
    with serve(max_tokens=3000) as address:
        stop_and_continue(open_page(address))


def stop_and_continue(chat):
    settings(chat, maxTokens="3000")
    chat.send("red")
    expect(chat.page.locator(".assistant .text")).not_to_be_empty()
    chat.click("Stop")
    chat.wait()
    assert "You stopped the answer" in chat.page.locator(".cut").inner_text()
    before = chat.page.locator(".assistant .text").text_content()
    settings(chat, maxTokens="8")
    chat.click("Continue")
    chat.wait()
    after = chat.page.locator(".assistant .text").text_content()
    assert after.startswith(before) and len(after) > len(before)
    assert chat.requests[-1]["messages"][-1]["role"] == "assistant"


def test_escape_before_the_first_token_gives_the_message_back(chat):
    chat.page.route("**/v1/chat/completions", lambda route: None)  # no reply at all
    chat.add(("red.jpg", RED))
    expect(chat.images).to_have_count(1)
    chat.send("what is it ?")
    expect(chat.page.locator(".waiting")).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.wait()
    assert chat.text == "what is it ?" and chat.images.count() == 1 and chat.page.locator(".exchange").count() == 0


def test_a_cut_answer_says_so_and_can_be_continued(chat):
    settings(chat, maxTokens="3")
    chat.ask("red ring")
    assert "cut" in chat.page.locator(".cut").inner_text()
    chat.click("Continue")
    chat.wait()
    assert [message["role"] for message in chat.requests[-1]["messages"]] == ["user", "assistant"]


def test_retry_asks_the_same_again(chat):
    first = chat.ask("red ring")
    chat.click("Retry")
    chat.wait()
    assert chat.answer == first and chat.requests[0] == chat.requests[1]
    assert chat.page.locator(".exchange").count() == 1


def test_the_last_message_can_be_edited_and_cancelled(chat):
    chat.add(("red.jpg", RED))
    expect(chat.images).to_have_count(1)
    chat.ask("red ring")
    chat.write("a draft")
    chat.click("Edit")
    assert chat.text == "red ring" and chat.images.count() == 1
    chat.click("Cancel")
    assert chat.text == "a draft" and chat.images.count() == 0 and chat.page.locator(".exchange").count() == 1
    chat.click("Edit")
    chat.send("blue ring")
    expect(chat.page.locator(".user .text")).to_have_text(["blue ring"])
    chat.wait()
    assert len(chat.requests[-1]["messages"]) == 1 and chat.text == "a draft"


def test_copy_copies_the_text_of_the_answer(chat):
    chat.reply("a **bold** ", "answer")
    chat.ask("red")
    chat.click("Copy")
    expect(chat.page.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.page.evaluate("navigator.clipboard.readText()") == "a **bold** answer"


def test_new_chat_forgets_the_conversation(chat):
    chat.ask("red")
    chat.click("New chat")
    expect(chat.page.locator(".example").first).to_be_visible()
    chat.ask("blue")
    assert len(chat.requests[-1]["messages"]) == 1


def test_new_chat_ends_an_answer_that_is_being_written(open_page, serve):
    with serve(max_tokens=3000) as address:
        chat = open_page(address)
        settings(chat, maxTokens="3000")
        chat.send("red")
        expect(chat.page.locator(".assistant .text")).not_to_be_empty()
        chat.click("New chat")
        chat.wait()
        assert not chat.text and chat.page.locator(".exchange").count() == 0
    held = []
    chat.page.route("**/v1/chat/completions", lambda route: held.append(route))
    chat.send("blue")
    expect(chat.page.locator(".waiting")).to_be_visible()
    chat.click("New chat")
    chat.wait()
    assert not chat.text and chat.page.locator(".exchange").count() == 0 and chat.page.locator("#notice").is_hidden()


def settings(chat, **values: str) -> None:
    chat.click("Settings")
    for name, value in values.items():
        chat.page.locator(f"#settings [name={name}]").fill(value)
    chat.click("Save")


def test_settings_are_sent_and_survive_a_reload(chat):
    settings(chat, temperature="0.7", maxTokens="5", system="be short", key="secret")
    chat.page.reload()
    chat.ask("red")
    body = chat.requests[-1]
    assert body["temperature"] == 0.7 and body["max_tokens"] == 5
    assert body["messages"][0] == {"role": "system", "content": "be short"}
    assert "secret" not in chat.page.evaluate("JSON.stringify(localStorage)")
    chat.click("Settings")
    chat.page.locator("#settings [name=temperature]").fill("3")
    chat.click("Save")  # refused by the form
    expect(chat.page.locator("#settings")).to_be_visible()
    chat.click("Cancel")


# -- failures ---------------------------------------------------------------------------------------------------------------


def test_a_failure_gives_text_and_images_back_and_retry_sends_them(chat):
    chat.reply("internal server error", status=500)
    chat.add(("red.jpg", RED))
    expect(chat.images).to_have_count(1)
    chat.send("what is it ?")
    assert "internal server error" in chat.notice
    assert chat.text == "what is it ?" and chat.images.count() == 1 and chat.page.locator(".exchange").count() == 0
    chat.reply_no_more()
    chat.click("Retry")
    expect(chat.page.locator(".assistant:not(.waiting) .text")).not_to_be_empty()
    assert not chat.text and len(chat.sent_images()) == 1


def test_what_was_written_meanwhile_is_kept_too(chat):
    pending = []
    chat.page.route("**/v1/chat/completions", lambda route: pending.append(route))
    chat.send("first")
    expect(chat.page.locator(".waiting")).to_be_visible()
    chat.write("second")
    pending[0].abort()
    assert "cannot be reached" in chat.notice and chat.text == "first\nsecond"


def test_an_answer_that_breaks_off_is_kept_and_said(chat):
    chat.reply("half an ", "answer", finish="")
    chat.send("red")
    assert "lost" in chat.notice and chat.answer == "half an answer"
    chat.reply_no_more()
    chat.click("Continue")
    chat.wait()
    assert chat.answer.startswith("half an answer") and chat.requests[-1]["messages"][-1]["content"] == "half an answer"


def test_retry_of_a_broken_answer_leaves_the_draft(chat):
    chat.reply("half", finish="")
    chat.send("red")
    assert "lost" in chat.notice
    chat.write("a draft")
    chat.reply_no_more()
    chat.page.locator("#notice").get_by_role("button", name="Retry").click()
    expect(chat.page.locator(".assistant:not(.waiting) .text")).not_to_have_text("half")
    assert chat.text == "a draft" and chat.page.locator(".exchange").count() == 1


def test_a_failed_edit_leaves_the_conversation_and_the_edited_text(chat):
    answer = chat.ask("red ring")
    chat.write("a draft")
    chat.click("Edit")
    chat.reply("no", status=500)
    chat.send("blue ring")
    assert "no" in chat.notice and chat.text == "blue ring" and chat.answer == answer
    chat.reply_no_more()
    chat.page.locator("#notice").get_by_role("button", name="Retry").click()
    expect(chat.page.locator(".user .text")).to_have_text(["blue ring"])
    chat.wait()
    assert chat.text == "a draft" and len(chat.requests[-1]["messages"]) == 1


def test_a_failed_retry_leaves_the_answer(chat):
    answer = chat.ask("red ring")
    chat.reply("no", status=500)
    chat.click("Retry")
    assert "no" in chat.notice and chat.answer == answer


def test_a_busy_server_is_asked_again(open_page, serve):
    with serve(EngineSettings(max_running=1, max_waiting=1), max_tokens=3000) as address:
        first, second, third = (open_page(address) for _ in range(3))
        for chat, tokens in ((first, "3000"), (second, "3000"), (third, "8")):
            settings(chat, maxTokens=tokens)
        first.send("red")
        expect(first.page.locator(".assistant .text")).not_to_be_empty()
        second.send("red")
        wait_until(
            lambda: "mm1_answers_waiting 1.0" in httpx.get(f"{address}/metrics", trust_env=False).text, "a full queue", 15
        )
        third.send("red")
        assert "busy" in third.notice and "Trying again in" in third.notice
        for chat in (second, first):
            chat.page.keyboard.press("Escape")
        expect(third.page.locator(".assistant:not(.waiting) .text")).not_to_be_empty()
        assert len(third.requests) >= 2 and third.page.locator("#notice").is_hidden()


def test_the_wait_for_a_busy_server_can_be_cut_short(chat):
    chat.reply("too many requests", status=429, headers={"Retry-After": "30"})
    chat.send("red")
    assert "busy" in chat.notice and " 30 s" in chat.notice
    chat.reply_no_more()
    chat.click("Try now")
    expect(chat.page.locator(".assistant:not(.waiting) .text")).not_to_be_empty()


def test_stop_ends_the_wait_for_a_busy_server(chat):
    chat.reply("too many requests", status=503, headers={"Retry-After": "30"})
    chat.send("red")
    assert "busy" in chat.notice
    chat.click("Stop")
    chat.wait()
    assert chat.text == "red" and chat.page.locator("#notice").is_hidden()


def test_a_server_that_asks_for_a_key_gets_it(open_page, serve):
    with serve(api_keys=("secret",), max_tokens=8) as address:
        chat = open_page(address)
        chat.send("red")
        for reason, key in (("asks for an API key", "wrong"), ("refused this API key", "secret")):
            expect(chat.page.locator("#settings-reason")).to_contain_text(reason)
            chat.page.locator("#settings [name=key]").fill(key)
            chat.click("Save")
        expect(chat.page.locator(".assistant:not(.waiting) .text")).not_to_be_empty()
        assert chat.page.locator("#notice").is_hidden()
        chat.click("New chat")
        expect(chat.page.locator(".example").first).to_be_visible()  # they need the key too
