"""What each exception of the Redis client means for the system: one table, applied at one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import exceptions as sdk
from redis.sentinel import MasterNotFoundError, SlaveNotFoundError

from errors import ConfigurationError, PartUnavailable, WeavloaderError

Translation = Callable[[str, str], WeavloaderError]


def _unreachable(address: str, said: str) -> WeavloaderError:
    return PartUnavailable(
        "redis", f"Redis at {address} cannot be reached ({said}): start it or correct CELERY_BROKER_URL"
    )


def _login(address: str, said: str) -> WeavloaderError:
    return ConfigurationError(
        f"Redis at {address} refuses the login in CELERY_BROKER_URL ({said}): correct its user and password"
    )


def _forbidden(address: str, said: str) -> WeavloaderError:
    return ConfigurationError(
        f"Redis at {address} forbids its user a command ({said}): allow it, or set another user in CELERY_BROKER_URL"
    )


def _full(address: str, said: str) -> WeavloaderError:
    return PartUnavailable(
        "redis", f"Redis at {address} is full ({said}): raise its maxmemory or let the queue drain", cause="redis_full"
    )


def _loading(address: str, said: str) -> WeavloaderError:
    return PartUnavailable("redis", f"Redis at {address} is not ready yet ({said})", cause="redis_loading")


def _read_only(address: str, said: str) -> WeavloaderError:
    return PartUnavailable(
        "redis",
        f"Redis at {address} takes no writes ({said}): free its disk or make it the master",
        cause="redis_read_only",
    )


def _cluster(address: str, said: str) -> WeavloaderError:
    return ConfigurationError(
        f"Redis at {address} is a Redis Cluster ({said}), which Celery's transport cannot use:"
        " set CELERY_BROKER_URL to a single Redis or Valkey, or to Sentinel"
    )


def _answer(address: str, said: str) -> WeavloaderError:
    """The server refused a command for a reason of its own: no image is at fault."""
    return PartUnavailable("redis", f"Redis at {address} answered an error: {said}", cause="redis_error")


def _ours(address: str, said: str) -> WeavloaderError:
    """The client was used wrongly: a fault of this program."""
    return WeavloaderError(f"Redis at {address} was asked wrongly: {said}", cause="redis_misused")


TRANSLATIONS: dict[type[Exception], Translation] = {
    sdk.ConnectionError: _unreachable,
    sdk.TimeoutError: _unreachable,
    sdk.MaxConnectionsError: _unreachable,
    MasterNotFoundError: _unreachable,
    SlaveNotFoundError: _unreachable,
    sdk.BusyLoadingError: _loading,
    sdk.TryAgainError: _loading,
    sdk.ReadOnlyError: _read_only,
    sdk.OutOfMemoryError: _full,
    sdk.AuthenticationError: _login,
    sdk.AuthenticationWrongNumberOfArgsError: _login,
    sdk.AuthorizationError: _login,
    sdk.ExternalAuthProviderError: _login,
    sdk.NoPermissionError: _forbidden,
    sdk.AskError: _cluster,
    sdk.MovedError: _cluster,
    sdk.ClusterError: _cluster,
    sdk.ClusterDownError: _cluster,
    sdk.ClusterCrossSlotError: _cluster,
    sdk.MasterDownError: _unreachable,
    sdk.CrossSlotTransactionError: _cluster,
    sdk.RedisClusterException: _cluster,
    sdk.SlotNotCoveredError: _cluster,
    sdk.InvalidPipelineStack: _cluster,
    sdk.ResponseError: _answer,
    sdk.ExecAbortError: _answer,
    sdk.InvalidResponse: _answer,
    sdk.ModuleError: _answer,
    sdk.NoScriptError: _answer,
    sdk.NoSuchFieldsetError: _answer,
    sdk.RedisError: _answer,
    sdk.ChildDeadlockedError: _ours,
    sdk.DataError: _ours,
    sdk.IncorrectPolicyType: _ours,
    sdk.LockError: _ours,
    sdk.LockNotOwnedError: _ours,
    sdk.PubSubError: _ours,
    sdk.WatchError: _ours,
}

# What the client has no class of its own for, by the first word of the server's answer (a script's failed call gives
# its error inside another one).
_ANSWERS: dict[str, Translation] = {
    "OOM": _full,
    "MISCONF": _read_only,
    "NOREPLICAS": _read_only,
    "READONLY": _read_only,
    "LOADING": _loading,
    "BUSY": _loading,
    "MASTERDOWN": _unreachable,
    "NOAUTH": _login,
    "WRONGPASS": _login,
    "NOPERM": _forbidden,
    "MOVED": _cluster,
    "CROSSSLOT": _cluster,
    "CLUSTERDOWN": _cluster,
}


def translate(error: Exception, address: str) -> WeavloaderError:
    """The project's error for one of the client's."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, sdk.ResponseError):
        for word in said.replace("-", " ").replace(":", " ").split()[:1]:
            if word in _ANSWERS:
                return _ANSWERS[word](address, said)
    for kind in type(error).__mro__:
        if kind in TRANSLATIONS:
            return TRANSLATIONS[kind](address, said)
    raise TypeError(f"{type(error).__name__} is none of the Redis client's exceptions")


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise the project's error for whatever of the client's leaves the block."""
    try:
        yield
    except tuple(TRANSLATIONS) as error:
        raise translate(error, address) from error
