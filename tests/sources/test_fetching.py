"""Fetching over real sockets: caps, redirects, credentials, private addresses, and what each status means."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

import settings
from errors import LoginRefused, PartUnavailable, PermanentError, SkipImage, SourceAway, TransientError
from records import SourceAddress
from sources import ImageFetcher
from sources.logins import ProcessLoginMemory
from tests.fixtures.fetching import HOUR, PICTURE, Open, basic, record, refused
from tests.fixtures.sage import LocalSage


async def test_an_image_is_fetched_with_the_login_whatever_its_content_type(sage: LocalSage, fetcher: Open) -> None:
    url = sage.answer("/a.jpg", PICTURE, headers={"Content-Type": "text/html"}, login=True)
    assert await fetcher(sage.cloud).fetch(record(url)) == PICTURE
    assert sage.seen[-1].authorization == basic(sage.cloud)


async def test_an_empty_answer_is_left_to_the_image_check(sage: LocalSage, fetcher: Open) -> None:
    assert await fetcher(sage.cloud).fetch(record(sage.answer("/a.jpg", b""))) == b""


async def test_a_path_is_asked_for_byte_by_byte_as_the_record_has_it(sage: LocalSage, fetcher: Open) -> None:
    sage.answer("/a b/~ü%2B.jpg", PICTURE)
    assert await fetcher(sage.cloud).fetch(record(sage.url("/a%20b/%7E%C3%BC%252B.jpg"))) == PICTURE
    assert await fetcher(sage.cloud).fetch(record(sage.url("/a b/~ü%252B.jpg"))) == PICTURE


async def test_many_images_at_once_keep_to_the_connections_per_host(sage: LocalSage, fetcher: Open) -> None:
    url = sage.answer("/a.jpg", PICTURE)
    fetch = fetcher(sage.cloud, connections_per_host=2).fetch
    assert await asyncio.gather(*(fetch(record(url)) for _ in range(20))) == [PICTURE] * 20


class TestLimits:
    async def test_an_image_over_the_byte_cap_is_refused_by_its_announced_length(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        url = sage.answer("/a.jpg", PICTURE)
        message = await refused(fetcher(sage.cloud, max_bytes=1000), record(url), PermanentError, "image_too_large")
        assert "WEAVLOADER_MAX_IMAGE_BYTES" in message

    async def test_an_image_that_unpacks_over_the_byte_cap_is_refused_while_it_streams(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        url = sage.answer("/a.jpg", gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
        await refused(fetcher(sage.cloud, max_bytes=100_000), record(url), PermanentError, "image_too_large")

    async def test_an_image_of_exactly_the_cap_is_taken(self, sage: LocalSage, fetcher: Open) -> None:
        url = sage.answer("/a.jpg", PICTURE)
        assert await fetcher(sage.cloud, max_bytes=len(PICTURE)).fetch(record(url)) == PICTURE

    async def test_the_deadline_covers_the_whole_way(self, sage: LocalSage, fetcher: Open) -> None:
        sage.answer("/b.jpg", PICTURE, delay=0.25)
        url = sage.redirect("/a.jpg", "/b.jpg", delay=0.25)
        message = await refused(fetcher(sage.cloud, timeout=0.4), record(url), TransientError, "fetch_timeout")
        assert "WEAVLOADER_FETCH_TIMEOUT" in message


class TestStatus:
    @pytest.mark.parametrize("status", [404, 410])
    async def test_a_missing_young_image_may_still_come(self, sage: LocalSage, fetcher: Open, status: int) -> None:
        url = sage.answer("/a.jpg", status=status)
        await refused(fetcher(sage.cloud), record(url, age_ns=HOUR * 9 // 10), TransientError, "not_yet_uploaded")

    @pytest.mark.parametrize("status", [404, 410])
    async def test_a_missing_old_image_is_gone(self, sage: LocalSage, fetcher: Open, status: int) -> None:
        url = sage.answer("/a.jpg", status=status)
        await refused(fetcher(sage.cloud), record(url, age_ns=HOUR * 11 // 10), PermanentError, "not_found")

    @pytest.mark.parametrize("status", [400, 408, 429, 500, 502, 503])
    async def test_a_fault_of_the_storage_may_pass(self, sage: LocalSage, fetcher: Open, status: int) -> None:
        url = sage.answer("/a.jpg", status=status, times=1)
        fetch = fetcher(sage.cloud)
        assert str(status) in await refused(fetch, record(url), TransientError, "fetch_failed")

    @pytest.mark.parametrize("how", ["drop", "cut"])
    async def test_an_answer_that_breaks_off_may_come_whole_later(
        self, sage: LocalSage, fetcher: Open, how: str
    ) -> None:
        url = sage.answer("/a.jpg", PICTURE, **{how: True})
        await refused(fetcher(sage.cloud), record(url), TransientError, "fetch_failed")

    async def test_a_storage_that_is_not_there_is_an_unavailable_part(self, fetcher: Open) -> None:
        with LocalSage() as gone:
            cloud, url = gone.cloud, gone.url("/a.jpg")
        message = await refused(fetcher(cloud), record(url), PartUnavailable, "part_unavailable")
        assert "refused" in message

    async def test_a_storage_whose_name_is_unknown_is_an_unavailable_part(self, fetcher: Open) -> None:
        fetch = fetcher(allowed_hosts=["storage.invalid"])
        with pytest.raises(PartUnavailable) as caught:
            await fetch.fetch(record("https://storage.invalid/a.jpg"))
        assert caught.value.part == "storage"
        assert "storage.invalid" in str(caught.value)

    async def test_a_storage_that_does_not_speak_tls_is_an_unavailable_part(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        fetch = fetcher(allowed_hosts=[sage.host])
        await refused(fetch, record(f"https://{sage.host}/a.jpg"), PartUnavailable, "part_unavailable")

    @pytest.mark.parametrize("url", ["ftp://x/a.jpg", "nonsense", "http://[x/a.jpg", "http://u:p@127.0.0.1/a.jpg"])
    async def test_an_url_that_cannot_be_fetched_is_a_bad_record(self, fetcher: Open, url: str) -> None:
        await refused(fetcher(), record(url), PermanentError, "bad_record")


class TestLogin:
    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_file_that_alone_is_refused_is_protected(self, sage: LocalSage, fetcher: Open, status: int) -> None:
        good, protected = sage.answer("/good.jpg", PICTURE, login=True), sage.answer("/no.jpg", status=status)
        fetch = fetcher(sage.cloud)
        await fetch.fetch(record(good))
        with pytest.raises(SkipImage) as caught:
            await fetch.fetch(record(protected))
        assert caught.value.reason == "protected"

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_login_that_never_succeeded_is_refused_as_a_whole(
        self, sage: LocalSage, fetcher: Open, status: int
    ) -> None:
        url = sage.answer("/no.jpg", status=status)
        message = await refused(fetcher(sage.cloud), record(url), LoginRefused, "login_refused")
        assert "SAGE_USER and SAGE_PASS" in message
        assert sage.cloud.password not in message

    async def test_a_wrong_password_is_a_refused_login_of_that_source(self, sage: LocalSage, fetcher: Open) -> None:
        url = sage.answer("/good.jpg", PICTURE, login=True)
        with pytest.raises(LoginRefused) as caught:
            await fetcher(replace(sage.cloud, password="wrong")).fetch(record(url))
        assert caught.value.part == "sage"

    async def test_a_login_that_turned_bad_skips_nothing(self, sage: LocalSage, fetcher: Open) -> None:
        good, other = sage.answer("/good.jpg", PICTURE), sage.answer("/other.jpg", status=401)
        fetch = fetcher(sage.cloud)
        await fetch.fetch(record(good))
        sage.answer("/good.jpg", status=401)
        await refused(fetch, record(other), LoginRefused, "login_refused")

    @pytest.mark.parametrize(("later", "protected"), [(200, True), (302, True), (401, False), (404, False)])
    async def test_a_success_of_long_ago_counts_when_its_file_still_opens(
        self, sage: LocalSage, fetcher: Open, later: int, protected: bool
    ) -> None:
        good, other = sage.answer("/good.jpg", PICTURE), sage.answer("/other.jpg", status=403)
        fetch = fetcher(sage.cloud, logins=ProcessLoginMemory(seconds=-1))
        await fetch.fetch(record(good))
        sage.answer("/good.jpg", status=later)
        with pytest.raises(SkipImage if protected else LoginRefused):
            await fetch.fetch(record(other))

    async def test_another_process_may_know_that_the_login_is_good(self, sage: LocalSage, fetcher: Open) -> None:
        class Shared:
            def __init__(self) -> None:
                self.noted: list[str] = []

            def note_success(self, origin: str) -> None:
                self.noted.append(origin)

            def succeeded_recently(self, origin: str) -> bool:
                return origin in self.noted

        good, protected = sage.answer("/good.jpg", PICTURE), sage.answer("/no.jpg", status=403)
        shared = Shared()
        one, other = fetcher(sage.cloud, logins=shared), fetcher(sage.cloud, logins=shared)
        await refused(other, record(protected), LoginRefused, "login_refused")
        await one.fetch(record(good))
        with pytest.raises(SkipImage):
            await other.fetch(record(protected))
        assert shared.noted == [f"replay@{sage.url('')}"]

    async def test_a_success_without_the_login_says_nothing_about_it(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        fetch = fetcher(sage.cloud, allowed_hosts=[other.host])
        await fetch.fetch(record(other.answer("/open.jpg", PICTURE)))
        await refused(fetch, record(sage.answer("/no.jpg", status=401)), LoginRefused, "login_refused")


class TestReplays:
    async def test_a_record_follows_its_source_to_another_port(self, sage: LocalSage, fetcher: Open) -> None:
        with LocalSage() as former:
            old = former.url("/a.jpg")
        sage.answer("/a.jpg", PICTURE, login=True)
        assert await fetcher(sage.local).fetch(record(old, "replay")) == PICTURE

    async def test_a_source_that_is_not_running_is_named(self, sage: LocalSage, fetcher: Open) -> None:
        message = await refused(fetcher(), record(sage.url("/a.jpg"), "holiday"), SourceAway, "fetch_failed")
        assert "source holiday is not running" in message


async def test_a_fetcher_can_be_closed_before_and_after_use_and_used_again(sage: LocalSage) -> None:
    addresses: Sequence[SourceAddress] = [sage.cloud]
    fetch = ImageFetcher(settings.Fetch(), lambda: addresses)
    await fetch.close()
    url = sage.answer("/a.jpg", PICTURE)
    for _ in range(2):
        assert await fetch.fetch(record(url)) == PICTURE
        await fetch.close()
