"""Illustrated pages: the text and the images of HTML files in reading order."""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_PARAGRAPHS = {"p", "div", "li", "dt", "dd", "tr", "td", "th", "pre", "table", "ul", "ol", "dl", "blockquote", "hr"}
_PARAGRAPHS |= {"h1", "h2", "h3", "h4", "h5", "h6"}
_NAVIGATION = {"navheader", "navfooter", "docnav", "toc", "list-of-figures", "list-of-tables", "index", "banner", "title"}
"""Classes and identifiers of what is not the page's own text; ``title`` only as an identifier."""


class Page(NamedTuple):
    """A page: two parallel lists in which one of the two is None at each position, as in OBELICS."""

    name: str
    """Name of its file."""
    title: str
    images: list[str | None]
    """Names of image files, relative to the page's folder."""
    texts: list[str | None]
    """The paragraphs before, between and after the images, separated by blank lines."""


def pages(folder: Path, counts: Counter[str]) -> Iterator[Page]:
    """Read the pages of a folder, by name.

    Page headers, page footers and tables of contents are left out. So are alternative texts, which readers of the page do not
    see, and images without a file, which are counted.
    """
    for path in sorted(folder.glob("*.html")):
        tree = ET.parse(path).getroot()
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
        page = Page(path.name, " ".join((tree.findtext("head/title") or "").split()), [], [])
        body = tree.find("body")
        pieces = [] if body is None else list(_pieces(body))
        available = [piece for piece in pieces if isinstance(piece, str) or (folder / _name(piece)).is_file()]
        counts["images without a file"] += len(pieces) - len(available)
        for node in _nodes(available):
            page.images.append(None if isinstance(node, str) else _name(node))
            page.texts.append(node if isinstance(node, str) else None)
        counts["pages read"] += 1
        yield page


def _name(image: ET.Element) -> str:
    return posixpath.normpath(image.get("src", ""))


def _pieces(element: ET.Element, preformatted: bool = False) -> Iterator[str | ET.Element]:
    """Yield the texts and the image elements below an element, with blank lines around paragraphs."""
    if _is_navigation(element):
        return
    preformatted = preformatted or element.tag == "pre"
    space = "\n\n" if element.tag in _PARAGRAPHS else ""
    if element.tag == "img":
        yield element
    yield "\n" if element.tag == "br" else space
    yield _text(element.text, preformatted)
    for child in element:
        yield from _pieces(child, preformatted)
        yield _text(child.tail, preformatted)
    yield space


def _is_navigation(element: ET.Element) -> bool:
    classes = set(element.get("class", "").split()) - {"title"}
    return bool(_NAVIGATION & {*classes, element.get("id", "")})


def _text(text: str | None, preformatted: bool) -> str:
    """Collapse white space, except in preformatted text, whose spaces do not break until all texts are joined."""
    return (text or "").replace(" ", "\xa0") if preformatted else re.sub(r"\s+", " ", text or "")


def _nodes(pieces: Iterable[str | ET.Element]) -> Iterator[str | ET.Element]:
    """Join the texts between two images."""
    texts: list[str] = []
    for piece in [*pieces, None]:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        text = re.sub(r" *\n *\n[ \n]*", "\n\n", re.sub(r" +", " ", "".join(texts)))
        if text := text.replace("\xa0", " ").strip():
            yield text
        texts = []
        if piece is not None:
            yield piece
