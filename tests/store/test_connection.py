"""Every way in which the store cannot be reached gives one clear line, and it is found again by itself."""

from __future__ import annotations

import asyncio
import http.server
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import client
from client import OLDEST_VERSION_SECONDS, VERSION_SECONDS, WeaviateStore
from errors import ConfigurationError, PartUnavailable, TransientError
from settings import Weaviate
from stack.weaviate import Installed
from tests.chaos.proxy import Proxy
from tests.fixtures.weaviate import WeaviateServer, weaviate_settings
from tests.store.conftest import Observed
from tests.store.images import direction, image


@pytest.fixture
def own(weaviate_binary: Installed, tmp_path: Path) -> WeaviateServer:
    """A server that a test may stop and start again."""
    return WeaviateServer(weaviate_binary, tmp_path)


def changed(section: Weaviate, **values: object) -> Weaviate:
    return section.model_copy(update=values)


async def test_nobody_waits_for_the_version_in_use_before_the_answer_is_too_old(
    collection: Weaviate, monkeypatch: pytest.MonkeyPatch
):
    look, free, asked = client.look, asyncio.Event(), asyncio.Event()

    async def slow(*words):
        asked.set()
        await free.wait()
        return await look(*words)

    store = WeaviateStore(collection)
    try:
        known = await store.current()
        monkeypatch.setattr(client, "look", slow)
        store._looked_at = before = time.monotonic() - VERSION_SECONDS - 0.1
        async with asyncio.timeout(30):
            assert await store.current() is known
            await asked.wait()
        assert store._looked_at == before
        store._looked_at -= OLDEST_VERSION_SECONDS
        waiting = asyncio.create_task(store.current())
        assert not (await asyncio.wait({waiting}, timeout=0.1))[0]
        store._let_go()  # as after a switch of its own: what was asked for before it says nothing
        free.set()
        assert (await waiting).collection == known.collection
        assert store._looked_at >= store._let_go_at
        for name in ("VERSION_SECONDS", "OLDEST_VERSION_SECONDS"):
            monkeypatch.setattr(client, name, -1.0)
        store._let_go()
        with pytest.raises(PartUnavailable, match="to tell which version of the collection is in use"):
            await store.current()
    finally:
        free.set()
        await store.close()


@pytest.mark.parametrize("key", ["", "not-the-key"])
async def test_a_refused_api_key_names_its_setting_and_waits(collection: Weaviate, key: str, observed: Observed):
    with pytest.raises(PartUnavailable, match="refused the API key: check WEAVIATE_API_KEY") as refusal:
        await WeaviateStore.open(changed(collection, api_key=key), observed)
    assert refusal.value.cause == "unauthorised"
    assert refusal.value.part == "weaviate"
    assert observed.count("open", "unauthorised") == 1


async def test_no_message_holds_the_api_key(collection: Weaviate):
    with pytest.raises(PartUnavailable) as refusal:
        await WeaviateStore.open(changed(collection, api_key="a-secret-key"))
    assert "a-secret-key" not in repr(refusal.value)
    assert "a-secret-key" not in str(refusal.value.__cause__)


@pytest.mark.parametrize("wrong", ["port", "grpc_port"])
async def test_a_wrong_port_is_named_at_once(collection: Weaviate, wrong: str):
    nobody = weaviate_settings().weaviate.http_port
    began = time.monotonic()
    with pytest.raises(PartUnavailable, match=r"WEAVIATE_HOST, WEAVIATE_PORT and WEAVIATE_GRPC_PORT"):
        await WeaviateStore.open(changed(collection, **{wrong: nobody}))
    assert time.monotonic() - began < 5


async def test_a_host_that_does_not_exist_is_named(collection: Weaviate):
    with pytest.raises(PartUnavailable, match=r"http://no-such-host\.invalid:\d+ is not reachable"):
        await WeaviateStore.open(changed(collection, host="no-such-host.invalid"))


async def test_tls_to_a_server_without_it_names_the_setting(collection: Weaviate):
    with pytest.raises(PartUnavailable, match="WEAVLOADER_WEAVIATE_SECURE"):
        await WeaviateStore.open(changed(collection, secure=True))


async def test_something_else_at_the_port_is_not_a_store(collection: Weaviate, web_page: int):
    with pytest.raises((PartUnavailable, TransientError), match="Weaviate at"):
        await WeaviateStore.open(changed(collection, port=web_page))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate that nobody trusts."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


