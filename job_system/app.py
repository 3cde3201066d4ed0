"""The Celery app. Importing it costs no Redis and no settings: those come when its configuration is first needed, and
the broker is asked for when a connection or one of ``celery``'s commands is.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import click
from celery import Celery
from celery.loaders.app import AppLoader

from errors import ConfigurationError
from job_system import transport

if TYPE_CHECKING:
    from job_system.runtime import PortsOpener, Runtime


class CommandConfigurationError(ConfigurationError, click.ClickException):
    """A ``ConfigurationError`` that ``celery`` itself (a click program) ends with: one line, and the exit code 4."""


class SettingsLoader(AppLoader):  # type: ignore[misc]
    """Reads Celery's configuration from the project's settings when it is first needed."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """The configuration, without a broker where none is known yet. Raises ``CommandConfigurationError`` where a
        setting is wrong.
        """
        return _configuration()


def _configuration(*parts: str) -> dict[str, Any]:
    from job_system.celery_config import configuration
    from settings import load, require

    try:
        return configuration(require(load().settings, *parts))
    except ConfigurationError as error:
        raise CommandConfigurationError(str(error)) from None


class WeavloaderCelery(Celery):  # type: ignore[misc]
    """The app, with what the tasks of one process share at ``app.runtime``.

    Queues, routes and schedule can be read without a broker. Whatever needs one raises ``CommandConfigurationError``
    where none is known; where one became known since the configuration was read, it is used.
    """

    #: What opens the adapters; the real ones unless set.
    open_ports: PortsOpener | None = None
    _runtime: Runtime | None = None
    _runtime_lock = threading.Lock()

    @property
    def runtime(self) -> Runtime:
        """This process's runtime, made when first asked for: a forked child gets one of its own, not its parent's."""
        with self._runtime_lock:
            if self._runtime is None or self._runtime.pid != os.getpid():
                from job_system.ports import OpenPorts
                from job_system.runtime import Runtime
                from settings import load

                self._runtime = Runtime(load().settings, self.open_ports or OpenPorts.open)
            return self._runtime

    def find_broker(self) -> None:
        """See that the configuration has its broker. Raises ``CommandConfigurationError`` where none is known."""
        if not self.conf["broker_url"]:
            self.conf.update(_configuration("redis"))

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """A connection to the broker, to take messages from it."""
        self.find_broker()
        return super().connection_for_read(url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """A connection to the broker, to send messages to it."""
        self.find_broker()
        return super().connection_for_write(url, **options)

    def _get_backend(self) -> Any:
        self.find_broker()
        return super()._get_backend()

    def hand_back(self) -> None:
        """Stop what this process has in flight and hand it back; see ``Runtime.hand_back``."""
        runtime = self._runtime
        if runtime is not None and runtime.pid == os.getpid():
            runtime.hand_back()

    def close_runtime(self) -> None:
        """End this process's runtime if it has one."""
        with self._runtime_lock:
            runtime, self._runtime = self._runtime, None
        if runtime is not None and runtime.pid == os.getpid():
            runtime.close()


def _after_fork() -> None:
    """A lock that another thread held while the process forked would stay locked in the child for ever."""
    WeavloaderCelery._runtime_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _before_command(context: click.Context, _option: click.Parameter, _value: object) -> None:
    if not context.resilient_parsing:
        context.obj.app.find_broker()


transport.use()
celery_app = WeavloaderCelery("weavloader", loader=SettingsLoader, include=["job_system.tasks", "job_system.hooks"])
# Celery adds these options to all of its commands, its plug-ins' too, and click calls back even where none is given:
# each command asks for the broker before it does or says anything.
celery_app.user_options["preload"].add(
    click.Option(["--broker-is-known"], is_flag=True, hidden=True, expose_value=False, callback=_before_command)
)
