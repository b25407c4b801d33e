"""The texts and images of a prompt, and the digests of images. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from mm1.generation.images import bytes_of
from mm1.generation.prompt import AnyPrompt, Image, Message, Request


class ImageDigests:
    """Digests of images, computed once per image."""

    def __init__(self) -> None:
        self._known: dict[Image, str] = {}

    def __call__(self, image: Image) -> str:
        """Return the SHA-256 of the encoded image."""
        if image not in self._known:
            self._known[image] = hashlib.sha256(bytes_of(image)).hexdigest()
        return self._known[image]

    @property
    def images(self) -> dict[str, Image]:
        """The images by their digests."""
        return {digest: image for image, digest in self._known.items()}


def segments(request: AnyPrompt) -> Iterator[str | Image]:
    """Return the segments of a prompt in order; the turns of a conversation are separated by their roles."""
    if isinstance(request, Request):
        yield from request.segments
        return
    messages: tuple[Message, ...] = (*request.prefix, *request.messages)
    for number, message in enumerate(messages):
        yield f"{'' if number == 0 else chr(10)}{message.role}: "
        yield from message.content
