"""Makes a request without sending it, to see whether it is the one that an earlier life sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai.messages import InstructionPart

from runner.errors import RunnerError
from runner.models.exchange import api_of
from runner.prefix import digest_of, model_in, prefix_of_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from pydantic_ai.models import ModelRequestParameters

    from runner.prefix import Prefix


class RecalledError(RunnerError):
    """Raised in place of an answer by a model that was told to recall its conversation.

    Attributes:
        differs: How what it would send differs from what was sent; empty when it does not.
    """

    def __init__(self, differs: str) -> None:
        super().__init__(differs or "recalled")
        self.differs = differs


class NotSentError(RunnerError):
    """Raised inside a vendor's client once its request is made."""


class Rehearsal:
    """A transport's gate that lets nothing pass, and keeps what would have been sent."""

    def __init__(self) -> None:
        self._path, self._body = "", b""
        self.fields: Mapping[str, Any] = {}

    async def before(self, path: str, body: bytes) -> None:
        """Keep a request, and keep it from being sent."""
        self.made(path, body)
        raise NotSentError("nothing is sent: it is only looked at")

    def made(self, path: str, body: bytes) -> None:
        """Keep a request."""
        self._path, self._body = path, body

    def refused(self) -> None:
        """Nothing was sent."""

    def lost(self) -> None:
        """Nothing was sent."""

    def waiting(self, why: str, seconds: float) -> None:
        """Nothing was sent."""

    async def of(self, request: Awaitable[object]) -> None:
        """Let a vendor's client make a request; it ends in an error of its own."""
        try:
            await request
        except Exception:
            # Clients wrap what the gate raises; another error is one only if nothing was made.
            if not self._body:
                raise

    def prefix(self) -> Prefix | None:
        """Return the request as a cache sees it; `None` when none was made."""
        api = api_of(self._path)
        if api is None or not self._body:
            return None
        self.fields = cast("Mapping[str, Any]", json.loads(self._body))
        return prefix_of_json(api, self.fields, len(self._body), model=model_in(self._path))


def unlike(prefix: Prefix, digest: str) -> str:
    """Say whether a request is another than the one with a digest; empty: it is the same."""
    made = digest_of(prefix)
    if made == digest:
        return ""
    return f"its last request would be {made} now, and was {digest or 'not recorded'}"


def told_tools(parameters: ModelRequestParameters) -> str:
    """Return the tools that a model is told of, as JSON in the order of the wire."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    return json.dumps(
        [
            {"name": t.name, "description": t.description, "schema": t.parameters_json_schema}
            for t in tools
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def told_instructions(parameters: ModelRequestParameters) -> str:
    """Return the instructions that a model is given, as one text."""
    return InstructionPart.join(parameters.instruction_parts or []) or ""
