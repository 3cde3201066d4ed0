"""Settings: where values come from, and how wrong ones are refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import settings
from commands.looking import settings_table
from errors import ConfigurationError
from settings import PROJECT_ROOT, load


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A settings file that is not there."""
    return tmp_path / "none.toml"


def write_stack(data: Path, **values: str) -> None:
    """What a stack that this very process runs would write down."""
    (data / "run").mkdir(parents=True)
    stack = {"pid": os.getpid(), "started": settings.process_started(os.getpid()), "values": values}
    (data / settings.STACK_FILE).write_text(json.dumps(stack))


def test_no_setting_is_needed(nothing: Path) -> None:
    assert load({}, nothing).settings.triton.port == 8001


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "weavloader.toml"
    file.write_text('[triton]\nport = 9001\ncaptioner = "gemma3"\n')
    loaded = load({"TRITON_PORT": "9002"}, file)
    assert (loaded.settings.triton.port, loaded.origins["TRITON_PORT"]) == (9002, "environment")
    assert (loaded.settings.triton.captioner, loaded.origins["WEAVLOADER_CAPTIONER"]) == ("gemma3", "weavloader.toml")
    assert loaded.origins["WEAVLOADER_EMBEDDER"] == "default"


def test_an_empty_variable_counts_as_not_set(nothing: Path) -> None:
    assert load({"TRITON_PORT": ""}, nothing).settings.triton.port == 8001


def test_denied_nodes_are_a_trimmed_comma_list(nothing: Path) -> None:
    assert load({"UNALLOWED_NODES": " W001 ,w002,, "}, nothing).settings.sage.unallowed_nodes == ("W001", "w002")


def test_a_running_stack_fills_in_what_nobody_set(tmp_path: Path, nothing: Path) -> None:
    write_stack(tmp_path, CELERY_BROKER_URL="redis://127.0.0.1:7000/0")
    loaded = load({"WEAVLOADER_DATA_DIR": str(tmp_path)}, nothing)
    assert loaded.settings.jobs.broker_url == "redis://127.0.0.1:7000/0"
    assert loaded.origins["CELERY_BROKER_URL"] == "running stack"


def test_a_stack_whose_process_is_gone_counts_for_nothing(tmp_path: Path, nothing: Path) -> None:
    write_stack(tmp_path, CELERY_BROKER_URL="redis://127.0.0.1:7000/0")
    file = tmp_path / settings.STACK_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "started": "1"}))
    assert load({"WEAVLOADER_DATA_DIR": str(tmp_path)}, nothing).settings.jobs.broker_url == ""


def test_the_local_key_is_not_sent_to_a_foreign_store(tmp_path: Path, nothing: Path) -> None:
    write_stack(tmp_path, WEAVIATE_HOST="127.0.0.1", WEAVIATE_API_KEY="local key")
    foreign = load({"WEAVLOADER_DATA_DIR": str(tmp_path), "WEAVIATE_HOST": "store.example"}, nothing)
    assert foreign.settings.weaviate.api_key == ""


