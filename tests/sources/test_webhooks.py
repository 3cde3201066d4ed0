"""Posting to a webhook: signed, to allowed addresses only, with a deadline, and no further than the URL says."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from errors import ConfigurationError, PermanentError, TransientError, WeavloaderError
from settings import Webhooks
from sources import webhooks
from sources.transport import GuardedResolver
from sources.webhooks import WebhookPoster, key_of, new_secret, origin_of, read_secret, signature
from tests.fixtures.redis import free_port
from tests.fixtures.webhooks import ENDLESS, HANG, REDIRECT, Receiver

Open = Callable[..., WebhookPoster]
SECRET = new_secret()


@pytest.fixture
async def poster() -> AsyncIterator[Open]:
    """Opens posters; they are closed at the end."""
    opened: list[WebhookPoster] = []

    def open_poster(*hosts: str, timeout: float = 5) -> WebhookPoster:
        opened.append(WebhookPoster(Webhooks(hosts=hosts, timeout=timeout)))
        return opened[-1]

    yield open_poster
    for one in opened:
        await one.close()


async def post(one: WebhookPoster, url: str, body: str = '{"a": 1}') -> None:
    await one.post(url, key_of(SECRET), "msg_1", body, 1_700_000_000)


async def refused(one: WebhookPoster, url: str) -> WeavloaderError:
    with pytest.raises((TransientError, PermanentError)) as caught:
        await post(one, url)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_post_carries_body_and_headers_and_verifies(receiver: Receiver, poster: Open) -> None:
    await post(poster(receiver.host), receiver.url, '{"caption": "à la carte"}')
    (seen,) = receiver.seen
    assert (seen.path, seen.told) == ("/hook", {"caption": "à la carte"})
    assert seen.headers["content-type"] == "application/json"
    assert (seen.id, seen.headers["webhook-timestamp"]) == ("msg_1", "1700000000")
    assert seen.is_signed_with(SECRET)
    assert not seen.is_signed_with(new_secret())


def test_the_signature_is_that_of_the_specifications_example() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_another_status_may_be_better_next_time(receiver: Receiver, poster: Open, status: int) -> None:
    receiver.always = status
    error = await refused(poster(receiver.host), receiver.url)
    assert (type(error), error.cause) == (TransientError, "webhook_refused")
    assert str(status) in str(error)


async def test_a_redirect_is_not_followed(receiver: Receiver, poster: Open) -> None:
    receiver.always = REDIRECT
    error = await refused(poster(receiver.host), receiver.url)
    assert (type(error), error.cause) == (PermanentError, "webhook_redirected")
    assert len(receiver.seen) == 1


async def test_a_receiver_that_is_gone_for_good_says_so(receiver: Receiver, poster: Open) -> None:
    receiver.always = 410
    error = await refused(poster(receiver.host), receiver.url)
    assert (type(error), error.cause) == (PermanentError, "webhook_gone")


async def test_a_receiver_that_hangs_is_left_at_the_deadline(receiver: Receiver, poster: Open) -> None:
    receiver.always = HANG
    began = time.monotonic()
    error = await refused(poster(receiver.host, timeout=0.3), receiver.url)
    assert error.cause == "webhook_timeout"
    assert time.monotonic() - began < 3


async def test_an_answer_without_an_end_is_not_read(receiver: Receiver, poster: Open) -> None:
    receiver.always = ENDLESS
    began = time.monotonic()
    await post(poster(receiver.host, timeout=5), receiver.url)
    assert time.monotonic() - began < 3


async def test_a_receiver_that_is_not_there_may_come_back(poster: Open) -> None:
    host = f"127.0.0.1:{free_port()}"
    error = await refused(poster(host), f"http://{host}/x")
    assert (type(error), error.cause) == (TransientError, "webhook_unreachable")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3", "169.254.169.254"]
)
async def test_private_addresses_are_refused_before_anything_is_sent(
    receiver: Receiver, poster: Open, host: str
) -> None:
    url = f"http://{host}:{receiver.host.partition(':')[2]}/hook"
    error = await refused(poster("127.0.0.1:1"), url)
    assert (type(error), error.cause) == (PermanentError, "host_not_allowed")
    assert "WEAVLOADER_WEBHOOK_HOSTS" in str(error)
    with pytest.raises(PermanentError):
        await poster("127.0.0.1:1").check(url)
    assert receiver.seen == []


async def test_a_name_that_nobody_knows_now_may_be_known_later(poster: Open) -> None:
    await poster().check("https://hooks.invalid/x")


async def test_a_name_is_not_waited_for_without_end(poster: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object) -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(GuardedResolver, "resolve", silent)
    monkeypatch.setattr(webhooks, "CONNECT_SECONDS", 0.05)
    async with asyncio.timeout(5):
        await poster().check("https://hooks.example/x")


async def test_messages_name_the_host_and_not_the_path(receiver: Receiver, poster: Open) -> None:
    receiver.always = 500
    error = await refused(poster(receiver.host), f"{receiver.url}/token?key=token")
    assert receiver.host in str(error)
    assert "token" not in str(error)


@pytest.mark.parametrize(
    "url", ["", "hooks.example/x", "ftp://hooks.example", "https://", "http://a b/", "https://u:p@h/"]
)
def test_what_is_no_usable_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"http|login"):
        origin_of(url)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "not base64!" * 5])
def test_a_secret_must_be_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="whsec_") as caught:
        read_secret(file)
    assert str(file) in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_secret(tmp_path / "none")


def test_secrets_are_never_the_same_and_may_stand_with_or_without_their_beginning() -> None:
    assert new_secret() != SECRET
    assert key_of(f" {SECRET}\n") == key_of(SECRET.removeprefix("whsec_"))


async def test_a_receiver_is_reached_without_a_post_and_by_the_same_rules(receiver: Receiver, poster: Open) -> None:
    await poster(receiver.host).reach(receiver.url)
    closed = f"127.0.0.1:{free_port()}"
    for url, cause in (
        (f"http://{closed}/x", "webhook_unreachable"),
        ("http://nowhere.invalid/x", "webhook_unreachable"),
        (receiver.url.replace("127.0.0.1", "10.0.0.1"), "host_not_allowed"),
        ("http://localhost:1/x", "host_not_allowed"),
        ("ftp://h/x", "webhook_url"),
    ):
        with pytest.raises((TransientError, PermanentError)) as caught:
            await poster(receiver.host, closed).reach(url)
        assert caught.value.cause == cause, url
        assert "/x" not in str(caught.value)
    assert receiver.seen == []


async def test_a_closed_port_is_told_in_plain_words(poster: Open) -> None:
    host = f"127.0.0.1:{free_port()}"
    for ask in (poster(host).reach(f"http://{host}/x"), post(poster(host), f"http://{host}/x")):
        with pytest.raises(TransientError) as caught:
            await ask
        assert str(caught.value) == f"http://{host} cannot be reached (connection refused)"


async def test_an_address_that_is_silent_leaves_time_for_the_next(
    receiver: Receiver, poster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.host.partition(":")[2])

    async def two(*_: object) -> list[dict[str, str]]:
        return [{"host": "127.0.0.2"}, {"host": "127.0.0.1"}]

    monkeypatch.setattr(GuardedResolver, "resolve", two)
    with socket.socket() as silent, ExitStack() as waiting:
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        for _ in range(3):  # there is no room for more that wait
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))
        await poster(f"localhost:{port}", timeout=3).reach(f"http://localhost:{port}/hook")
