"""Every module of ``tests/fixtures`` is a plugin: real servers and pictures, started once per test run."""

from pathlib import Path

import pytest

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "tests" / "fixtures").glob("[a-z]*.py"))
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``make pages``."""
    parser.addoption("--write-pages", action="store_true", help="write the sessions of docs/commands as they are now")
