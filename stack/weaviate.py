"""The embedded store: a real Weaviate server on loopback, with an API key.

Of its ports only the HTTP one can be bound to an address; gRPC and the cluster's data port listen on every interface.
So the API key is always on, and the cluster's data port, which knows no API keys, gets a user and password of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from errors import ConfigurationError, PartUnavailable
from settings import Settings, Weaviate
from stack.launch import Launch
from stack.weaviate_install import Installed, install

__all__ = ["Installed", "api_key", "install", "launch", "local", "ports", "wait_ready"]

LOOPBACK = "127.0.0.1"
KEY_FILE = "weaviate.key"
#: Where the server leaves its back-ups, until they are taken from there.
BACKUPS = "backups"
USER = "weavloader"
CLUSTER_PORTS = 4


def ports(settings: Settings) -> dict[str, int]:
    """Every port of the embedded server by the setting that moves it."""
    section = settings.weaviate
    first = {"WEAVIATE_PORT": section.http_port, "WEAVIATE_GRPC_PORT": section.grpc_port}
    for number in range(CLUSTER_PORTS):
        name = "WEAVLOADER_WEAVIATE_CLUSTER_PORTS" + (f" (+{number})" if number else "")
        first[name] = section.cluster_ports + number
    if section.metrics_port:
        first["WEAVLOADER_WEAVIATE_METRICS_PORT"] = section.metrics_port
    return first


def api_key(data: Path) -> str:
    """The embedded server's API key, made once and kept in the data folder for its owner's eyes only (mode 0600)."""
    path = data / KEY_FILE
    with suppress(FileNotFoundError):
        if key := path.read_text("ascii").strip():
            return key
    data.mkdir(parents=True, exist_ok=True)
    draft = data / f".{KEY_FILE}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        os.link(draft, path)  # fails where another process was first: then theirs counts
    except FileExistsError:
        if not path.read_text("ascii").strip():
            draft.replace(path)
    draft.unlink(missing_ok=True)
    return path.read_text("ascii").strip()


def local(settings: Settings, data: Path) -> Weaviate:
    """The settings' section as clients of the embedded server need it: its address and its API key.

    A WEAVIATE_API_KEY that is set becomes the embedded server's key.
    """
    section = settings.weaviate
    return section.model_copy(
        update={"host": LOOPBACK, "port": section.http_port, "api_key": section.api_key or api_key(data)}
    )


def launch(settings: Settings, installed: Installed, data: Path) -> Launch:
    """How to start the server on the data folder ``data`` (its own: objects in ``data/db``, the rest beside it)."""
    section = local(settings, data)
    if section.cluster_ports < 1024 or section.cluster_ports + CLUSTER_PORTS > 65536:
        raise ConfigurationError(
            f"WEAVLOADER_WEAVIATE_CLUSTER_PORTS={section.cluster_ports}: Weaviate takes that port and the next three,"
            " all of 1024 to 65535; choose another first port."
        )
    database = data / "db"
    database.mkdir(parents=True, exist_ok=True)
    (data / BACKUPS).mkdir(exist_ok=True)
    environment = {
        "PERSISTENCE_DATA_PATH": str(database),
        "DEFAULT_VECTORIZER_MODULE": "none",
        "ENABLE_MODULES": "backup-filesystem",
        "BACKUP_FILESYSTEM_PATH": str(data / BACKUPS),
        "AUTOSCHEMA_ENABLED": "false",
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": section.api_key,
        "AUTHENTICATION_APIKEY_USERS": USER,
        "AUTHORIZATION_ADMINLIST_ENABLED": "true",
        "AUTHORIZATION_ADMINLIST_USERS": USER,
        "CLUSTER_HOSTNAME": "node1",
        "CLUSTER_IN_LOCALHOST": "true",
        "CLUSTER_BIND_ADDR": LOOPBACK,
        "CLUSTER_ADVERTISE_ADDR": LOOPBACK,
        "CLUSTER_GOSSIP_BIND_PORT": str(section.cluster_ports),
        "CLUSTER_DATA_BIND_PORT": str(section.cluster_ports + 1),
        "CLUSTER_BASIC_AUTH_USERNAME": USER,
        "CLUSTER_BASIC_AUTH_PASSWORD": hashlib.sha256(f"cluster {section.api_key}".encode()).hexdigest(),
        "RAFT_PORT": str(section.cluster_ports + 2),
        "RAFT_INTERNAL_RPC_PORT": str(section.cluster_ports + 3),
        "RAFT_JOIN": "node1",
        "RAFT_BOOTSTRAP_EXPECT": "1",
        "RAFT_TIMEOUTS_MULTIPLIER": "1",  # ready in 2.4 s; one node needs no patience with others
        "GRPC_PORT": str(section.grpc_port),
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "PROMETHEUS_MONITORING_ENABLED": "true" if section.metrics_port else "false",
        "PROMETHEUS_MONITORING_PORT": str(section.metrics_port or ""),
        "LOG_LEVEL": "info",  # the name is also one of our settings, with other values
    }
    address = ("--host", LOOPBACK, "--port", str(section.http_port), "--scheme", "http")
    timeouts = ("--read-timeout=600s", "--write-timeout=600s")
    return Launch((str(installed.binary), *address, *timeouts), environment)


def wait_ready(settings: Settings, deadline_seconds: float) -> None:
    """Return when the store answers an authenticated request over HTTP and listens for gRPC.

    The host is loopback unless set; the API key is the section's (``local`` fills it in for the embedded server).
    Raises ``PartUnavailable`` when it does not in time, or refuses the API key.
    """
    section = settings.weaviate
    host = section.host or LOOPBACK
    url = f"{'https' if section.secure else 'http'}://{host}:{section.http_port}"
    deadline = time.monotonic() + deadline_seconds
    while (why := _not_ready(section, host, url)) is not None:
        if time.monotonic() >= deadline:
            raise PartUnavailable(
                "weaviate",
                f"Weaviate at {url} was not ready after {deadline_seconds:g} s: {why}. Look into its log, or check"
                " WEAVIATE_HOST, WEAVIATE_PORT and WEAVIATE_GRPC_PORT.",
            )
        time.sleep(0.05)


def _not_ready(section: Weaviate, host: str, url: str) -> str | None:
    """Why the store cannot serve yet, or None."""
    request = urllib.request.Request(f"{url}/v1/schema")
    if section.api_key:
        request.add_header("Authorization", f"Bearer {section.api_key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/v1/.well-known/ready", timeout=5), opener.open(request, timeout=5) as answer:
            json.load(answer)
        with socket.create_connection((host, section.grpc_port), timeout=5):
            return None
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                raise PartUnavailable(
                    "weaviate",
                    f"Weaviate at {url} refused the API key: check WEAVIATE_API_KEY",
                    cause="unauthorised",
                ) from None
            return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