async def test_a_server_with_tls_names_the_setting_without_it_and_an_untrusted_certificate_with_it(
    own: WeaviateServer, certificate: tuple[Path, Path]
):
    tls_port = weaviate_settings().weaviate.http_port
    own.arguments = ("--scheme", "https", "--tls-host", "127.0.0.1", "--tls-port", str(tls_port))
    own.arguments += ("--tls-key", str(certificate[0]), "--tls-certificate", str(certificate[1]))
    with own.running():
        with pytest.raises(PartUnavailable, match="WEAVLOADER_WEAVIATE_SECURE"):
            await WeaviateStore.open(changed(own.section, port=tls_port))
        with pytest.raises(PartUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.*certificate must be one"):
            await WeaviateStore.open(changed(own.section, port=tls_port, secure=True))


async def test_a_store_that_is_away_is_used_as_soon_as_it_is_there(own: WeaviateServer, observed: Observed):
    store = WeaviateStore(own.section, observed)
    with pytest.raises(PartUnavailable):
        await store.land(image(1))
    with own.running():
        await store.land(image(1))
        assert await store.count() == 1
    await store.close()
    assert observed.count("open", "part_unavailable") == 1


async def test_the_same_store_finds_its_server_again(own: WeaviateServer):
    with own.running():
        store = await WeaviateStore.open(own.section)
        await asyncio.gather(*(store.land(image(number)) for number in range(30)))
    began = time.monotonic()
    outcomes = await asyncio.gather(
        store.land(image(30)), store.search("street", direction(1)), store.count(), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [PartUnavailable] * 3
    assert time.monotonic() - began < 10
    assert not (await store.canary()).ok
    with own.running():
        async with asyncio.timeout(20):
            await store.land(image(30))
        assert await store.count() == 31
        assert [one.id for one in await store.search("street", direction(7), alpha=1, limit=1)] == [image(7).record.id]
        assert (await store.canary()).ok
        await store.close()


async def test_landings_in_flight_when_the_server_dies_are_not_confirmed_falsely(own: WeaviateServer):
    with own.running():
        store = await WeaviateStore.open(changed(own.section, batch=10))
        await store.land(image(1000))
        landings = [asyncio.create_task(store.land(image(number))) for number in range(300)]
        await asyncio.wait(landings, return_when=asyncio.FIRST_COMPLETED)
        own.process.kill()
        own.process.wait()
        outcomes = await asyncio.gather(*landings, return_exceptions=True)
    confirmed = {number for number, outcome in enumerate(outcomes) if outcome is None}
    assert confirmed
    assert all(isinstance(outcome, PartUnavailable) for outcome in outcomes if outcome is not None)
    with own.running():
        for number in sorted(confirmed):
            assert await store.get(image(number).record.id) is not None
        await store.close()


async def test_landing_again_heals_what_a_killed_server_lost_from_its_vector_index(own: WeaviateServer):
    """A server that is killed soon after it confirmed may find some of the last objects by id and word only."""
    images = [image(number, vector=direction(number, 64)) for number in range(200)]

    async def lost() -> list[str]:
        found = [(one.record.id, await store.similar(one.vector, limit=1)) for one in images]
        return [own_id for own_id, results in found if [one.id for one in results] != [own_id]]

    with own.running():
        store = await WeaviateStore.open(own.section)
        await asyncio.gather(*(store.land(one) for one in images))
        assert await lost() == []
        own.process.kill()
        own.process.wait()
    with own.running():
        again = set(await lost())
        await asyncio.gather(*(store.land(one) for one in images if one.record.id in again))
        assert await lost() == []
        assert await store.count() == 200
        await store.close()


async def test_a_server_that_hangs_ends_in_a_timeout(own: WeaviateServer):
    with own.running():
        store = await WeaviateStore.open(changed(own.section, timeout=3.0))
        await store.land(image(1))
        own.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(PartUnavailable) as stuck:
                async with asyncio.timeout(20):
                    await store.land(image(2))
            assert "WEAVLOADER_STORE_TIMEOUT" in str(stuck.value) or "ran out of time" in str(stuck.value)
            assert stuck.value.cause == "store_timeout"
        finally:
            own.process.send_signal(signal.SIGCONT)
        await store.land(image(2))
        await store.close()


@pytest.mark.parametrize("operation", ["land", "count"])
async def test_a_connection_that_died_without_a_word_is_replaced(collection: Weaviate, operation: str):
    """No image waits behind it longer than one timeout, and none is to blame for that."""
    with Proxy(collection.http_port) as http_port, Proxy(collection.grpc_port) as grpc_port:
        section = changed(collection, port=http_port.port, grpc_port=grpc_port.port, timeout=3.0)
        store = await WeaviateStore.open(section)
        await store.land(image(1))
        for proxy in (http_port, grpc_port):
            proxy.abandon()
        with pytest.raises(PartUnavailable) as stuck:
            await (store.land(image(2)) if operation == "land" else store.count())
        assert stuck.value.cause == "store_timeout"
        await store.land(image(2))
        assert await store.count() == 2
        await store.close()


async def test_the_canary_says_what_and_where(store: WeaviateStore, collection: Weaviate, observed: Observed):
    await store.land(image(1))
    state = await store.canary()
    assert state.ok
    assert state.detail == f"1 images in {collection.collection}"
    assert state.address == f"http://127.0.0.1:{collection.port}"
    assert observed.count("canary") == 1


async def test_the_canary_of_a_wrong_key_says_so(collection: Weaviate):
    store = WeaviateStore(changed(collection, api_key="wrong"))
    state = await store.canary()
    assert not state.ok
    assert "WEAVIATE_API_KEY" in state.detail
    await store.close()


async def test_making_a_store_opens_nothing():
    WeaviateStore(weaviate_settings(host="127.0.0.1").weaviate)


async def test_a_store_without_a_host_names_the_setting():
    with pytest.raises(ConfigurationError, match="WEAVIATE_HOST is not set"):
        WeaviateStore(Weaviate())


async def test_an_old_server_key_that_changes_meanwhile_is_refused_and_heard(own: WeaviateServer):
    with own.running():
        store = await WeaviateStore.open(own.section)
        await store.land(image(1))
    own.environment["AUTHENTICATION_APIKEY_ALLOWED_KEYS"] = "another"
    own.settings = own.settings.model_copy(update={"weaviate": changed(own.settings.weaviate, api_key="another")})
    own.section = changed(own.section, api_key="another")
    with own.running():
        for attempt in (store.land(image(2)), store.search("street", direction(1)), store.count()):
            with pytest.raises(PartUnavailable) as refusal:
                await attempt
            assert refusal.value.cause == "unauthorised"
        await store.close()


@pytest.fixture
def web_page() -> Iterator[int]:
    """The port of a web server that is no store."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a router's page</html>")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()
