"""The one way to the Redis server: its address, the client, and the scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.client import NEVER_DECODE
from redis.commands.core import Script
from redis.exceptions import AuthenticationError, AuthorizationError, ExternalAuthProviderError, NoScriptError
from redis.retry import Retry
from redis.sentinel import Sentinel

from errors import ConfigurationError, WeavloaderError
from ledger.faults import translated
from ledger.together import Together

Word = str | int | float | bytes

PREFIX = "weavloader:"
_SCRIPTS = Path(__file__).parent / "lua"
_COMMENT = re.compile(r"\s*--.*")
_WORD = re.compile(r"\w+")
# From one "local" at the beginning of a line to the next; in brackets the names.
_DEFINITION = re.compile(r"^local (?:function (\w+)\(|([\w, ]+) = ).*\n(?:(?!local ).*\n)*", re.MULTILINE)
# A server that restarts (a second or two) is waited for; one that is down is reported within some seconds.
_RETRIES = 4
_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 3.0
_FINAL = (AuthenticationError, AuthorizationError, ExternalAuthProviderError)


@dataclass(frozen=True)
class BrokerAddress:
    """The broker's URL in parts. ``hosts`` are the sentinels' where ``master_name`` is set, else the server's."""

    hosts: tuple[tuple[str, int], ...]
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    master_name: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: bool = False
    verify: str = "required"

    @property
    def shown(self) -> str:
        """Host and port, as messages name it: no user, no password."""
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


def parse_broker_url(url: str) -> BrokerAddress:
    """The parts of ``redis://``, ``rediss://`` or ``sentinel://h1:26379;sentinel://h2:26379/0?master_name=mymaster``.

    ``ssl_cert_reqs`` (Celery's and redis-py's words for it) and ``sentinel_password`` may stand in the query; user
    and password may stand at any of the sentinels and are the server's.

    Raises ``ConfigurationError`` naming CELERY_BROKER_URL, without the password.
    """
    try:
        parts = [urlsplit(part) for part in url.split(";")]
        scheme = parts[0].scheme
        hosts = tuple((part.hostname or "", part.port or (26379 if scheme == "sentinel" else 6379)) for part in parts)
        query = {name: values[-1] for name, values in parse_qs(parts[-1].query).items()}
        db = int(query.get("db") or parts[-1].path.strip("/") or 0)
    except ValueError:
        raise ConfigurationError("CELERY_BROKER_URL is not a URL of Redis: its port or database is no number") from None
    if scheme not in ("redis", "rediss", "sentinel") or any(part.scheme != scheme for part in parts):
        raise ConfigurationError("CELERY_BROKER_URL must be a redis://, rediss:// or sentinel:// URL")
    if not all(host for host, _ in hosts) or (len(hosts) > 1 and scheme != "sentinel"):
        raise ConfigurationError("CELERY_BROKER_URL must name one host (or several sentinels, parted by semicolons)")
    if scheme == "sentinel" and not query.get("master_name"):
        raise ConfigurationError(
            "CELERY_BROKER_URL names sentinels but no master: end it with ?master_name=<the name they know it by>"
        )
    login = next((part for part in parts if part.password), parts[0])
    return BrokerAddress(
        hosts=hosts,
        db=db,
        user=unquote(login.username or ""),
        password=unquote(login.password or ""),
        master_name=query.get("master_name", ""),
        sentinel_password=query.get("sentinel_password", ""),
        tls=scheme == "rediss",
        verify=query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_"),
    )


def sentinel_options(address: BrokerAddress) -> dict[str, Any]:
    """How a sentinel is asked. One that does not answer is not asked again at once, as the client does by itself for
    some seconds: there are others, and what needed its answer is repeated.
    """
    return {
        "password": address.sentinel_password or None,
        "socket_timeout": _CONNECT_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def _code(name: str) -> str:
    """A file of ``ledger/lua`` without its comments."""
    return _COMMENT.sub("", (_SCRIPTS / f"{name}.lua").read_text("utf-8"))


@cache
def _shared() -> Sequence[tuple[frozenset[str], str]]:
    """What ``common.lua`` defines, one after another: the names, and the text."""
    code = _code("common").lstrip("\n")
    found = [(frozenset(_WORD.findall(one[1] or one[2])), one[0]) for one in _DEFINITION.finditer(code)]
    assert "".join(text for _, text in found) == code, "each definition of common.lua begins a line with `local`"
    return found


@cache
def script_text(name: str) -> str:
    """A script of ``ledger/lua`` with what it uses of ``common.lua`` before it.

    No more than that, since the server runs all of it at each call: each function is made anew then, and is garbage
    afterwards. Its memory lies scattered among that of the images, so that it costs more the more of these there are.
    """
    text = _code(name)
    used = set(_WORD.findall(text))
    for names, definition in reversed(_shared()):
        if used & names:
            text = definition + text
            used |= set(_WORD.findall(definition))
    return text


class _Patience(Retry):
    """Repeats a request where time may help, which a refused login is not."""

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def worth_it(error: Exception) -> bool:
            return not isinstance(error, _FINAL) and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, worth_it, with_failure_count)


