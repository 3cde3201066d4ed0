"""Which models the settings file names is changed without touching anything else of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from errors import ConfigurationError
from settings import load
from stack.choosing import CHOICES, write


def test_a_file_is_made_and_the_settings_read_it(tmp_path: Path) -> None:
    file = tmp_path / "weavloader.toml"
    write(file, {**CHOICES["light"], "WEAVLOADER_COLLECTION": "Others"})
    loaded = load({}, file)
    assert (loaded.settings.triton.captioner, loaded.settings.triton.embedder) == (
        "florence2_captioner",
        "clip_vit_b32",
    )
    assert loaded.settings.weaviate.collection == "Others"
    write(file, CHOICES["packaged"])
    assert load({}, file).settings.triton == load({}, tmp_path / "none.toml").settings.triton


def test_what_else_stands_there_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "weavloader.toml"
    before = '# mine\n[paths]\ncache = "x"  # here\n\n[ triton ]\n# a note\ncaptioner = "gemma3"\nport = 9001\n\n[web]'
    file.write_text(before)
    write(file, CHOICES["light"])
    after = file.read_text()
    assert {"# mine", 'cache = "x"  # here', "# a note", "port = 9001", "[web]"} <= set(after.splitlines())
    assert tomllib.loads(after)["triton"] == {
        "captioner": "florence2_captioner",
        "embedder": "clip_vit_b32",
        "port": 9001,
    }
    write(file, CHOICES["packaged"])
    assert file.read_text() == before.replace('captioner = "gemma3"\n', "") + "\n"


@pytest.mark.parametrize(
    "text",
    ['triton.captioner = "x"\n', "[triton\n", '[triton]\ncaptioner = """\na\n"""\n', "text = '''\n[triton]\n'''\n"],
)
def test_a_file_that_cannot_be_changed_safely_is_left_and_said_what_to_write(tmp_path: Path, text: str) -> None:
    file = tmp_path / "weavloader.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r'by hand into .*\[triton\] captioner = "florence2_captioner"'):
        write(file, CHOICES["light"])
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["weavloader.toml"]


def test_what_only_its_owner_may_read_stays_so_behind_a_link(tmp_path: Path) -> None:
    file = tmp_path / "kept.toml"
    file.write_text('[sage]\npassword = "x"\n')
    file.chmod(0o600)
    (tmp_path / "weavloader.toml").symlink_to(file)
    write(tmp_path / "weavloader.toml", CHOICES["light"])
    assert (file.stat().st_mode & 0o777, "clip_vit_b32" in file.read_text()) == (0o600, True)
    assert (tmp_path / "weavloader.toml").is_symlink()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_no_draft_with_its_passwords_is_left_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    file = tmp_path / "weavloader.toml"
    file.write_text('[sage]\npassword = "x"\n')

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("stack.choosing.settle", fail)
    with pytest.raises((ConfigurationError, KeyboardInterrupt)):
        write(file, CHOICES["light"])
    assert [path.name for path in tmp_path.iterdir()] == ["weavloader.toml"]
    assert file.read_text() == '[sage]\npassword = "x"\n'


def test_a_draft_that_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    file = tmp_path / "weavloader.toml"
    (tmp_path / f".{file.name}.1.weavloader-draft").write_text('[sage]\npassword = "x"\n')
    write(file, CHOICES["light"])
    assert [path.name for path in tmp_path.iterdir()] == ["weavloader.toml"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be changed \(No such file or directory\)"):
        write(tmp_path / "nowhere" / "weavloader.toml", CHOICES["light"])
