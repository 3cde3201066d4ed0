"""Fetching over real sockets: caps, redirects, credentials, private addresses, and what each status means."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import settings
from errors import LoginRefused, PartUnavailable, PermanentError, SkipImage, TransientError, WeavloaderError
from records import ImageRecord, SourceAddress, image_id
from sources import ImageFetcher, LoginMemory
from sources.replay import load_folder
from tests.fixtures.sage import LocalSage

PICTURE = bytes(range(256)) * 100
HOUR = 3600 * 10**9
Open = Callable[..., ImageFetcher]


class Certificate(NamedTuple):
    """A certificate for localhost: what a server shows, and a client's context that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate made for this run."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = certificate.public_bytes(encoding) + key.private_bytes(encoding, form, serialization.NoEncryption())
    (folder / "localhost.pem").write_bytes(pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "localhost.pem")
    return Certificate(server, ssl.create_default_context(cadata=certificate.public_bytes(encoding).decode()))


@pytest.fixture
def trusted(tls: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate belongs to the system's trusted ones, which the HTTP library reads when it is imported."""
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", tls.client)


def record(url: str, source: str = "sage", age_ns: int = 0) -> ImageRecord:
    return ImageRecord(image_id(source, url), source, url, "", time.time_ns() - age_ns)


@pytest.fixture
async def fetcher() -> AsyncIterator[Open]:
    """Opens fetchers that know the given sources; they are closed at the end."""
    opened: list[ImageFetcher] = []

    def open_fetcher(*addresses: SourceAddress, logins: LoginMemory | None = None, **options: object) -> ImageFetcher:
        section = settings.Fetch.model_validate({"timeout": 5, **options})
        opened.append(ImageFetcher(section, lambda: addresses, logins=logins))
        return opened[-1]

    yield open_fetcher
    for item in opened:
        await item.close()


async def refused(fetcher: ImageFetcher, wanted: ImageRecord, kind: type[WeavloaderError], cause: str) -> str:
    """The message of the error that fetching ends with: one line, without a token."""
    with pytest.raises(kind) as caught:
        await fetcher.fetch(wanted)
    assert type(caught.value) is kind
    assert caught.value.cause == cause
    message = str(caught.value)
    assert "\n" not in message
    assert "token" not in message
    return message


def basic(address: SourceAddress) -> str:
    return "Basic " + base64.b64encode(f"{address.user}:{address.password}".encode()).decode()


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


class TestReplays:
    async def test_a_record_follows_its_source_to_another_port(self, sage: LocalSage, fetcher: Open) -> None:
        with LocalSage() as former:
            old = former.url("/a.jpg")
        sage.answer("/a.jpg", PICTURE, login=True)
        assert await fetcher(sage.local).fetch(record(old, "replay")) == PICTURE

    async def test_a_source_that_is_not_running_is_named(self, sage: LocalSage, fetcher: Open) -> None:
        message = await refused(fetcher(), record(sage.url("/a.jpg"), "holiday"), TransientError, "fetch_failed")
        assert "source holiday is not running" in message


async def test_a_fetcher_can_be_closed_before_and_after_use_and_used_again(sage: LocalSage) -> None:
    addresses: Sequence[SourceAddress] = [sage.cloud]
    fetch = ImageFetcher(settings.Fetch(), lambda: addresses)
    await fetch.close()
    url = sage.answer("/a.jpg", PICTURE)
    for _ in range(2):
        assert await fetch.fetch(record(url)) == PICTURE
        await fetch.close()
