"""Splits a line of shell into its simple commands, as far as telling mechanical ones needs. Pure.

No shell: what it does not understand it gives up on, and the line then counts as not mechanical.
"""

from __future__ import annotations

import re

from runner.frozen import frozen

LONGEST = 20_000
"""Characters of a command that are looked at; a longer one is no plain command."""
_DEEPEST = 20
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_REDIRECT = re.compile(r"(?:\d*|&)>>?\|?(?:&[\d-]|[ \t]*)|\d*<(?!<)[ \t]*|<<<[ \t]*")
_OPERATOR = re.compile(r"&&|\|\||\|&|[;&|\n]")


class NotUnderstoodError(ValueError):
    """Raised for a line that this does not read; says nothing of the line."""


@frozen
class Simple:
    """One simple command."""

    words: tuple[str, ...]
    after: str
    """The operator before it: empty, `&&`, `||`, `;`, `|`, `|&` or a newline."""
    targets: tuple[str, ...]
    """Files that it writes by redirection, `/dev/null` left out."""


def split(line: str) -> tuple[Simple, ...]:
    """Return the simple commands of a line of shell.

    Raises:
        NotUnderstoodError: Too long, a quote without its end, a group, a function, something that
            is left running in the background.
    """
    if len(line) > LONGEST:
        raise NotUnderstoodError
    return _Splitter(line).run()


class _Splitter:
    """Walks over one line, once."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.at = 0
        self.word: list[str] | None = None
        self.words: list[str] = []
        self.targets: list[str] = []
        self.redirected = False
        self.after = ""
        self.heredocs: list[str] = []
        self.done: list[Simple] = []

    def run(self) -> tuple[Simple, ...]:
        while self.at < len(self.line):
            self._step(self.line[self.at])
        self._end_command("")
        return tuple(self.done)

    def _step(self, char: str) -> None:
        if char in " \t\r":
            self._end_word()
            self.at += 1
        elif char in "'\"\\$`":
            self._add(self._quoted(char))
        elif found := _HEREDOC.match(self.line, self.at):
            self._end_word()
            self.heredocs.append(found.group(2))
            self.at = found.end()
        elif char in "<>&0123456789" and self._redirect():
            return
        elif found := _OPERATOR.match(self.line, self.at):
            self._operator(found.group())
        elif char == "#" and self.word is None:
            self.at = self._line_end()
        elif char in "()":
            raise NotUnderstoodError
        else:
            self._add(char)
            self.at += 1

    def _redirect(self) -> bool:
        if self.line[self.at].isdigit() and self.word is not None:
            return False  # the digit of a word
        found = _REDIRECT.match(self.line, self.at)
        if found is None:
            return False
        self._end_word()
        text = found.group()
        self.at = found.end()
        # What follows names a file; behind `2>&1` nothing does.
        self.redirected = text[-1] not in "0123456789-"
        if self.redirected and "<" in text:
            self._skip_name()
        return True

    def _skip_name(self) -> None:
        """Leave out the name of a file that is read."""
        self._end_target()

    def _end_target(self) -> None:
        kept = len(self.targets)
        while self.at < len(self.line) and self.line[self.at] not in " \t\r\n;&|<>()":
            self._step(self.line[self.at])
        self._end_word()
        del self.targets[kept:]

    def _operator(self, operator: str) -> None:
        if operator == "&":
            raise NotUnderstoodError
        self.at += len(operator)
        self._end_command(operator)
        if operator == "\n" and self.heredocs:
            self._skip_heredocs()

    def _skip_heredocs(self) -> None:
        for name in self.heredocs:
            while self.at < len(self.line):
                end = self._line_end()
                text = self.line[self.at : end]
                self.at = end + 1
                if text.strip() == name:
                    break
        self.heredocs = []
        self.at = min(self.at, len(self.line))

    def _line_end(self) -> int:
        end = self.line.find("\n", self.at)
        return len(self.line) if end < 0 else end

    def _quoted(self, char: str) -> str:
        """Return what a quotation stands for, and go behind it."""
        if char == "\\":
            text = self.line[self.at + 1 : self.at + 2]
            self.at = min(self.at + 2, len(self.line))
            return "" if text == "\n" else text
        start = self.at
        self.at = skip_quoted(self.line, start, 0)
        inner = self.line[start + 1 : self.at - 1]
        return inner if char in "'\"" else "$()" if self.at > start + 1 else "$"

    def _add(self, text: str) -> None:
        self.word = [text] if self.word is None else [*self.word, text]

    def _end_word(self) -> None:
        if self.word is None:
            return
        word = "".join(self.word)
        self.word = None
        if not self.redirected:
            self.words.append(word)
        elif word != "/dev/null":
            self.targets.append(word)
        self.redirected = False

    def _end_command(self, operator: str) -> None:
        self._end_word()
        if self.words or self.targets:
            self.done.append(Simple(tuple(self.words), self.after, tuple(self.targets)))
            self.after = operator
        elif operator != "\n":
            self.after = operator  # an empty line joins nothing
        self.words, self.targets, self.redirected = [], [], False


def skip_quoted(line: str, at: int, depth: int) -> int:
    """Return where a quotation or substitution that begins at `at` is over.

    Raises:
        NotUnderstoodError: It has no end, or too many are inside each other.
    """
    if depth > _DEEPEST:
        raise NotUnderstoodError
    char = line[at]
    if char == "'" or char == "`":
        end = line.find(char, at + 1)
        if end < 0:
            raise NotUnderstoodError
        return end + 1
    if char == '"':
        return _skip_double(line, at + 1, depth)
    if line.startswith("$(", at):
        return _skip_substitution(line, at + 2, depth)
    if line.startswith("$'", at):
        return _skip_ansi(line, at + 2)
    return at + 1


def _skip_double(line: str, at: int, depth: int) -> int:
    while at < len(line):
        if line[at] == '"':
            return at + 1
        if line[at] == "\\":
            at += 2
        elif line.startswith("$(", at) or line[at] == "`":
            at = skip_quoted(line, at, depth + 1)
        else:
            at += 1
    raise NotUnderstoodError


def _skip_ansi(line: str, at: int) -> int:
    while at < len(line):
        if line[at] == "'":
            return at + 1
        at += 2 if line[at] == "\\" else 1
    raise NotUnderstoodError


def _skip_substitution(line: str, at: int, depth: int) -> int:
    heredocs: list[str] = []
    while at < len(line):
        char = line[at]
        if char == ")":
            return at + 1
        if found := _HEREDOC.match(line, at):
            heredocs.append(found.group(2))
            at = found.end()
        elif char == "\n" and heredocs:
            at = _behind(line, at + 1, heredocs.pop(0))
        elif char == "\\":
            at += 2
        elif char in "'\"$`":
            at = skip_quoted(line, at, depth + 1)
        elif char == "(":
            at = _skip_substitution(line, at + 1, depth + 1)
        else:
            at += 1
    raise NotUnderstoodError


def _behind(line: str, at: int, name: str) -> int:
    """Return where the text up to a line that is `name` is over; its newline is left."""
    while at < len(line):
        end = line.find("\n", at)
        end = len(line) if end < 0 else end
        if line[at:end].strip() == name:
            return end
        at = end + 1
    raise NotUnderstoodError
