"""Builds HTML and SVG: the one door that every text of the page goes through. Pure.

A text is cleaned of control, bidi and zero-width characters and escaped; only what this module
built itself is markup. No attribute can name anything outside of the page, and none is a script.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias, Union

from runner.frozen import frozen
from runner.text import clean

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*\Z")
_VOID = frozenset({"meta", "br", "hr", "link"})
"""Elements without an end tag (HTML, section 13.1.2)."""
_LINKS = frozenset({"href", "src", "action", "data", "poster", "srcset", "formaction", "cite"})
_NONCHARACTERS = re.compile(
    "[\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(p + 0xFFFE)}{chr(p + 0xFFFF)}" for p in range(0x10000, 0x110000, 0x10000))
    + "]"
)
"""What no HTML may hold (HTML, section 13.2.3.5)."""


@frozen
class Html:
    """Markup, escaped already."""

    markup: str

    def __str__(self) -> str:
        return self.markup


Child: TypeAlias = Union[Html, str, int, Iterable["Child"], None]  # noqa: UP007  names itself: `|` takes no text
"""What stands within an element."""


def escape(text: str) -> str:
    """Return `text` as HTML shows it, within an element or a quoted attribute."""
    return html.escape(_NONCHARACTERS.sub("\ufffd", clean(text)), quote=True)


def el(tag: str, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """Build one element.

    Args:
        tag: Its name.
        children: Texts, which are escaped, markup, and lists of both; `None` is nothing.
        attributes: By name; `_` stands for `-`, and one at the end is dropped. `None` and `False`
            leave an attribute out, `True` writes it without a value.

    Raises:
        ValueError: A name is none, or a link leads out of the page.
    """
    if not _NAME.match(tag):
        raise ValueError(f"no name of an element: {tag[:40]!r}")
    start = "".join([tag, *(_attribute(key, value) for key, value in attributes.items())])
    if tag in _VOID:
        return Html(f"<{start}>")
    return Html(f"<{start}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Put texts and markup after each other."""
    parts: list[str] = []
    for child in children:
        match child:
            case None:
                pass
            case Html(markup):
                parts.append(markup)
            case str():
                parts.append(escape(child))
            case int():
                parts.append(str(child))
            case _:
                parts.append(join(*child).markup)
    return Html("".join(parts))


def style_sheet(css: str) -> Html:
    """Build the element of the page's own style sheet.

    Raises:
        ValueError: It would end the element.
    """
    if "<" in css:
        raise ValueError("a style sheet holds no markup")
    return Html(f"<style>{css}</style>")


def document(head: Html, body: Html) -> str:
    """Return the whole page."""
    return f'<!DOCTYPE html>\n<html lang="en">{el("head", head)}{el("body", body)}</html>\n'


def _attribute(key: str, value: str | float | bool | None) -> str:  # noqa: FBT001  an attribute's value
    name = key.rstrip("_").replace("_", "-")
    if not _NAME.match(name) or name.lower().startswith("on"):
        raise ValueError(f"no attribute of this page: {name[:40]!r}")
    if name in _LINKS and not str(value).startswith("#"):
        raise ValueError(f"a link that leads out of the page: {str(value)[:80]!r}")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{escape(str(value))}"'
