"""Nothing is hidden: at two widths, light and dark, with long conversations, previews and notices."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.chat_page import jpeg
from tests.browser.conftest import SCHEMES, WIDTHS

LONG = "a long answer of many words " * 60
CODE = "```\n" + "a line of code that is far too long for a telephone and must scroll in its own box " * 3 + "\n```"
OVERFLOWS = """() => [...document.querySelectorAll("body *")]
    .filter(node => !node.closest("pre, .hidden, #chosen, dialog:not([open])"))
    .filter(node => {
        const box = node.getBoundingClientRect();
        return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
    })
    .map(node => node.tagName + "." + node.className)"""
CONTRAST = """selector => {
    const canvas = document.createElement("canvas").getContext("2d");
    const channels = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const linear = c => c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const node = [...document.querySelectorAll(selector)].at(-1);
    let below = node;
    while (channels(getComputedStyle(below).backgroundColor)[3] < 255) below = below.parentElement;
    const colours = [getComputedStyle(node).color, getComputedStyle(below).backgroundColor];
    const [a, b] = colours.map(c => light(channels(c))).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=lambda pair: f"{pair[0]}-{pair[1]}")
def shown(request, open_page, address):
    width, scheme = request.param
    return open_page(address, width, scheme)


def assert_the_end_is_seen(chat):
    """The last exchange ends above the notice and the composer, and the composer in the window."""
    chat.page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    visible = [selector for selector in ("#notice:not([hidden])", "#composer") if chat.page.locator(selector).count()]
    below = min(chat.box(selector)[0] for selector in visible)
    assert chat.box(".exchange")[1] <= below and chat.box("main")[1] <= below
    assert chat.box("#composer")[1] <= chat.page.viewport_size["height"]
    assert chat.page.evaluate(OVERFLOWS) == []


def test_the_last_message_is_never_below_the_composer(shown):
    shown.reply(LONG, CODE)
    for number in range(3):
        shown.ask(f"question {number} " + "of many words " * 20)
        assert_the_end_is_seen(shown)
    shown.add(*((f"{number}.jpg", jpeg(64, 64)) for number in range(12)))
    shown.write("a draft\n" * 12)
    expect(shown.images).to_have_count(12)
    expect(shown.page.locator("#chosen .reading")).to_have_count(0)
    assert_the_end_is_seen(shown)
    shown.reply("an error of the server " * 12, status=500)
    shown.send()
    assert "error of the server" in shown.notice
    assert_the_end_is_seen(shown)
    for selector in (".assistant .text", ".user .text", ".tools .quiet", "#notice span", "#model", ".assistant code"):
        assert shown.page.evaluate(CONTRAST, selector) >= 4.5, selector
    shown.click("Settings")
    assert shown.page.evaluate(OVERFLOWS) == []


def test_the_page_follows_a_stream_only_at_the_end(chat):
    chat.reply(LONG, LONG)
    chat.ask("one")
    chat.ask("two")
    talk = chat.page.locator("main")
    talk.evaluate("node => { node.scrollTop = 0; }")
    expect(chat.page.locator("#jump")).to_be_visible()
    chat.click("Go to the newest message")
    expect(chat.page.locator("#jump")).to_be_hidden()
    assert_the_end_is_seen(chat)


def test_everything_has_a_name_and_takes_the_keyboard(chat):
    chat.add(("red.jpg", jpeg(8, 8)))
    expect(chat.images).to_have_count(1)
    chat.ask("red")
    unnamed = chat.page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, img")]
            .filter(node => !(node.getAttribute("aria-label") || node.alt || node.labels?.length || node.textContent.trim()))
            .filter(node => !node.closest(".example"))  /* the question next to it names the picture */
            .map(node => node.outerHTML)"""
    )
    assert unnamed == []
    expect(chat.page.locator("#text")).to_be_focused()
    expect(chat.page.locator("#announce")).not_to_be_empty()  # a screen reader reads the answer once, at its end


def test_the_page_loads_nothing_from_elsewhere(open_page, address):
    urls = []
    chat = open_page(address)
    chat.page.on("request", lambda request: urls.append(request.url))
    chat.page.on("response", lambda response: chat.errors.append(response.url) if response.status >= 400 else None)
    chat.page.reload()
    expect(chat.page.locator(".example").first).to_be_visible()
    assert urls and all(url.startswith((address, "data:", "blob:")) for url in urls)
    icon = chat.page.locator("link[rel=icon]").get_attribute("href")
    assert chat.page.request.get(f"{address}/{icon}").ok
