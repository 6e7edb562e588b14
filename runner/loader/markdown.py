"""Splits an agent's file into front matter and instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runner.loader.document import Mapping, decode, read_document
from runner.loader.problems import Problems, Spot

if TYPE_CHECKING:
    from runner.loader.document import Node


class Page(NamedTuple):
    """An agent's file, split."""

    front: Node
    body: str
    problems: Problems


def read_page(data: bytes, file: str) -> Page:
    """Return the front matter, between two lines `---`, and the text after it.

    Raises:
        WorkflowErrors: There is no front matter, or it is not YAML.
    """
    text, problems = decode(data, file)
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != "---":
        hint = "An agent's file begins with `---`, `name:`, `description:` and `---`."
        problems.add("there is no front matter", Spot(1, 1), hint=hint)
        problems.raise_if_any()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), 0)
    if not end:
        problems.add("the front matter does not end", Spot(1, 1), hint="End it by a line `---`.")
        problems.raise_if_any()
    front = read_document("\n".join(lines[1:end]), problems, first_line=2)
    return Page(front or Mapping({}, 1, 1), "\n".join(lines[end + 1 :]).strip(), problems)