class Connection:
    """A pool of connections, opened when first used and again after a fork; safe in threads.

    A request is repeated some times within a few seconds when the server does not answer, so that a restart of the
    server is ridden out.
    """

    def __init__(self, url: str) -> None:
        if not url:
            raise ConfigurationError("CELERY_BROKER_URL is not set: set it, or start `python main.py up` first")
        address = parse_broker_url(url)
        self.address = address.shown
        self.db = address.db
        options: dict[str, Any] = {
            "db": address.db,
            "username": address.user or None,
            "password": address.password or None,
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": _ANSWER_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 30,
            "retry": _Patience(ExponentialBackoff(cap=1.0, base=0.1), _RETRIES),
        }
        self._sentinel: Sentinel | None = None
        if address.master_name:
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
                address.hosts,
                sentinel_kwargs=sentinel_options(address),
                **options,
            )
            self._redis: redis.Redis = self._sentinel.master_for(address.master_name)  # type: ignore[no-untyped-call]
        else:
            if address.tls:
                options |= {"ssl": True, "ssl_cert_reqs": address.verify}
            host, port = address.hosts[0]
            self._redis = redis.Redis(host=host, port=port, **options)
        self._scripts: dict[str, Script] = {}
        self._together: Together[tuple[str, Sequence[Word]], Any] = Together(self._run_all)

    def __repr__(self) -> str:
        return f"Connection({self.address})"

    def run(self, script: str, *args: Word) -> Any:
        """Run one of the scripts (one round trip). Raises what ``ledger.faults`` makes of the client's errors."""
        with translated(self.address):
            return self._script(script)(args=args)

    def run_together(self, script: str, *args: Word) -> Any:
        """The same, in one round trip with what other threads run so meanwhile. Raises as ``run`` does."""
        return self._together.call((script, args))

    def _run_all(self, calls: Sequence[tuple[str, Sequence[Word]]]) -> list[Any]:
        """Each script's answer, or its own error."""
        if len(calls) == 1:
            return [self.run(calls[0][0], *calls[0][1])]
        with translated(self.address), self._redis.pipeline(transaction=False) as pipeline:
            for script, args in calls:
                pipeline.evalsha(self._script(script).sha, 0, *args)
            answers = pipeline.execute(raise_on_error=False)
        return [self._each(call, answer) for call, answer in zip(calls, answers, strict=True)]

    def _each(self, call: tuple[str, Sequence[Word]], answer: Any) -> Any:
        try:
            if isinstance(answer, NoScriptError):  # the server was started anew
                return self.run(call[0], *call[1])
            if isinstance(answer, Exception):
                with translated(self.address):
                    raise answer
        except WeavloaderError as error:
            return error
        return answer

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(script_text(name))
        return self._scripts[name]

    def command(self, *words: Word) -> Any:
        """Run one command. Raises as ``run`` does."""
        with translated(self.address):
            return self._redis.execute_command(*words)  # type: ignore[no-untyped-call]

    def raw(self, *words: Word) -> Any:
        """Run one command whose answer is bytes, not text. Raises as ``run`` does."""
        with translated(self.address):
            return self._redis.execute_command(*words, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]

    def commands(self, commands: Iterable[Sequence[Word]], *, atomic: bool) -> list[Any]:
        """Run several commands in one round trip, as one transaction where ``atomic``. Raises as ``run`` does."""
        with translated(self.address), self._redis.pipeline(transaction=atomic) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
            return pipeline.execute()

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._redis.close()
        self._redis.connection_pool.disconnect()
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                client.close()
