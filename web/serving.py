"""Serving the application: in the foreground until told to stop, or in a thread."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn

import logs
from errors import ConfigurationError
from job_system import celery_app
from job_system.letters import Publish
from job_system.publish import publish_records
from job_system.watching import AskParts
from settings import Settings, Web
from web.app import application

log = logs.get(__name__)

#: Requests at once; more are answered 503.
MOST_AT_ONCE = 200
#: Seconds for which a connection that says nothing is kept, and for which a stop waits for answers.
IDLE_SECONDS = 20
STOP_SECONDS = 3


class _Server(uvicorn.Server):
    """uvicorn's server; whoever runs it handles the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield


def _server(settings: Settings, parts: AskParts, publish: Publish | None) -> _Server:
    return _Server(
        uvicorn.Config(
            application(settings, parts, publish or partial(publish_records, celery_app)),
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_AT_ONCE,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )


def _listen(section: Web) -> socket.socket:
    family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
    try:
        return socket.create_server((section.host.strip("[]"), section.port), family=family, backlog=128)
    except OSError as error:
        raise ConfigurationError(
            f"the page cannot listen on {section.host}:{section.port} ({error.strerror or error}). Set"
            " WEAVLOADER_WEB_PORT to a free port (WEAVLOADER_WEB_HOST is the address)."
        ) from None


def serve(settings: Settings, parts: AskParts) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises ``ConfigurationError`` when the port is taken, or when everybody beyond this host could read.
    """
    server = _server(settings, parts, None)
    with _listen(settings.web) as listener:

        async def run() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, _stop, server)
            log.info(
                "the page is served", address=f"http://{settings.web.host}:{settings.web.port}{settings.web.base}/"
            )
            await server.serve(sockets=[listener])

        asyncio.run(run())


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


@contextmanager
def serving(settings: Settings, parts: AskParts, publish: Publish | None = None) -> Iterator[str]:
    """The page while the block runs, in a thread; gives its address (``http://host:port``). Raises as ``serve``."""
    server = _server(settings, parts, publish)
    listener = _listen(settings.web)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="web", daemon=True)
    thread.start()
    host = settings.web.host
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    finally:
        _stop(server)
        thread.join()
        with suppress(OSError):
            listener.close()
