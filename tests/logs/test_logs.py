"""Every line of a role's log carries its tag, and none a credential."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

import logs
from settings import PROJECT_ROOT

START = """
import logging, sys, threading, warnings
import logs, settings
log = logs.get("processing")
logs.configure(settings.Logging(format=sys.argv[1], level=sys.argv[2]), "processor", secrets=["redis://:p%40ssw@h/0"])
"""

EVERYTHING = """
log.info("landed", image="4b3d", attempt=2, seconds=0.25)
logging.getLogger("celery.worker").warning("Connected to %s", "redis://:hunter2@h:6379/0")
logging.getLogger("aiohttp.client").error("two\\nlines")
try:
    raise ValueError("bad\\npicture")
except ValueError:
    log.exception("failed", image="4b3d")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
raise RuntimeError("the end")
"""


def run(program: str, format: str, level: str = "INFO") -> list[str]:
    """The lines on standard error of a process that logs."""
    done = subprocess.run(
        [sys.executable, "-c", START + program, format, level],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("format", ["console", "json"])
def test_the_tag_is_literally_in_every_line(format: str) -> None:
    """Also in those of libraries, warnings, tracebacks and uncaught errors."""
    lines = run(EVERYTHING, format)
    assert len(lines) >= 7
    assert [line for line in lines if "[PROCESSOR]" not in line] == []
    text = "\n".join(lines)
    for part in ("landed", "Connected to", "lines", "bad", "old", "ZeroDivisionError", "the end"):
        assert part in text


def test_what_is_open_at_the_end_is_no_line_without_a_tag() -> None:
    """A library that shows all warnings shows them to the very end, when nothing formats them any more."""
    program = "warnings.simplefilter('default'); sys.left = open(__import__('os').devnull); log.info('x')"
    assert len(run(program, "console")) == 1


def test_json_is_one_object_a_line_with_event_fields_and_traceback() -> None:
    lines = [json.loads(line) for line in run(EVERYTHING, "json")]
    landed = lines[0]
    assert {key: landed[key] for key in ("tag", "level", "logger", "event", "image", "attempt", "seconds")} == {
        "tag": "[PROCESSOR]",
        "level": "info",
        "logger": "processing",
        "event": "landed",
        "image": "4b3d",
        "attempt": 2,
        "seconds": 0.25,
    }
    (failed,) = [line for line in lines if line["event"] == "failed"]
    assert failed["level"] == "error"
    assert "ValueError: bad\npicture" in failed["exception"]


def test_console_shows_fields_behind_the_event() -> None:
    assert run(EVERYTHING, "console")[0].endswith("[PROCESSOR] processing: landed image=4b3d attempt=2 seconds=0.25")


@pytest.mark.parametrize("format", ["console", "json"])
def test_times_are_iso_8601_in_utc(format: str) -> None:
    (line,) = run("log.info('x')", format)
    text = json.loads(line)["timestamp"] if format == "json" else line.split()[0]
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)


def test_the_level_is_that_of_the_setting_for_everyone() -> None:
    program = "log.info('no'); log.warning('yes'); logging.getLogger('kombu').info('no')"
    (line,) = run(program, "console", "WARNING")
    assert "yes" in line


def test_libraries_that_tell_every_request_do_so_at_debug_only() -> None:
    program = "logging.getLogger('httpx').info('HTTP Request: GET /')"
    assert run(program, "console", "INFO") == []
    assert len(run(program, "console", "DEBUG")) == 1


def test_configuring_again_replaces_and_does_not_double() -> None:
    program = "logs.configure(settings.Logging(), 'MODERATOR'); log.info('x')"
    (line,) = run(program, "console")
    assert "[MODERATOR]" in line


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_field_called_like_one_of_ours_does_not_hide_the_tag(format: str) -> None:
    (line,) = run("log.info('x', tag='fake', filename='a.jpg', name='n', args=1)", format)
    assert "[PROCESSOR]" in line
    assert "a.jpg" in line


WITH_CREDENTIALS = "\n".join(
    [
        "log.info('x', url='https://user:hunter2@h/a.jpg')",
        "log.info('x', url='https://h/a.jpg?X-Amz-Signature=hunter2&X-Amz-Date=1')",
        "log.info('x', url='https://h:8443/a.jpg?authz=Bearer%20hunter2')",
        "log.info('x', password='hunter2', api_key='hunter2', SAGE_PASS='hunter2')",
        "log.info('x', headers={'Authorization': 'Basic hunter2'})",
        "log.info('x', headers=[('a', {'X-Api-Key': 'hunter2'})])",
        "log.info('x', error=ValueError('at redis://:hunter2@h:6379/0'))",
        "logging.getLogger('kombu').error('Cannot connect to rediss://u:%s@h:6379//', 'hunter2')",
        "logging.getLogger('aiohttp').error(\"{'Authorization': 'Bearer hunter2'}\")",
        "logging.getLogger('aiohttp').error('authorization: Basic hunter2')",
        "logging.getLogger('aiohttp').error('GET /a.jpg?token=hunter2&x=1 HTTP/1.1')",
        "logging.getLogger('x').error('password=hunter2')",
        "raise RuntimeError('https://u:hunter2@h/')",
    ]
)


@pytest.mark.parametrize("format", ["console", "json"])
def test_credentials_are_never_shown(format: str) -> None:
    """In URLs, queries, headers, fields, messages of libraries, errors and tracebacks."""
    lines = run(WITH_CREDENTIALS, format)
    assert len(lines) >= len(WITH_CREDENTIALS.splitlines())
    assert [line for line in lines if "hunter2" in line] == []


@pytest.mark.parametrize("written", ["p@ssw", "p%40ssw"])
def test_a_configured_secret_is_found_wherever_it_stands(written: str) -> None:
    (line,) = run(f"log.info('it is {written} indeed', reason='{written}')", "json")
    assert written not in line
    assert "it is *** indeed" in line


@pytest.mark.parametrize("name", ["API_KEY", "ap\u0131_key", "AP\u0130_KEY", "\u017fecret"])
def test_a_credential_is_found_however_its_name_is_written(name: str) -> None:
    """Letters that are an i or an s where case does not count."""
    assert logs.scrubbed(f"{name}=hunter2") == f"{name}=***"


def test_what_is_no_credential_stays_as_it_is() -> None:
    for text in (
        "https://storage.example/api/v1/data/a@2x.jpg",
        "Basic authentication failed",
        "lease 12 of token 5",
        "caption: a cup of coffee",
        "mail a@b.example",
    ):
        assert logs.scrubbed(text) == text


def test_a_number_called_token_is_shown() -> None:
    """It is a lease's fencing token, not a credential."""
    (line,) = run("log.info('leased', token=5)", "console")
    assert line.endswith("leased token=5")


