"""What the HTTP library's errors mean, and which addresses are public."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import client_exceptions

from sources.transport import ERRORS, Failure, GuardedResolver, Origin, PrivateAddressError, failure, is_public, shown


def _kinds() -> Iterator[type[Exception]]:
    for value in vars(client_exceptions).values():
        if isinstance(value, type) and issubclass(value, aiohttp.ClientError) and value is not aiohttp.ClientError:
            yield value


@pytest.mark.parametrize("kind", sorted(set(_kinds()), key=lambda kind: kind.__name__))
def test_every_error_of_the_http_library_has_a_meaning(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    assert isinstance(failure(error), Failure)
    assert isinstance(error, ERRORS)


def test_errors_of_the_system_have_a_meaning_and_bugs_have_none() -> None:
    assert failure(ConnectionResetError()) is Failure.BROKEN
    assert failure(TimeoutError()) is Failure.TIMEOUT
    assert failure(KeyError("bug")) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "127.1",
        "2130706433",
        "",
    ],
)
def test_private_addresses_in_every_notation_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


async def test_a_name_that_means_a_private_address_is_not_resolved_unless_trusted() -> None:
    strict, trusting = GuardedResolver(lambda host, port: False), GuardedResolver(lambda host, port: port == 81)
    with pytest.raises(PrivateAddressError):
        await strict.resolve("localhost", 80)
    with pytest.raises(PrivateAddressError):
        await strict.resolve("0x7f.1", 80)
    with pytest.raises(PrivateAddressError):
        await trusting.resolve("localhost", 80)
    assert await trusting.resolve("localhost", 81)
    await strict.close()
    await trusting.close()


def test_an_url_is_shown_without_login_query_and_fragment() -> None:
    assert shown("https://user:secret@host.example:8443/a/b.jpg?authz=token#x") == "https://host.example:8443/a/b.jpg"
    assert shown("http://[broken") == "(a malformed URL)"
    assert shown("/a?token=1") == "/a"


def test_an_origin_is_scheme_host_and_port_whatever_the_case() -> None:
    assert Origin.of("HTTPS://Storage.Example/a") == Origin("https", "storage.example", 443)
    assert Origin.of("https://storage.example.:443") == Origin.of("https://storage.example")
    for url in ("ftp://x/y", "nonsense", "https:///x", "http://x:99999/"):
        with pytest.raises(ValueError, match=r"(?i)not an http|port|url"):
            Origin.of(url)
    assert pickle.loads(pickle.dumps(Origin.of("http://x"))) == Origin("http", "x", 80)
