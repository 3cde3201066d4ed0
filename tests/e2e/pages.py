"""The sessions in the pages of docs: what is read of them, how they are compared, how they are written again.

A session is a fenced block `console`, in which a line that begins with ``$ `` is a command and the lines after it are
what it prints. Comments before a block are stage directions (what their NAMEs are says ``stage.py``):
``<!-- meanwhile: NAME -->`` for what happens before it, ``<!-- at "WORDS": NAME -->`` for what happens while its first
command runs, as soon as that prints a line that begins with WORDS, and ``<!-- counts vary -->`` where whole numbers
depend on the moment. docs/commands/README.md states the rule by which a session is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "commands"
#: Pages with a session that are not a command's.
OTHERS = (ROOT / "docs" / "standing-searches.md",)
PROMPT = "$ "

_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```console\n(.*?)^```$", re.M | re.S)
_DIRECTION = re.compile(r'<!-- (?:(meanwhile|at "[^"]+"): )?(.+?) -->')
#: An image's or a delivery's id, or a backfill's.
ID = re.compile(r"\b(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{6})\b")
#: What is left out of a session: how far a command is, which it says every few seconds. That is on standard error, but
#: for how many images of those that it waits for have landed.
_PROGRESS = re.compile(r"[a-z][a-z' ]*: \d+(?: of \d+| s)?|[0-9a-f]{6}  running  .*")
_LANDING = re.compile(r"landing: \d+ of \d+")
_SECRET = re.compile(r"whsec_[\w+/=-]+")
#: What differs from run to run, and what it is compared as. The order counts.
_CHANGING = (
    (re.compile(r"\bmsg_[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"weavloader-\d{8}-\d{6}-[0-9a-f]{6}"), "<id>"),
    (ID, "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "<hash>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d\b"), "<day>"),
    (re.compile(r"(?:about |less than )?\d+(?:\.\d+)?(?:e[+-]?\d+)? (?:bytes|kB|MB|GB|TB)\b"), "<size>"),
    (re.compile(r"(?:about |less than )?\d+(?:\.\d+)?(?:e[+-]?\d+)? (?:s|min|h|days)\b"), "<span>"),
    # how many files the store makes of what it copies is its own affair
    (re.compile(r"(?<=<size> in )\d+ files(?=, in <span>)"), "<count> files"),
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "<port>"),
    (re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?(?![\w.])"), "<number>"),
    (re.compile(r"(?<=scores <number>)[▁▂▃▄▅▆▇█ |]*(?=<number>)"), "<bars>"),
    (re.compile(r"\s+"), " "),
)


@dataclass
class Step:
    """A command, and the lines that it prints."""

    command: str
    output: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cue:
    """Something that happens as soon as a command prints a line that begins with some words."""

    words: str
    what: str


@dataclass
class Session:
    """A block of a page: what happens before it and while its first command runs, and its commands; ``counts_vary``
    where numbers are of the moment.
    """

    start: int
    end: int
    meanwhile: list[str]
    cues: list[Cue]
    counts_vary: bool
    steps: list[Step]

    def text(self) -> str:
        """The lines between the fences."""
        lines = [line for step in self.steps for line in (PROMPT + step.command, *step.output)]
        return "".join(f"{line}\n" for line in lines)


def pages() -> list[Path]:
    """Those with a session, the commands' own first."""
    return [page for page in (*sorted(FOLDER.glob("*.md")), *OTHERS) if sessions(page.read_text())]


def sessions(text: str) -> list[Session]:
    """The sessions of a page, in order."""
    return [_session(found) for found in _BLOCK.finditer(text)]


def _session(found: re.Match[str]) -> Session:
    directions = _DIRECTION.findall(found[1])
    steps: list[Step] = []
    for line in found[2].splitlines():
        if line.startswith(PROMPT):
            steps.append(Step(line.removeprefix(PROMPT)))
        else:
            steps[-1].output.append(line)
    meanwhile = [what for kind, what in directions if kind == "meanwhile"]
    cues = [Cue(kind[4:-1], what) for kind, what in directions if kind.startswith("at ")]
    counts_vary = any(what == "counts vary" for kind, what in directions if not kind)
    return Session(found.start(2), found.end(2), meanwhile, cues, counts_vary, steps)


def with_sessions(text: str, played: Sequence[Session]) -> str:
    """A page with the sessions as they were played."""
    for session in reversed(played):
        text = text[: session.start] + session.text() + text[session.end :]
    return text


def compared(lines: Sequence[str], *, counts_vary: bool) -> list[str]:
    """The lines as they are compared: without what differs from run to run."""
    found = []
    for line in lines:
        for pattern, word in _CHANGING:
            line = pattern.sub(word, line)
        found.append(re.sub(r"\d+", "<count>", line).strip() if counts_vary else line.strip())
    return found


def shown(output: str, errors: str) -> list[str]:
    """A command's lines as a page shows them, standard error last: without secrets, and without how far it is."""
    lines = [line for line in output.splitlines() if not _LANDING.fullmatch(line.strip())]
    lines += [line for line in errors.splitlines() if not _PROGRESS.fullmatch(line.strip())]
    return [_SECRET.sub("whsec_…", line).rstrip() for line in lines]


class Names:
    """What a page calls things, and what they are in this run: words that are known before, and ids as they come."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        self._ids: dict[str, str] = {}

    def here(self, command: str) -> str:
        """A page's command with what things are in this run."""
        return _replaced(self.renewed(command), self._words)

    def renewed(self, command: str) -> str:
        """A page's command with the ids of this run."""
        return ID.sub(lambda found: self._ids.get(found[0], found[0]), command)

    def on_page(self, output: str) -> str:
        """What was printed, in the page's words."""
        return _replaced(output, {here: word for word, here in self._words.items()})

    def learn(self, page: Sequence[str], here: Sequence[str]) -> None:
        """Take the ids that the page shows for those that stand in their places now."""
        self._ids.update(zip(_ids(page), _ids(here), strict=False))


def _ids(lines: Sequence[str]) -> Iterator[str]:
    return (found[0] for line in lines for found in ID.finditer(line))


def _replaced(text: str, words: dict[str, str]) -> str:
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, words[word])
    return text


def played(session: Session, names: Names, run: Callable[[str, Sequence[Cue]], tuple[str, str]]) -> Session:
    """The session as it is now: each command is run in the page's order, the first with the session's cues. ``run``
    gives what a command prints, and what it says on standard error.
    """
    steps: list[Step] = []
    for step in session.steps:
        cues: Sequence[Cue] = () if steps else session.cues
        output = shown(*map(names.on_page, run(names.here(step.command), cues)))
        command = names.renewed(step.command)
        names.learn(step.output, output)
        steps.append(Step(command, output))
    return replace(session, steps=steps)
