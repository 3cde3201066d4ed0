"""Every module of ``tests/fixtures`` is a plugin: real servers and pictures, started once per test run."""

from pathlib import Path

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "tests" / "fixtures").glob("[a-z]*.py"))
]
