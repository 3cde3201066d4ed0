"""The proxy between the product and a server, with an echo in the server's place."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Proxy
from tests.fixtures.house import eventually

SHORT = 0.2


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes in until the client ends, then says ``bye``."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.sendall(b"bye")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the proxy broke is what these tests are about."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.server_address[1]) as opened:
        yield opened


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def echoed(client: socket.socket, data: bytes = b"hello") -> bytes:
    client.sendall(data)
    return received(client, len(data))


def received(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (more := client.recv(count - len(got))):
        got += more
    return got


def silent(client: socket.socket) -> bool:
    """Whether nothing comes for a moment, not even an end."""
    client.settimeout(SHORT)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def test_pass_forwards_everything_both_ways_to_the_very_end(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert received(client, len(data)) == data
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert received(client, 100) == b"bye"
    eventually(lambda: proxy.connections == 0, 5)


def test_refuse_resets_connections_and_lets_none_in(proxy: Proxy) -> None:
    with connect(proxy) as client:
        echoed(client)
        proxy.mode = "refuse"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.mode = "pass"
    with connect(proxy) as client:
        assert echoed(client) == b"hello"


def test_stall_takes_bytes_and_connections_and_forwards_nothing_until_it_passes(proxy: Proxy) -> None:
    with connect(proxy) as old:
        echoed(old)
        proxy.mode = "stall"
        with connect(proxy) as new:
            old.sendall(b"hello")
            new.sendall(b"world")
            assert silent(old)
            assert silent(new)
            proxy.mode = "pass"
            assert received(old, 5) == b"hello"
            assert received(new, 5) == b"world"


def test_an_abandoned_connection_never_moves_again_and_new_ones_pass(proxy: Proxy) -> None:
    with connect(proxy) as old, connect(proxy) as new:
        echoed(old)
        echoed(new)
        proxy.abandon()
        old.sendall(b"hello")
        assert silent(old)
        proxy.mode = "stall"
        proxy.mode = "pass"
        assert silent(old)
        with connect(proxy) as client:
            assert echoed(client) == b"hello"


def test_cut_resets_what_is_open_and_lets_new_ones_in(proxy: Proxy) -> None:
    with connect(proxy) as client:
        echoed(client)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert echoed(client) == b"hello"


def test_a_delay_holds_every_chunk_back(proxy: Proxy) -> None:
    proxy.delay = SHORT
    with connect(proxy) as client:
        began = time.monotonic()
        echoed(client)
        assert time.monotonic() - began >= 2 * SHORT


def test_where_the_server_is_away_a_connection_is_broken_off(server: Server, proxy: Proxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy.target_port = unused.getsockname()[1]
        with pytest.raises(ConnectionResetError), connect(proxy) as client:
            client.recv(1)
    proxy.target_port = server.server_address[1]
    with connect(proxy) as client:
        assert echoed(client) == b"hello"
