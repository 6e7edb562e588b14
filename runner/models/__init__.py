"""Opens models for agents: priced, budgeted, checked and recorded at every single request.

Light on purpose: a run that asks no model never imports a model library; the first `open` does.
"""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.frozen import frozen
from runner.models.choice import SCRIPT, is_scripted, split
from runner.recalled import last_number, played

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    import httpx2
    from pydantic_ai.models import Model

    from runner.cache import CacheRules
    from runner.events import Event, Sink
    from runner.models.metered import MeteredModel
    from runner.models.scripted import Player
    from runner.models.transport import RequestLimits, Tape
    from runner.money import Purse
    from runner.outcome import Ending
    from runner.plan import CacheOverride, Price, Provider

WINDOW = 200_000
"""Tokens of a context window where nobody says."""
DECLARED_WINDOW = 128_000
"""The same for a server that the user declared."""
_OPENAI = re.compile(r"https://([a-z0-9-]+\.)*openai\.com(?=[/:]|$)", re.IGNORECASE)


@frozen
class Asking:
    """On whose behalf the next request of an open model is made; asked anew before each request."""

    step: str
    attempt: int
    purse: Purse | None = None
    """Pays for the request: a step's purse, part of the run's. `None` is the run's itself."""


class Models:
    """All models of one run: one connection pool, one retry layer, one purse.

        async with Models(purse=purse, emit=emit, providers=config.providers) as models:
            model = models.open("cheap", "anthropic:claude-haiku-5-5", conversation="s1",
                                asking=lambda: Asking("lint", 1, step_purse), cache_key="fixer")
            result = await Agent(model, ...).run(brief)  # an error: error_ending(error)

    Each request of an opened model reserves its worst case, is sent (tried again where that can
    help), settles, is recorded by a `ModelResponded`, is checked for the model that served it, and
    only then hands its response to the agent.

    Args:
        purse: The run's purse, named `run`.
        emit: Hears `ModelResponded`, `ModelRetried` and `Notice`; its errors end the request.
        providers: OpenAI-compatible servers that the user declared.
        environ: Keys and base URLs; by default this process's environment.
        root: Where a relative `script:FILE` is looked up; by default the working directory.
        prices: The user's own, by model id or `provider:*`, before the bundled table.
        caches: What the user knows of prompt caches, by model id or `provider:*`.
        strict_prefix: Refuse a main request that does not extend the one before.
        limits: Times and tries of a request.
        tape: Records what passes the wire, or answers in the network's place.
        said: What was asked and answered in earlier lives of the run (`Recorded.said`): requests
            are numbered on, and scripts go on where they were.
        waits: Until when providers asked an earlier life not to be asked, by model id.
    """

    def __init__(
        self,
        *,
        purse: Purse,
        emit: Sink,
        providers: Mapping[str, Provider] | None = None,
        environ: Mapping[str, str] | None = None,
        root: Path | None = None,
        prices: Mapping[str, Price] | None = None,
        caches: Mapping[str, CacheOverride] | None = None,
        strict_prefix: bool = False,
        limits: RequestLimits | None = None,
        tape: Tape | None = None,
        said: Sequence[Event] = (),
        waits: Mapping[str, float] | None = None,
    ) -> None:
        self._purse = purse
        self._emit = emit
        self._providers = dict(providers or {})
        self._environ = dict(os.environ if environ is None else environ)
        self._root = root or Path()
        self._prices = dict(prices or {})
        self._caches = dict(caches or {})
        self._strict = strict_prefix
        self._limits = limits
        self._tape = tape
        self._client: httpx2.AsyncClient | None = None
        self._players: dict[Path, Player] = {}
        self._said = said
        self._waits = dict(waits or {})
        self._numbers = count(1 + last_number(said))

    def open(
        self,
        role: str,
        model_id: str,
        *,
        conversation: str,
        asking: Callable[[], Asking],
        cache_key: str = "",
        main: bool = False,
    ) -> MeteredModel:
        """Open a model for one conversation: one subagent's run, or one main conversation.

        Args:
            role: Model role, for the ledger.
            model_id: `provider:model`, `NAME:model` of a declared server, or `script:FILE`.
            conversation: Its id, as recorded.
            asking: Step, attempt and purse of the next request.
            main: Whether this is the main conversation: its requests must extend each other, and
                may draw on what is kept back.
            cache_key: Names the fixed part to vendors that route by a key (OpenAI): the agent's
                name, or the conversation.

        Raises:
            UsageError: An unknown provider, or a bad script file (with `file:line:column`).
            ProviderError: The provider's key, or its extra, is missing.
        """
        from runner.models.exchange import Terms  # noqa: PLC0415  start-up: money and prices
        from runner.models.metered import MeteredModel  # noqa: PLC0415  start-up: model library

        if is_scripted(model_id):
            player = self._player(model_id)
            model, wired = self._scripted(player, role, conversation, asking), False
        else:
            model, wired = self._vendor(model_id, cache_key)
        terms = Terms(
            role=role,
            model_id=model_id,
            priced_as=self.priced_as(model_id),
            conversation=conversation,
            wired=wired,
            scripted=is_scripted(model_id),
            prices=self._prices,
            rules=self.cache_rules(model_id),
            main=main,
            strict=self._strict,
            cache_key=cache_key,
            numbers=self._numbers,
            day=self._tape.day if self._tape else None,
        )
        opened = MeteredModel(model, terms, asking=asking, purse=self._purse, emit=self._emit)
        opened.rest_until(self._waits.get(model_id, 0.0))
        return opened

    @property
    def closed(self) -> bool:
        """Whether nothing more is asked: a provider billed more than is possible."""
        return self._purse.disputed

    def priced_as(self, model_id: str) -> str | None:
        """Tell the id whose prices hold; `None` costs nothing: a script that names no model."""
        if is_scripted(model_id):
            return self._player(model_id).script.priced_as
        from runner.price import UNLISTED, own_price  # noqa: PLC0415  start-up: runs without models

        if own_price(model_id, self._prices) is None and self._elsewhere(model_id):
            return f"{UNLISTED}:{model_id}"
        return model_id

    def _elsewhere(self, model_id: str) -> bool:
        """Whether somebody else answers than the vendor whose prices the table has."""
        provider = split(model_id)[0]
        if provider in self._providers:
            return True
        # Every server of one's own speaks it; other vendors' protocols lead to the vendor at last.
        base_url = self._environ.get("OPENAI_BASE_URL") if provider == "openai-chat" else None
        return bool(base_url) and _OPENAI.match(base_url) is None

    def cache_rules(self, model_id: str) -> CacheRules | None:
        """Tell what is known of a model's prompt cache; `None` for a script's too."""
        from runner.cache import rules_of  # noqa: PLC0415  start-up: its patterns

        return None if is_scripted(model_id) else rules_of(model_id, self._caches)

    def window(self, model_id: str) -> int:
        """Tell the tokens of a model's context window, or what is assumed where nobody says."""
        from runner import price  # noqa: PLC0415  start-up: the price table

        if is_scripted(model_id):
            priced_as = self.priced_as(model_id)
            return (priced_as and price.window(priced_as)) or WINDOW
        if split(model_id)[0] in self._providers:
            return DECLARED_WINDOW
        return price.window(model_id) or WINDOW

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _vendor(self, model_id: str, cache_key: str) -> tuple[Model, bool]:
        from runner.models import transport, vendors  # noqa: PLC0415  start-up: vendors' clients

        limits = self._limits or transport.RequestLimits()
        if self._client is None:
            self._client = transport.shared_client(limits, self._tape)
        wiring = vendors.Wiring(self._client, limits, self._environ, self._providers)
        opened = vendors.open_vendor(model_id, wiring, cache_key=cache_key)
        if self._tape is not None and not opened.wired:
            raise UsageError(
                f"`{model_id}` can be neither recorded nor replayed: its client has a connection "
                "of its own",
                hint="Choose another model for this run: --model ROLE=ID.",
            )
        return opened.model, opened.wired

    def _scripted(
        self, player: Player, role: str, conversation: str, asking: Callable[[], Asking]
    ) -> Model:
        from runner.models.scripted import ScriptedModel, Speaker  # noqa: PLC0415  start-up

        def speaker() -> Speaker:
            now = asking()
            return Speaker(role, now.step, now.attempt, conversation)

        return ScriptedModel(player, speaker)

    def _player(self, model_id: str) -> Player:
        """Uses of a rule are counted over all conversations with one file."""
        from runner.models.scripted import Player  # noqa: PLC0415  start-up: model library
        from runner.models.scriptfile import load_script  # noqa: PLC0415  start-up

        path = self._root / model_id.removeprefix(f"{SCRIPT}:")
        if path not in self._players:
            player = self._players[path] = Player(load_script(path))
            for asked in played(self._said):
                if self._root / asked.model.removeprefix(f"{SCRIPT}:") == path:
                    player.take_up(asked)
        return self._players[path]


def error_ending(error: BaseException) -> Ending | None:
    """Tell how a model's work ended from the type of the error that ended it.

    Never looks at its text. `None` is for cancellation and for defects of this program: raise those
    again. An exception group counts when all that it holds counts.
    """
    from runner.models.failures import ending_of  # noqa: PLC0415  start-up: model library

    return ending_of(error)
