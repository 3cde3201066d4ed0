"""A processor whose every TCP connection is written down, by the interpreter's own audit hook (PEP 578)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.chaos.world import RoleProcess, World

_LOG = "CHAOS_CONNECTIONS"
_MAIN = "import sys, tests.chaos.watched as watched; watched.start(); from main import main; sys.exit(main())"


def processor(world: World) -> RoleProcess:
    """Start one."""
    log = {_LOG: str(_log(world))}
    return world.start("processor", sys.executable, "-c", _MAIN, "processor", **log)


def connections(world: World) -> set[tuple[str, int]]:
    """The hosts and ports that it has tried to connect to."""
    lines = {tuple(line.split()) for line in _log(world).read_text().splitlines()}
    return {(host, int(port)) for host, port in lines}


def _log(world: World) -> Path:
    return world.folder / "connections"


def start() -> None:
    """Write every address down before it is connected to, from now on in this process."""
    log = os.open(os.environ[_LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def noted(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(address := arguments[1], tuple):
            os.write(log, f"{address[0]} {address[1]}\n".encode())

    sys.addaudithook(noted)
