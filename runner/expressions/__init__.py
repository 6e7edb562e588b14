"""Decides what `if`, `accept` and `${{ }}` mean: a small total language, checked before a run.

    or       = and ("or" and)*
    and      = not ("and" not)*
    not      = "not" not | compare
    compare  = primary (("==" | "!=" | "<" | "<=" | ">" | ">=" | ["not"] "in") primary)?
    primary  = "text" | 'text' | 12 | 1.5 | true | false | dotted.name | git.changed("glob")
             | "(" or ")"

It reads like Python, but names may hold hyphens (`steps.type-check.status`); no arithmetic.
A parser of its own, not `ast`: that one takes a hyphen for a minus, warns about foreign text, and
has limits of its own that it reports in several ways.
"""

from __future__ import annotations

from runner.expressions.checking import check, unknown_name
from runner.expressions.parts import ExpressionError, Value
from runner.expressions.reading import paths
from runner.expressions.templates import as_text, render, template_paths
from runner.expressions.values import evaluate

__all__ = [
    "ExpressionError",
    "Value",
    "as_text",
    "check",
    "evaluate",
    "paths",
    "render",
    "template_paths",
    "unknown_name",
]
