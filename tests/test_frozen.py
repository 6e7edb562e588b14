"""Nouns declared by `frozen` behave as frozen dataclasses with slots do."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from runner.frozen import frozen


@frozen
class Ours:
    """A noun."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: str = field(default="secret", repr=False)


@dataclass(frozen=True, slots=True)
class Theirs:
    """The same by the standard library."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: str = field(default="secret", repr=False)


@frozen(kw_only=True)
class Keyed:
    """Given by keywords only, with a word of its own for people."""

    a: int
    b: int = 2

    def __repr__(self) -> str:
        return "keyed"


@pytest.mark.parametrize("cls", [Ours, Theirs])
def test_it_is_a_frozen_dataclass_with_slots(cls: Any) -> None:
    one = cls(1, c=[3])
    assert (one.a, one.b, one.c, one.d) == (1, "b", [3], "secret")
    assert repr(one) == f"{cls.__name__}(a=1, b='b', c=[3])"
    assert one == cls(1, c=[3])
    assert one != cls(2, c=[3])
    assert replace(one, a=2) == cls(2, c=[3])
    assert [entry.name for entry in fields(one)] == ["a", "b", "c", "d"]
    assert cls(1).c is not cls(1).c
    assert not hasattr(one, "__dict__")
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same == one
    assert cls.__match_args__ == ("a", "b", "c", "d")
    with pytest.raises(FrozenInstanceError):
        one.a = 2
    with pytest.raises(FrozenInstanceError):
        del one.a
    with pytest.raises((AttributeError, TypeError)):  # the standard one: python/cpython#90562
        one.other = 2
    with pytest.raises(TypeError, match="missing 1 required"):
        cls()
    assert is_dataclass(one)


def test_equality_is_within_one_class_and_hashes_agree() -> None:
    assert Ours(1) != Theirs(1)
    assert Keyed(a=1) == Keyed(a=1, b=2)
    assert len({Keyed(a=1), Keyed(a=1, b=2), Keyed(a=2)}) == 2


def test_keywords_only_and_methods_of_its_own() -> None:
    assert repr(Keyed(a=1)) == "keyed"
    with pytest.raises(TypeError):
        Keyed(1)  # type: ignore[misc]
