"""Every exception of the Redis client has its meaning, and no message tells a password."""

from __future__ import annotations

import inspect
import pickle

import pytest
import redis.exceptions
import redis.sentinel

from errors import ConfigurationError, PartUnavailable, WeavloaderError
from ledger.connection import BrokerAddress, Connection, parse_broker_url
from ledger.faults import TRANSLATIONS, translate, translated

CLASSES = {
    kind
    for module in (redis.exceptions, redis.sentinel)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__.startswith("redis")
}


@pytest.mark.parametrize("kind", sorted(CLASSES, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_client_is_mapped_by_name(kind: type[Exception]) -> None:
    assert kind in TRANSLATIONS


@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (redis.ConnectionError("refused"), PartUnavailable, "part_unavailable"),
        (redis.TimeoutError("timed out"), PartUnavailable, "part_unavailable"),
        (redis.BusyLoadingError("loading"), PartUnavailable, "redis_loading"),
        (redis.ReadOnlyError("read only"), PartUnavailable, "redis_read_only"),
        (redis.OutOfMemoryError("used memory > maxmemory"), PartUnavailable, "redis_full"),
        (redis.ResponseError("OOM command not allowed, script: 1"), PartUnavailable, "redis_full"),
        (
            redis.ResponseError("MISCONF errors writing to the AOF file: No space left"),
            PartUnavailable,
            "redis_read_only",
        ),
        (redis.ResponseError("BUSY a script is running"), PartUnavailable, "redis_loading"),
        (redis.ResponseError("WRONGTYPE somebody uses the key"), PartUnavailable, "redis_error"),
        (redis.AuthenticationError("WRONGPASS"), ConfigurationError, "configuration"),
        (redis.exceptions.NoPermissionError("no"), ConfigurationError, "configuration"),
        (redis.exceptions.ClusterCrossSlotError("keys"), ConfigurationError, "configuration"),
        (redis.DataError("a list"), WeavloaderError, "redis_misused"),
    ],
)
def test_an_exception_becomes_what_it_means(error: Exception, kind: type, cause: str) -> None:
    with pytest.raises(WeavloaderError) as caught, translated("host:6379"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.cause == cause
    assert "host:6379" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_class_that_the_client_adds_counts_as_the_one_it_derives_from() -> None:
    class NewError(redis.ConnectionError):
        pass

    assert isinstance(translate(NewError("new"), "host:6379"), PartUnavailable)


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), translated("host:6379"):
        raise KeyError("ours")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", BrokerAddress((("h", 6379),))),
        ("redis://:p%40ss@h:7000/3", BrokerAddress((("h", 7000),), db=3, password="p@ss")),
        ("redis://u:p@[::1]:7000", BrokerAddress((("::1", 7000),), user="u", password="p")),
        (
            "rediss://u:p@h/1?ssl_cert_reqs=CERT_NONE",
            BrokerAddress((("h", 6379),), 1, "u", "p", tls=True, verify="none"),
        ),
        ("rediss://h?ssl_cert_reqs=optional", BrokerAddress((("h", 6379),), tls=True, verify="optional")),
        ("sentinel://a/0?master_name=m", BrokerAddress((("a", 26379),), master_name="m")),
        (
            "sentinel://:p@a:1;sentinel://:p@b:2/4?master_name=m&sentinel_password=s",
            BrokerAddress((("a", 1), ("b", 2)), 4, password="p", master_name="m", sentinel_password="s"),
        ),
    ],
)
def test_a_brokers_url_is_understood(url: str, address: BrokerAddress) -> None:
    assert parse_broker_url(url) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:hunter2@h:port/0", "no number"),
        ("redis://:hunter2@h/zero", "no number"),
        ("amqp://:hunter2@h", "redis://, rediss:// or sentinel://"),
        ("redis://:hunter2@", "must name one host"),
        ("redis://:hunter2@a;redis://:hunter2@b", "must name one host"),
        ("sentinel://:hunter2@a;redis://:hunter2@b", "redis://, rediss:// or sentinel://"),
        ("sentinel://:hunter2@a;sentinel://b/0", "master_name="),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match="CELERY_BROKER_URL") as caught:
        parse_broker_url(url)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_address_does_not_show_its_passwords() -> None:
    url = "sentinel://u:hunter2@a:1/0?master_name=m&sentinel_password=hunter3"
    assert "hunter" not in repr(parse_broker_url(url))
    assert repr(Connection(url)) == "Connection(a:1)"