def test_importing_logs_configures_nothing() -> None:
    program = "import logging, logs; logs.get('x').warning('y'); print(logging.getLogger().handlers)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


TOGETHER = """
import os
logs.configure(settings.Logging(), "processor", linger=60)
log.info("first")
log.info("second")
"""


def events(lines: list[str]) -> list[str]:
    """The last word of each line."""
    return [line.split()[-1] for line in lines]


def test_lines_that_wait_are_written_in_order_when_the_process_ends() -> None:
    program = TOGETHER + "os.write(2, b'meanwhile\\n')"
    assert events(run(program, "console")) == ["meanwhile", "first", "second"]


def test_a_warning_writes_what_waits_before_it_at_once() -> None:
    program = TOGETHER + "log.warning('third'); os.write(2, b'meanwhile\\n')"
    assert events(run(program, "console")) == ["first", "second", "third", "meanwhile"]


def test_lines_that_wait_are_written_while_the_process_lives() -> None:
    program = START + TOGETHER.replace("60", "0.01") + "sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "console", "INFO"],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert events([process.stderr.readline().strip() for _ in range(2)]) == ["first", "second"]


def test_a_line_tells_what_was_so_when_it_was_told_however_long_it_waits() -> None:
    """Its time, and a field that changes afterwards."""
    program = (
        "import time\nlogs.configure(settings.Logging(), 'processor', linger=60)\nimages = ['4b3d']\n"
        "log.info('first', images=images)\nlog.info('second')\nimages.clear()\ntime.sleep(0.5)\nlog.warning('third')"
    )
    first, second, third = run(program, "console")
    assert "4b3d" in first
    told = [datetime.fromisoformat(line.split()[0]) for line in (first, second, third)]
    assert told[2] - told[1] >= timedelta(seconds=0.5) > told[1] - told[0]


def test_a_line_that_cannot_be_made_takes_no_other_with_it() -> None:
    """Also where a library's is given the wrong arguments."""
    program = TOGETHER + "logging.getLogger('library').info('%d', 'none'); log.info('third')"
    assert [line for line in run(program, "console") if "library" in line and "[PROCESSOR]" in line] == []
    assert events([line for line in run(program, "console") if "[PROCESSOR]" in line]) == ["first", "second", "third"]


def test_a_forked_child_does_not_write_its_parents_lines_again() -> None:
    program = TOGETHER + "child = os.fork(); log.info('third'); child and os.waitpid(child, 0)"
    assert sorted(events(run(program, "console"))) == ["first", "second", "third", "third"]


IN_A_LOOP = """
import asyncio
class PollerCompletionQueue:
    def _handle_events(self): raise BlockingIOError(11, "nothing there")
    def other(self): raise BlockingIOError(11, "a full pipe")
async def main():
    asyncio.get_running_loop().call_soon(PollerCompletionQueue().{name})
    await asyncio.sleep(0)
asyncio.run(main())
"""


@pytest.mark.parametrize(("name", "told"), [("_handle_events", False), ("other", True)])
def test_that_grpc_woke_a_loop_for_nothing_is_no_line(name: str, told: bool) -> None:
    assert bool(run(IN_A_LOOP.format(name=name), "console")) == told
