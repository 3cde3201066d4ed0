"""supervisord's configuration and its socket."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from errors import ConfigurationError
from stack import ROLES, prometheus
from stack.folders import LONGEST_SOCKET_PATH, run_folder
from stack.parts import PARTS
from stack.supervisor import CONFIGURATION, ask, states
from tests.fixtures.stack import plain_environment, until


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_socket_is_in_the_data_folder_where_its_path_is_short_enough() -> None:
    data = Path("/d" * ((LONGEST_SOCKET_PATH - len("/run/control")) // 2))
    assert run_folder(data) == data / "run"


def test_a_path_too_long_for_a_socket_moves_it_to_a_private_folder(temporary: Path) -> None:
    data = Path("/" + "d" * LONGEST_SOCKET_PATH)
    folder = run_folder(data)
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run_folder(data) == folder
    assert run_folder(Path(f"{data}/other")) != folder


def test_a_folder_that_others_may_write_to_is_not_used(temporary: Path) -> None:
    data = Path("/" + "d" * LONGEST_SOCKET_PATH)
    run_folder(data).chmod(0o777)
    with pytest.raises(ConfigurationError, match="belongs to somebody else: remove it or set another"):
        run_folder(data)


def test_the_configuration_has_a_program_for_every_part_and_role_in_its_group() -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(CONFIGURATION)
    parts = {part.name for part in PARTS} | {prometheus.NAME}
    assert set(parser["group:parts"]["programs"].split(",")) == parts
    assert set(parser["group:roles"]["programs"].split(",")) == {*ROLES, "processors"}
    programs = {name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")}
    assert programs == parts | {*ROLES, "processors"}
    assert all(parser[f"program:{name}"]["autorestart"] == "true" for name in programs)


def test_plain_supervisord_runs_the_roles_and_no_part_with_the_documented_variables(tmp_path: Path) -> None:
    """As in a container, where the parts run elsewhere; here they are not set, so the roles end and are tried again."""
    with tempfile.TemporaryDirectory() as run:
        environment = {
            "WEAVLOADER_PYTHON": sys.executable,
            "WEAVLOADER_RUN_DIR": run,
            "WEAVLOADER_LOG_DIR": str(tmp_path),
            "WEAVLOADER_AUTOSTART": "true",
            "WEAVLOADER_AUTOSTART_WEB": "false",
            "WEAVLOADER_LOG_BYTES": "0",
            "WEAVLOADER_STOP_LIMIT": "8",
            "WEAVLOADER_FURTHER_PROCESSORS": "1",
            "WEAVLOADER_DATA_DIR": str(tmp_path),
        }
        process = subprocess.Popen(
            [Path(sys.executable).with_name("supervisord"), "-c", CONFIGURATION],
            env={**plain_environment(), **environment},
            cwd=os.sep,
        )
        control = Path(run) / "control"
        try:
            until(lambda: states(control), 30, "answering")
            found = states(control)
            assert {name for name, state in found.items() if state.state == "STOPPED"} == {
                *(part.name for part in PARTS),
                prometheus.NAME,
                "web",
            }
            for name in ("processor", "processor2"):
                log = tmp_path / f"{name}.log"
                until(lambda log=log: "CELERY_BROKER_URL" in log.read_text(), 60, "the processor's message")
        finally:
            ask(control, "shutdown")
            process.wait(20)
