"""Declares frozen nouns: `@dataclass(frozen=True, slots=True)` at a tenth of its price.

The standard decorator compiles six functions for each class, 0.6 ms in all: with a hundred nouns
that is a third of the program's start. Here `__init__` is compiled when the first one is made, for
a run makes but a few of them, and all classes share the others. `fields`, `replace`,
`is_dataclass` and `match` work as with any dataclass.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform, overload

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@overload
def frozen(cls: type[T], /) -> type[T]: ...
@overload
def frozen(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, /, *, kw_only: bool = False) -> Any:
    """Make a class a frozen dataclass with slots; methods of its own stay."""

    def declare(cls: type[T]) -> type[T]:
        shared = {name: method for name, method in _SHARED.items() if name not in cls.__dict__}
        made = dataclass(cls, init=False, repr=False, eq=False, slots=True, kw_only=kw_only)
        if "__init__" not in cls.__dict__:
            shared["__init__"] = _init_later(made)
        for name, method in shared.items():
            setattr(made, name, method)
        return made

    return declare if cls is None else declare(cls)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, entry.name) for entry in fields(self))


def _init_later(cls: Any) -> Callable[..., None]:
    """Return an `__init__` that is replaced by a compiled one when it is first called."""

    def __init__(self: Any, *args: Any, **given: Any) -> None:  # noqa: N807  it is one
        cls.__init__ = _compiled_init(cls)
        cls.__init__(self, *args, **given)

    return __init__


def _compiled_init(cls: Any) -> Callable[..., None]:
    scope: dict[str, Any] = {"_put": object.__setattr__, "_MISSING": MISSING}
    positional: list[str] = []
    by_name: list[str] = []
    body: list[str] = []
    for entry in fields(cls):
        name, default, value = entry.name, "", entry.name
        if entry.default is not MISSING:
            scope[f"_default_{name}"] = entry.default
            default = f"=_default_{name}"
        elif entry.default_factory is not MISSING:
            scope[f"_make_{name}"] = entry.default_factory
            default, value = "=_MISSING", f"_make_{name}() if {name} is _MISSING else {name}"
        (by_name if entry.kw_only else positional).append(f"{name}{default}")
        body.append(f"    _put(self, {name!r}, {value})\n")
    parameters = ", ".join(["self", *positional, *(["*", *by_name] if by_name else [])])
    exec(f"def __init__({parameters}):\n{''.join(body) or '    pass'}", scope)  # noqa: S102  as the standard decorator does: only names of fields get in
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _never_set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _never_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _equal(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    names = self.__dataclass_fields__
    return all(getattr(self, name) == getattr(other, name) for name in names)


def _hash(self: Any) -> int:
    return hash(_values(self))


@recursive_repr()
def _shown(self: Any) -> str:
    pairs = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(pairs)})"


def _filled(self: Any, state: tuple[Any, ...]) -> None:
    """Fill the copy that `copy` and `pickle` make without `__init__`."""
    for entry, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, entry.name, value)


_SHARED: dict[str, Callable[..., Any]] = {
    "__setattr__": _never_set,
    "__delattr__": _never_delete,
    "__eq__": _equal,
    "__hash__": _hash,
    "__repr__": _shown,
    "__getstate__": _values,
    "__setstate__": _filled,
}
