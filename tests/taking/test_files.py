"""Files are whole or not there, and a folder belongs to one command and one question."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from errors import UsageError, WeavloaderError
from taking.files import FilledFolder, draft_of, whole_file, write_json
from tests.taking.conftest import names


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with suppress(ZeroDivisionError), whole_file(path) as file:
        file.write(b"%d" % (1 // 0))
    assert (path.read_bytes(), names(tmp_path)) == (b"one", ["table.csv"])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "table.csv")
    with whole_file(tmp_path / "link.csv") as file:
        file.write(b"one")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "table.csv").read_bytes() == b"one"


def test_what_is_no_plain_file_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with whole_file(pipe) as file:
        file.write(b"one")
    reader.join()
    assert (read, pipe.is_fifo()) == ([b"one"], True)


def test_the_output_of_a_command_can_be_the_table() -> None:
    writes = "from pathlib import Path; from taking.files import whole_file"
    writes += "\nwith whole_file(Path('/dev/stdout')) as file: file.write(b'one')"
    assert subprocess.run([sys.executable, "-c", writes], capture_output=True, check=True).stdout == b"one"


def test_what_cannot_be_written_is_said_with_its_name(tmp_path: Path) -> None:
    with (
        pytest.raises(WeavloaderError, match=r"nowhere/table.csv cannot be written: No such file"),
        whole_file(tmp_path / "nowhere" / "table.csv"),
    ):
        pass
    with pytest.raises(WeavloaderError, match="No space left"), whole_file(Path("/dev/full")) as file:
        file.write(b"one")


def test_a_folder_is_for_one_question(tmp_path: Path) -> None:
    folder = FilledFolder(tmp_path / "new", "mark.json")
    assert folder.check({"q": 1}) is None
    assert not (tmp_path / "new").exists()
    with folder:
        folder.note({"q": 1}, more=2)
    assert folder.check({"q": 1}) == {"query": {"q": 1}, "more": 2}
    with pytest.raises(UsageError, match="another command asked for"):
        folder.check({"q": 2})


def test_a_folder_with_somebodys_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".mine.1.part").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"), FilledFolder(tmp_path, "mark.json") as folder:
        folder.check({})
    assert names(tmp_path) == [".mine.1.part"]


def test_what_a_killed_command_left_unfinished_is_removed(tmp_path: Path) -> None:
    write_json(tmp_path / "mark.json", {"query": {}})
    draft_of(tmp_path / "part").write_text("half")
    with FilledFolder(tmp_path, "mark.json") as folder:
        assert folder.check({}) == {"query": {}}
    assert names(tmp_path) == ["mark.json"]


def test_a_mark_that_is_none_is_named(tmp_path: Path) -> None:
    for text in ("{", "[]"):
        (tmp_path / "mark.json").write_text(text)
        with pytest.raises(WeavloaderError, match=r"mark.json .*remove it"):
            FilledFolder(tmp_path, "mark.json").check({})


def test_two_commands_do_not_fill_a_folder_at_once(tmp_path: Path) -> None:
    holds = "from pathlib import Path; from taking.files import FilledFolder; import sys"
    holds += "\nwith FilledFolder(Path(sys.argv[1]), 'mark.json'): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(WeavloaderError, match="another command fills"), FilledFolder(tmp_path, "mark.json"):
            pass
        other.kill()
    with FilledFolder(tmp_path, "mark.json"):
        pass
