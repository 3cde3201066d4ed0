"""Roles and other terminals see the settings that the stack was started with."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from settings import STACK_FILE, Jobs, Sage, Settings, Triton, Weaviate, load
from stack import handover

SECRET = "se%cr(et)s"


def settings_of(data: Path) -> Settings:
    loaded = load({"WEAVLOADER_DATA_DIR": str(data), "SAGE_USER": "someone", "SAGE_PASS": SECRET}, data / "none.toml")
    return loaded.settings.model_copy(
        update={
            "jobs": Jobs(broker_url="redis://:key@127.0.0.1:1/0", retry_delays=(1, 2), allow_unsafe_redis=True),
            "triton": Triton(host="127.0.0.1", port=2, models=("one", "two")),
            "weaviate": Weaviate(host="127.0.0.1", port=3, api_key="key"),
        }
    )


def test_a_role_loads_from_its_environment_what_the_stack_was_started_with(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert load(handover.environment(settings), tmp_path / "none.toml").settings == settings


def test_another_terminal_loads_the_running_stack_s_parts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (tmp_path / "run").mkdir()
    handover.announce(settings, tmp_path / "run" / "control")
    found = load({"WEAVLOADER_DATA_DIR": str(tmp_path)}, tmp_path / "none.toml")
    assert (found.settings.jobs, found.settings.triton, found.settings.weaviate) == (
        settings.jobs,
        settings.triton,
        settings.weaviate,
    )
    assert found.origins["WEAVIATE_API_KEY"] == "running stack"
    assert found.settings.sage == Sage()


def test_the_stack_file_is_the_owner_s_and_holds_no_login_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    handover.announce(settings_of(tmp_path), tmp_path / "run" / "control")
    file = tmp_path / STACK_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["pid"] == os.getpid()
    assert SECRET not in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == [file.name]
