"""What a person does on the chat page, and what they see."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

ADD_FILES = """
async ([kind, files]) => {
    const data = new DataTransfer();
    for (const {name, type, base64} of files) {
        const bytes = Uint8Array.from(atob(base64), sign => sign.charCodeAt(0));
        data.items.add(new File([bytes], name, {type}));
    }
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
        : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
    document.getElementById("text").dispatchEvent(event);
}
"""
BOX = """selector => {
    const box = [...document.querySelectorAll(selector)].at(-1).getBoundingClientRect();
    return [box.top, box.bottom];
}"""


def jpeg(width: int, height: int, orientation: int = 1, colours=("red", "green", "blue", "white")) -> bytes:
    """A JPEG whose quarters have four colours (row by row), as a camera stores it with that orientation."""
    tiny = Image.new("RGB", (2, 2))
    for index, colour in enumerate(colours):
        tiny.paste(colour, (index % 2, index // 2, index % 2 + 1, index // 2 + 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    tiny.resize((width, height), Image.Resampling.NEAREST).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


class ChatPage:
    """An open page, with the bodies of its chat requests and the errors of its scripts."""

    def __init__(self, context: Any, address: str) -> None:
        self.context, self.page = context, context.new_page()
        self.errors: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._note_console(message.text))
        self.page.on("request", self._note_request)
        self.page.goto(address)
        self.page.locator("#model", has_not_text="connecting").wait_for(state="attached")

    def _note_console(self, text: str) -> None:
        if "Content Security Policy" in text or "is not defined" in text:
            self.errors.append(text)

    def _note_request(self, request: Any) -> None:
        if request.url.endswith("/v1/chat/completions"):
            self.requests.append(json.loads(request.post_data_buffer))

    # -- what a person does

    def write(self, text: str) -> None:
        self.page.locator("#text").fill(text)

    def send(self, text: str = "") -> None:
        if text:
            self.write(text)
        self.page.locator("#text").press("Enter")

    def ask(self, text: str = "") -> str:
        """Send, wait for the end of the answer, and return its text."""
        before = self.page.locator(".exchange").count()
        self.send(text)
        self.page.locator(".exchange").nth(before).wait_for()
        self.wait()
        return self.answer

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).last.click()

    def add(self, *files: tuple[str, bytes], kind: str = "drop", type: str = "image/jpeg") -> None:
        """Drop or paste files."""
        listed = [{"name": name, "type": type, "base64": base64.b64encode(data).decode()} for name, data in files]
        self.page.evaluate(ADD_FILES, [kind, listed])

    def reply(self, *texts: str, finish: str = "stop", status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer the page's requests with this text instead of the model's, until :meth:`reply_no_more`."""
        chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
        if finish:
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        kind = "text/event-stream"
        if status != 200:
            body, kind = json.dumps({"error": {"message": texts[0], "code": None}}), "application/json"
        self.page.route(
            "**/v1/chat/completions", lambda route: route.fulfill(status=status, body=body, content_type=kind, headers=headers)
        )

    def reply_no_more(self) -> None:
        self.page.unroute("**/v1/chat/completions")

    # -- what they see

    def wait(self) -> None:
        """Wait until no answer is being written."""
        self.page.locator("body:not(.running)").wait_for()

    @property
    def answer(self) -> str:
        return self.page.locator(".assistant .text").last.inner_text()

    @property
    def notice(self) -> str:
        self.page.locator("#notice").wait_for()
        return self.page.locator("#notice").inner_text()

    @property
    def text(self) -> str:
        return self.page.locator("#text").input_value()

    @property
    def images(self) -> Any:
        return self.page.locator("#chosen img")

    def box(self, selector: str) -> tuple[float, float]:
        """Top and bottom of the last match."""
        return tuple(self.page.evaluate(BOX, selector))

    def sent_images(self, request: int = -1) -> list[Image.Image]:
        """The images of a request, decoded."""
        contents = [message["content"] for message in self.requests[request]["messages"] if message["role"] == "user"]
        urls = [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]
        return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
