"""Makes texts fit to be kept and compared: secrets masked, the run's own names replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.cassette.places import Places, texts
from runner.engine.state import all_steps
from runner.models.choice import KEYS
from runner.plan import Push
from runner.workspace.environment import secret_values
from runner.workspace.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.prepare import Prepared


class Names:
    """The secrets and the own names of one run."""

    def __init__(self, prepared: Prepared, run_id: str) -> None:
        self._mask = Mask(_secrets(prepared))
        run_dir = prepared.state / "runs" / run_id
        self._places = Places(run_id=run_id, root=prepared.root, run_dir=run_dir)
        steps = list(all_steps(prepared.steps))
        self.steps = tuple(shown for shown, _, _ in steps)
        """Shown ids of all steps, in order."""
        self.pushes = frozenset(shown for shown, step, _ in steps if isinstance(step.kind, Push))

    def text(self, text: str) -> str:
        """Mask a text and replace names."""
        return self._places.out(self._mask.text(text))

    def json(self, value: Any) -> Any:
        """Do so with all texts in a JSON value."""
        return texts(value, self.text)

    def back(self, value: Any) -> Any:
        """Put this run's names into a JSON value that another run kept."""
        return texts(value, self._places.back)


def _secrets(prepared: Prepared) -> Iterator[str]:
    """Yield all values that must never be in a file: granted, keys, and what looks like them."""
    environ = prepared.environ
    yield from prepared.secrets.values()
    declared = (*prepared.config.providers.values(), *prepared.options.providers.values())
    keys = {name for names in KEYS.values() for name in names if not name.endswith("_URL")}
    keys |= {one.key_env for one in declared if one.key_env is not None}
    yield from (environ[name] for name in sorted(keys) if name in environ)
    yield from secret_values(environ)
