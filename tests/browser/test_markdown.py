"""Markdown of answers: what is rendered, and that no text becomes markup."""

from __future__ import annotations

import random

import pytest
from playwright.sync_api import expect

RENDER = """async texts => {
    const {render} = await import("/page/markdown.js");
    return texts.map(text => { const box = document.createElement("div"); box.append(render(text)); return box.innerHTML; });
}"""
CHECK = """async texts => {
    const {render} = await import("/page/markdown.js");
    const tags = ["P", "H3", "H4", "H5", "H6", "UL", "OL", "LI", "BLOCKQUOTE", "PRE", "CODE", "STRONG", "EM", "BR", "HR", "A"];
    const attributes = {OL: ["start"], A: ["href", "target", "rel"]};
    const known = node => tags.includes(node.tagName)
        && node.getAttributeNames().every(name => (attributes[node.tagName] ?? []).includes(name))
        && (node.tagName !== "A" || (["http:", "https:"].includes(node.protocol) && node.rel.includes("noopener")));
    const kept = text => [...text].filter(sign => /[\\p{L}<>&"'=/]/u.test(sign)).sort().join("");
    const losesSigns = text => text.includes("](") || text.includes(">") || /[`~]{3}/.test(text);
    return texts.filter(text => {
        const box = document.createElement("div");
        box.append(render(text));
        return ![...box.querySelectorAll("*")].every(known) || (!losesSigns(text) && kept(box.textContent) !== kept(text));
    });
}"""
LINK = '<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{1}</a>'


@pytest.fixture(scope="module")
def page(browser, address):
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "<p>plain</p>"),
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("**bold** and *italic*", "<p><strong>bold</strong> and <em>italic</em></p>"),
        ("__bold__ and _italic_", "<p><strong>bold</strong> and <em>italic</em></p>"),
        ("***both***", "<p><strong><em>both</em></strong></p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("2 * 3 * 4, snake_case_name, **open", "<p>2 * 3 * 4, snake_case_name, **open</p>"),
        ("`a *b* <i>` and ``a ` b``", "<p><code>a *b* &lt;i&gt;</code> and <code>a ` b</code></p>"),
        (r"\*not\* \`code\`", "<p>*not* `code`</p>"),
        ("# one\n###### six #\n#no", "<h3>one</h3><h6>six</h6><p>#no</p>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("text\n* a\n\n* b", "<p>text</p><ul><li>a</li><li>b</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n   more\n2) b", "<ol><li>a<br>more</li><li>b</li></ol>"),
        ("> a\n> b\n\nc", "<blockquote><p>a<br>b</p></blockquote><p>c</p>"),
        ("```python\na = 1\n\n<b>\n```\nafter", "<pre><code>a = 1\n\n&lt;b&gt;</code></pre><p>after</p>"),
        ("```\nunfinished **a**", "<pre><code>unfinished **a**</code></pre>"),
        ("---", "<hr>"),
        ("[label](https://example.com/a_(b))", f"<p>{LINK.format('https://example.com/a_(b)', 'label')}</p>"),
        ("see https://e.com/x.", f"<p>see {LINK.format('https://e.com/x', 'https://e.com/x')}.</p>"),
        ("[x](javascript:alert(1)) [y](data:text/html,z)", "<p>[x](javascript:alert(1)) [y](data:text/html,z)</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_rendered(page, text, html):
    assert page.evaluate(RENDER, [text]) == [html]


def test_no_text_becomes_markup(page):
    pieces = [
        *(
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "</p>",
            "<a href='javascript:x'>",
            "&lt;",
            "&#60;",
            '"',
            "'",
        ),
        *(
            "[a](",
            "](",
            ")",
            "[",
            "]",
            "https://e.com",
            "http://",
            "javascript:x",
            "data:text/html,x",
            "![i](https://e.com/x.png)",
        ),
        *(
            "*",
            "**",
            "***",
            "_",
            "__",
            "`",
            "``",
            "```",
            "~~~",
            "#",
            "# ",
            "- ",
            "1. ",
            "> ",
            "  ",
            "    ",
            "\n",
            "\n\n",
            "\\",
            "\t",
        ),
        *("word", "a b", "é", "字", "\U0001f600", "0", "---", "<", ">", "&"),
    ]
    rng = random.Random(0)
    texts = ["".join(rng.choices(pieces, k=rng.randint(1, 24))) for _ in range(3000)]
    assert page.evaluate(CHECK, texts) == []


def test_hostile_texts_end(page):
    texts = [
        sign * 20_000
        for sign in ("*", "**a", "_a", "`", "[", "[a](", "> ", "- ", "(", "\\", "```\n", "https://", "1. \n", "*a _b ")
    ]
    assert page.evaluate(CHECK, texts) == []


def test_html_in_an_answer_and_a_question_is_shown_as_text(chat):
    hostile = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    chat.reply(hostile[:20], hostile[20:], "\n\n**bold**")
    chat.ask(hostile)
    assert chat.page.locator(".user .text").inner_text() == hostile
    assert chat.page.locator(".assistant .text p").first.inner_text() == hostile
    expect(chat.page.locator(".assistant strong")).to_have_text("bold")
    assert chat.page.locator("#exchanges :is(script, img, iframe)").count() == 0 and chat.page.title() == "MM1 chat"
