"""Where an image may come from: redirects, credentials, TLS and private addresses, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from errors import PartUnavailable, PermanentError, TransientError
from sources.replay import load_folder
from tests.fixtures.fetching import PICTURE, Certificate, Open, basic, record, refused
from tests.fixtures.sage import LocalSage


class TestRedirects:
    async def test_the_login_does_not_follow_to_another_origin(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        target = other.answer("/signed.jpg", PICTURE)
        url = sage.redirect("/a.jpg", f"{target}?authz=token%2Bx%7E")
        assert await fetcher(sage.cloud, allowed_hosts=[other.host]).fetch(record(url)) == PICTURE
        assert [seen.authorization for seen in sage.seen] == [basic(sage.cloud)]
        assert [seen.authorization for seen in other.seen] == [None]

    async def test_the_login_is_not_sent_after_a_way_over_another_origin(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        back = sage.answer("/back.jpg", PICTURE)
        url = sage.redirect("/a.jpg", other.redirect("/there.jpg", back))
        assert await fetcher(sage.cloud, allowed_hosts=[other.host]).fetch(record(url)) == PICTURE
        assert [seen.authorization is None for seen in sage.seen] == [False, True]

    async def test_a_record_from_another_allowed_host_gets_no_login(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        fetch = fetcher(sage.cloud, allowed_hosts=[other.host])
        await fetch.fetch(record(other.answer("/a.jpg", PICTURE)))
        assert other.seen[0].authorization is None

    async def test_a_relative_redirect_stays_with_the_storage_and_its_login(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        sage.answer("/x/b.jpg", PICTURE, login=True)
        assert await fetcher(sage.cloud).fetch(record(sage.redirect("/x/a.jpg", "b.jpg"))) == PICTURE

    async def test_a_host_that_is_not_allowed_is_not_asked(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        url = sage.redirect("/a.jpg", other.url("/b.jpg?token=1"))
        message = await refused(fetcher(sage.cloud), record(url), PermanentError, "host_not_allowed")
        assert other.host in message
        assert "WEAVLOADER_ALLOWED_HOSTS" in message
        assert other.seen == []

    async def test_an_image_from_a_host_that_is_not_allowed_is_not_asked_for(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        await refused(fetcher(sage.cloud), record(other.url("/b.jpg")), PermanentError, "host_not_allowed")
        assert other.seen == []

    @pytest.mark.parametrize("hops", [3, 4])
    async def test_as_many_redirects_as_the_setting_says_are_followed(
        self, sage: LocalSage, fetcher: Open, hops: int
    ) -> None:
        sage.answer("/0", PICTURE)
        for hop in range(hops):
            sage.redirect(f"/{hop + 1}", f"/{hop}")
        fetch, wanted = fetcher(sage.cloud, max_redirects=3), record(sage.url(f"/{hops}"))
        if hops == 3:
            assert await fetch.fetch(wanted) == PICTURE
        else:
            message = await refused(fetch, wanted, PermanentError, "too_many_redirects")
            assert "WEAVLOADER_MAX_REDIRECTS" in message

    @pytest.mark.parametrize("target", ["", "http://[x/", "javascript:alert(1)", "http://u:p@127.0.0.1/"])
    async def test_a_redirect_to_nothing_usable_may_pass(self, sage: LocalSage, fetcher: Open, target: str) -> None:
        await refused(fetcher(sage.cloud), record(sage.redirect("/a.jpg", target)), TransientError, "fetch_failed")

    async def test_a_redirect_over_several_origins_of_a_signed_storage(
        self, open_sage: Callable[..., LocalSage], photos: Path, fetcher: Open
    ) -> None:
        pictures = load_folder(photos)
        replay = open_sage(pictures, interval=0, signed=True)
        url = f"{replay.local.storage_url}/api/v1/data/replay/{pictures[0].identity}"
        fetch = fetcher(replay.local, allowed_hosts=[replay.server.signed_url.removeprefix("http://")])
        assert await fetch.fetch(record(url, "replay")) == pictures[0].read()
        assert [seen.authorization is None for seen in replay.seen] == [False, True]


class TestTls:
    @pytest.fixture
    async def secure(self, tls: Certificate) -> AsyncIterator[Callable[..., str]]:
        """Opens an https server that answers a path with a redirect, or with a picture; gives the path's URL."""
        runner = web.AppRunner(app := web.Application())

        async def answer(request: web.Request) -> web.Response:
            target = request.query.get("to")
            return web.Response(status=302, headers={"Location": target}) if target else web.Response(body=PICTURE)

        app.router.add_get("/a.jpg", answer)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server).start()
        port = runner.addresses[0][1]
        yield lambda to="": f"https://localhost:{port}/a.jpg" + (f"?to={to}" if to else "")
        await runner.cleanup()

    async def test_a_redirect_from_https_to_http_is_not_followed(
        self, sage: LocalSage, secure: Callable[..., str], fetcher: Open, tls: Certificate, trusted: None
    ) -> None:
        url = secure(to=sage.url("/b.jpg"))
        fetch = fetcher(allowed_hosts=[sage.host, url.split("/")[2]])
        assert await fetch.fetch(record(secure())) == PICTURE
        message = await refused(fetch, record(url), PermanentError, "host_not_allowed")
        assert "https to http" in message
        assert sage.seen == []

    async def test_a_certificate_that_is_not_trusted_is_an_unavailable_part(
        self, secure: Callable[..., str], fetcher: Open
    ) -> None:
        url = secure()
        message = await refused(
            fetcher(allowed_hosts=[url.split("/")[2]]), record(url), PartUnavailable, "part_unavailable"
        )
        assert "certificate" in message


class TestPrivateAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433"])
    async def test_an_allowed_name_does_not_open_the_way_to_a_private_address(
        self, sage: LocalSage, fetcher: Open, host: str
    ) -> None:
        url = sage.url("/a.jpg").replace("127.0.0.1", host)
        message = await refused(fetcher(allowed_hosts=[host]), record(url), PermanentError, "host_not_allowed")
        assert "private address" in message
        assert sage.seen == []

    async def test_the_cloud_metadata_address_is_refused_even_as_a_redirect(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        url = sage.redirect("/a.jpg", "http://169.254.169.254/latest/meta-data")
        fetch = fetcher(sage.cloud, allowed_hosts=["169.254.169.254"])
        await refused(fetch, record(url), PermanentError, "host_not_allowed")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_a_private_host_with_its_port_in_the_setting_is_meant(
        self, sage: LocalSage, fetcher: Open, host: str
    ) -> None:
        port = sage.host.partition(":")[2]
        url = sage.answer("/a.jpg", PICTURE).replace("127.0.0.1", host)
        assert await fetcher(allowed_hosts=[f"{host}:{port}"]).fetch(record(url)) == PICTURE

    async def test_a_registered_source_opens_its_own_port_only(
        self, sage: LocalSage, open_sage: Callable[..., LocalSage], fetcher: Open
    ) -> None:
        other = open_sage()
        url = sage.redirect("/a.jpg", other.url("/b.jpg"))
        await refused(fetcher(sage.local), record(url, "replay"), PermanentError, "host_not_allowed")
