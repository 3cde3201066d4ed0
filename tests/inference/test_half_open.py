"""A connection to Triton whose other side is gone without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from errors import PartUnavailable, WeavloaderError
from inference import TritonConnection, canary, open_captioner, open_embedder
from settings import Triton
from tests.chaos.proxy import Proxy
from tests.fixtures.house import eventually
from tests.inference.conftest import coloured

TEAL = (20, 150, 160)
SECONDS = 1.0


@pytest.fixture
def proxy(triton_server: Triton) -> Iterator[Proxy]:
    with Proxy(triton_server.port) as opened:
        yield opened


@pytest.fixture
def section(triton_server: Triton, proxy: Proxy) -> Triton:
    """The server behind the proxy, whose models have little time."""
    models = {"captioner": "plain_captioner", "embedder": "plain_embedder"}
    return triton_server.model_copy(update={"port": proxy.port, "timeout": SECONDS, **models})


@pytest.fixture
async def connection(section: Triton) -> AsyncIterator[TritonConnection]:
    opened = TritonConnection(section)
    yield opened
    await opened.close()


async def test_after_one_deadline_a_new_connection_serves(
    connection: TritonConnection, section: Triton, proxy: Proxy
) -> None:
    captioner = open_captioner(section, connection)
    await captioner.caption(coloured(TEAL))
    proxy.abandon()
    with pytest.raises(PartUnavailable, match="does not answer"):
        await captioner.caption(coloured(TEAL))
    assert (await captioner.caption(coloured(TEAL))).text


async def test_all_requests_on_the_dead_connection_end_as_an_unavailable_part_by_their_own_deadlines(
    connection: TritonConnection, section: Triton, proxy: Proxy
) -> None:
    captioner = open_captioner(section, connection)
    await captioner.caption(coloured(TEAL))
    proxy.abandon()

    async def after(seconds: float) -> BaseException | None:
        await asyncio.sleep(seconds)
        try:
            await captioner.caption(coloured(TEAL))
        except WeavloaderError as error:
            return error
        return None

    # The last ones are under way when the first one gives the connection up.
    ends = await asyncio.gather(*(after(step * SECONDS / 8) for step in range(8)))
    assert {type(end) for end in ends} == {PartUnavailable}
    assert (await captioner.caption(coloured(TEAL))).text


async def test_the_canary_finds_the_server_again(connection: TritonConnection, section: Triton, proxy: Proxy) -> None:
    models = open_captioner(section, connection), open_embedder(section, connection)
    assert (await canary(connection, *models)).ok
    proxy.abandon()
    assert not (await canary(connection, *models, deadline_seconds=SECONDS / 2)).ok
    assert (await canary(connection, *models)).ok


async def test_closing_ends_what_was_given_up_too(connection: TritonConnection, section: Triton, proxy: Proxy) -> None:
    await connection.live()
    proxy.abandon()
    with pytest.raises(PartUnavailable):
        await connection.live(SECONDS)
    await connection.live()
    assert open_to(proxy.port) == 2
    await connection.close()
    await asyncio.to_thread(eventually, lambda: not open_to(proxy.port), 5)


def open_to(port: int) -> int:
    """How many connections to the port this machine's programs have open (the kernel's state 01)."""
    files = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
    lines = [line.split() for file in files for line in file.read_text().splitlines()[1:]]
    return sum(int(words[2].partition(":")[2], 16) == port and words[3] == "01" for words in lines)
