"""A chaos case: what is broken under a load, and what the verdict expects of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tests.chaos.cases

if TYPE_CHECKING:
    from tests.chaos.world import World

Run = Callable[["World"], None]


@dataclass(frozen=True)
class Case:
    """One case. It runs its load and breaks its thing; waiting for quiet and judging are the runner's.

    ``expects_dead`` is a number, or numbers by cause; ``most_calls`` is the most that the captioner may be asked for so
    many attempted images. ``proxied`` names the parts that the product reaches through a proxy; ``environment`` is what
    its roles get beside the world's settings. A ``long`` case runs only when it is asked for, a ``short`` one in
    ``make test`` too. ``quiet`` is the seconds within which all must be settled after the case's own end.
    """

    name: str
    run: Run
    text: str
    short: bool = False
    long: bool = False
    root: bool = False
    expects_dead: int | Mapping[str, int] = 0
    expects_skipped: int = 0
    most_calls: Callable[[int], int] | None = None
    proxied: tuple[str, ...] = ()
    quiet: float = 60
    environment: Mapping[str, str] = field(default_factory=dict)


_CASES: dict[str, Case] = {}


def case(
    name: str,
    *,
    short: bool = False,
    long: bool = False,
    root: bool = False,
    expects_dead: int | Mapping[str, int] = 0,
    expects_skipped: int = 0,
    most_calls: Callable[[int], int] | None = None,
    proxied: tuple[str, ...] = (),
    quiet: float = 60,
    **environment: str,
) -> Callable[[Run], Run]:
    """Register a function of a world as a case; its docstring's first line says what happens in it."""

    def register(run: Run) -> Run:
        assert name.isidentifier(), f"{name!r} is no one word"
        assert name not in _CASES, f"two cases are called {name}"
        assert run.__doc__, f"{name} has no docstring"
        text = run.__doc__.strip().partition("\n\n")[0].replace("\n", " ")
        _CASES[name] = Case(
            name,
            run,
            " ".join(text.split()),
            short=short,
            long=long,
            root=root,
            expects_dead=expects_dead,
            expects_skipped=expects_skipped,
            most_calls=most_calls,
            proxied=proxied,
            quiet=quiet,
            environment=environment,
        )
        return run

    return register


def cases() -> dict[str, Case]:
    """Every case by its name, in the order of the modules and of the lines in them; ``calm`` comes first."""
    for module in sorted(found.name for found in pkgutil.iter_modules(tests.chaos.cases.__path__)):
        importlib.import_module(f"tests.chaos.cases.{module}")
    return dict(sorted(_CASES.items(), key=lambda item: item[0] != "calm"))
