"""The files of this part, read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from settings import FILE_SUFFIX, PROJECT_ROOT, entries

COMPOSE = PROJECT_ROOT / "docker-compose.yml"
ROLES_FILE = PROJECT_ROOT / "docker-compose.roles.yml"
GPU_FILE = PROJECT_ROOT / "docker-compose.gpu.yml"
SHARED_FILE = PROJECT_ROOT / "docker-compose.shared.yml"
CPU_FILE = PROJECT_ROOT / "docker-compose.cpu.yml"
S3_FILE = PROJECT_ROOT / "docker-compose.s3.yml"
COMPOSE_FILES = (COMPOSE, ROLES_FILE, GPU_FILE, CPU_FILE, SHARED_FILE, S3_FILE)
SETTINGS_FILE = PROJECT_ROOT / "deploy" / "settings.env"
SUPERVISOR = PROJECT_ROOT / "supervisord.conf"
DOCKERFILES = (PROJECT_ROOT / "Dockerfile", PROJECT_ROOT / "triton" / "Dockerfile")


def read(file: Path) -> dict[str, Any]:
    """One YAML document."""
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    return document


def services(file: Path) -> dict[str, dict[str, Any]]:
    """The services of a compose file by name."""
    found: dict[str, dict[str, Any]] = read(file)["services"]
    return found


def listed_settings() -> list[str]:
    """What containers take from the shell by name."""
    return [line for line in SETTINGS_FILE.read_text().splitlines() if line and not line.startswith("#")]


@cache
def setting_names() -> frozenset[str]:
    """Every variable that ``settings.py`` reads, files of secrets included."""
    secret = {entry.env + FILE_SUFFIX for entry in entries() if entry.secret}
    return frozenset({entry.env for entry in entries()} | secret)


def supervisor_names() -> frozenset[str]:
    """Every variable that ``supervisord.conf`` fills in."""
    return frozenset(re.findall(r"%\(ENV_(\w+)\)s", SUPERVISOR.read_text()))


def known_to_us(name: str) -> bool:
    """Whether a variable of one of our containers is read by the product or its supervisor."""
    return name in setting_names() or name in supervisor_names()
