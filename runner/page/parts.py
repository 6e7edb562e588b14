"""Builds what sections are made of: tables, lists of facts, long things to open. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.page.html import Html, el, join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.console.style import Line
    from runner.page.html import Child


def section(anchor: str, title: str, *children: Child) -> Html:
    """Build a section with its heading."""
    name = f"{anchor}-title"
    return el("section", el("h2", title, id=name), *children, id=anchor, aria_labelledby=name)


def details(summary: Child, *children: Child, open_: bool = False) -> Html:
    """Build something long that is opened by those who want it."""
    return el("details", el("summary", summary), *children, open=open_)


def table(
    caption: str, titles: Sequence[str], rows: Sequence[Sequence[Child]], *, aligned: str
) -> Html:
    """Build a table that scrolls by itself where it is too wide; the first cell names the row.

    Args:
        caption: What it is, for those who do not see it.
        titles: A word for each column.
        rows: Their cells.
        aligned: `<` or `>` for each column.
    """
    sides = ["num" if how == ">" else None for how in aligned]
    head = [
        el("th", title, scope="col", class_=side) for title, side in zip(titles, sides, strict=True)
    ]
    body = [
        el(
            "tr",
            el("th", row[0], scope="row", class_=sides[0]),
            [el("td", cell, class_=side) for cell, side in zip(row[1:], sides[1:], strict=True)],
        )
        for row in rows
    ]
    made = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", head)),
        el("tbody", body),
    )
    return el("div", made, class_="scroll", tabindex=0, role="group", aria_label=caption)


def facts(pairs: Mapping[str, Child]) -> Html:
    """Build a list of facts by name; those without anything are left out."""
    return el(
        "dl",
        [el("div", el("dt", name), el("dd", what)) for name, what in pairs.items() if what],
        class_="facts",
    )


def lines(told: Sequence[Line]) -> Html:
    """Build what the terminal's lines say, in the styles that they have there."""
    return join(
        [
            el("div", [el("span", part.text, class_=part.style or None) for part in line])
            for line in told
        ]
    )


def output(text: str) -> Html:
    """Build a text as a program wrote it."""
    # The newline that HTML drops at the start of `pre` is not one of the text's.
    return el("pre", "\n", text)


def quiet(text: Child) -> Html:
    """Build a remark."""
    return el("p", text, class_="quiet")