def test_where_only_the_demo_runs_commands_find_the_demo(tmp_path: Path, nothing: Path) -> None:
    write_stack(tmp_path / "mine-demo", TRITON_HOST="127.0.0.1")
    loaded = load({"WEAVLOADER_DATA_DIR": str(tmp_path / "mine")}, nothing)
    assert loaded.settings.paths.data == tmp_path / "mine-demo"
    assert loaded.settings.triton.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"TRITON_PORT": "abc"}, "TRITON_PORT"),
        ({"TRITON_PORT": "0"}, "TRITON_PORT"),
        ({"WEAVLOADER_RETRY_DELAYS": "1,-2"}, "WEAVLOADER_RETRY_DELAYS"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        ({"WEAVLOADER_LOG_FORMAT": "xml"}, "WEAVLOADER_LOG_FORMAT"),
        ({"CELERY_BROKER_URL": "amqp://x"}, "CELERY_BROKER_URL"),
        ({"SAGE_USER": "u"}, "SAGE_PASS"),
        ({"FLOWER_BASIC_AUTH": "nopassword"}, "FLOWER_BASIC_AUTH"),
        ({"WEAVLOADER_IN_FLIGHT": "0"}, "WEAVLOADER_IN_FLIGHT"),
        ({"WEAVLOADER_PREPARE_THREADS": "0"}, "WEAVLOADER_PREPARE_THREADS"),
        ({"WEAVLOADER_LEASE": "0"}, "WEAVLOADER_LEASE"),
        ({"WEAVLOADER_LEASE": "inf"}, "WEAVLOADER_LEASE"),
        ({"WEAVLOADER_LANDING_BATCH": "0"}, "WEAVLOADER_LANDING_BATCH"),
        ({"WEAVLOADER_IMAGE_FORMATS": "FOO"}, "WEAVLOADER_IMAGE_FORMATS"),
        ({"WEAVLOADER_IMAGE_FORMATS": ","}, "WEAVLOADER_IMAGE_FORMATS"),
        ({"WEAVLOADER_MAX_IMAGE_BYTES": "-5"}, "WEAVLOADER_MAX_IMAGE_BYTES"),
        ({"WEAVLOADER_STOP_SECONDS": "60"}, "WEAVLOADER_STOP_SECONDS"),
        ({"WEAVLOADER_VISIBILITY_TIMEOUT": "10"}, "WEAVLOADER_VISIBILITY_TIMEOUT"),
        ({"WEAVLOADER_KEEP_DISK": "0.9"}, "WEAVLOADER_KEEP_DISK"),
        ({"WEAVLOADER_KEEP_DISK": "1"}, "WEAVLOADER_KEEP_DISK"),
        ({"WEAVLOADER_SAGE_STORAGE_URL": "ftp://x"}, "WEAVLOADER_SAGE_STORAGE_URL"),
        ({"HF_ENDPOINT": "https://user:hunter2@hub.example"}, "HF_TOKEN"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_origin(environment: dict[str, str], named: str, nothing: Path) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        load(environment, nothing)
    assert "\n" not in str(refused.value)
    assert "environment" in str(refused.value) or named == "SAGE_PASS"


@pytest.mark.parametrize(
    "text", ["port = 1", "[triton]\nprot = 1", "[triton\n", "[nothing]\nx = 1", "[triton]\nport = 'x'"]
)
def test_a_wrong_settings_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "weavloader.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"weavloader\.toml"):
        load({}, file)


@pytest.mark.parametrize(
    ("name", "url"),
    [("CELERY_BROKER_URL", "amqp://user:hunter2@host"), ("HF_ENDPOINT", "https://user:hunter2@hub.example")],
)
def test_no_secret_stands_in_an_error(name: str, url: str, nothing: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({name: url}, nothing)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0", "redis://***@h:1/0"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://h:1/0?password=pw&x=1", "rediss://h:1/0?password=***&x=1"),
        ("sentinel://h/0?master_name=m&sentinel_password=pw", "sentinel://h/0?master_name=m&sentinel_password=***"),
        ("sentinel://:pw@a:1;sentinel://:pw@b:2", "sentinel://***@a:1;sentinel://***@b:2"),
    ],
)
def test_passwords_are_hidden_in_urls(url: str, shown: str) -> None:
    assert settings.without_password(url) == shown


def test_the_readme_lists_every_setting_as_it_is() -> None:
    table = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", (PROJECT_ROOT / "README.md").read_text(), re.S)
    assert table
    assert table[1].strip() == settings_table(), "run `make readme`"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.Settings().triton.port = 1  # type: ignore[misc]


def test_a_secret_may_stand_in_a_file(tmp_path: Path, nothing: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\n")
    loaded = load({"WEAVIATE_API_KEY_FILE": str(file)}, nothing)
    assert loaded.settings.weaviate.api_key == "from a file"
    assert loaded.origins["WEAVIATE_API_KEY"] == str(file)
    assert "from a file" in settings.secrets_of(loaded.settings)


def test_a_variable_goes_before_its_file_and_an_empty_file_counts_as_not_set(tmp_path: Path, nothing: Path) -> None:
    file = tmp_path / "key"
    file.write_text("")
    assert load({"WEAVIATE_API_KEY_FILE": str(file)}, nothing).settings.weaviate.api_key == ""
    both = load({"WEAVIATE_API_KEY_FILE": str(tmp_path / "none"), "WEAVIATE_API_KEY": "given"}, nothing)
    assert both.settings.weaviate.api_key == "given"


def test_a_file_of_a_secret_that_cannot_be_read_is_named(tmp_path: Path, nothing: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"SAGE_PASS_FILE: .*/none cannot be read \(No such file"):
        load({"SAGE_PASS_FILE": str(tmp_path / "none")}, nothing)


def test_only_secrets_are_taken_from_files(tmp_path: Path, nothing: Path) -> None:
    assert load({"TRITON_HOST_FILE": str(tmp_path / "none")}, nothing).settings.triton.host == ""


def test_a_disk_may_be_kept_below_the_share_from_which_on_the_store_is_read_only(nothing: Path) -> None:
    assert load({"WEAVLOADER_KEEP_DISK": "0.89"}, nothing).settings.keep.disk == 0.89


def test_a_stop_may_take_longer_where_its_limit_is_higher(nothing: Path) -> None:
    given = {"WEAVLOADER_STOP_SECONDS": "120", "WEAVLOADER_STOP_LIMIT": "140"}
    assert load(given, nothing).settings.jobs.stop == 120
