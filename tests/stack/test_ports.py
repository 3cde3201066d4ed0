"""Ports are checked before anything starts."""

from __future__ import annotations

import os
import socket

import pytest

from errors import ConfigurationError
from stack.ports import PortUse, check
from tests.fixtures.stack import free_ports


def test_free_ports_pass() -> None:
    one, other = free_ports(2)
    check([PortUse("Valkey", "WEAVLOADER_REDIS_PORT", one), PortUse("metrics", "WEAVLOADER_METRICS_PORT", other)])


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_setting_and_its_holder(address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            check([PortUse("metrics", "WEAVLOADER_METRICS_PORT", port)])
    message = str(caught.value)
    assert f"port {port} for metrics is taken by the process {os.getpid()} (" in message
    assert "set WEAVLOADER_METRICS_PORT to a free port" in message


def test_a_port_that_was_just_given_up_is_free() -> None:
    """Connections of an earlier run linger in TIME_WAIT; they do not hinder a server."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    check([PortUse("Valkey", "WEAVLOADER_REDIS_PORT", port)])


def test_two_settings_with_one_port_are_both_named() -> None:
    port = free_ports(1)[0]
    with pytest.raises(
        ConfigurationError, match=rf"WEAVIATE_PORT \(Weaviate\) and WEAVLOADER_METRICS_PORT .* both port {port}"
    ):
        check([PortUse("Weaviate", "WEAVIATE_PORT", port), PortUse("metrics", "WEAVLOADER_METRICS_PORT", port)])


def test_a_host_that_is_not_this_machine_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"Flower cannot listen on 192\.0\.2\.1:.*WEAVLOADER_FLOWER_PORT"):
        check([PortUse("Flower", "WEAVLOADER_FLOWER_PORT", free_ports(1)[0], "192.0.2.1")])
