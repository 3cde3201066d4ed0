"""The live view in a terminal: everything of one look on one screen, and a key that replays dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Sparkline, Static

from commands.shown import plain
from commands.throughput import SPAN_SECONDS
from commands.watch import Sight, Watch, clock
from errors import WeavloaderError

#: Columns of the sparkline's data: five seconds each.
COLUMNS = 60
Row = tuple[str, ...]
#: By its key, what a row shows.
Rows = Sequence[tuple[str, Row]]


class Ask(ModalScreen[bool]):
    """A question that is answered by one key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No", key_display="n"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question alone."""
        yield Vertical(
            Static(self._question, id="question", markup=False), Static("y yes   n no", markup=False), id="ask"
        )

    def action_answer(self, answer: bool) -> None:
        """End with it."""
        self.dismiss(answer)


class Table(DataTable[Text]):
    """Rows that are shown anew at every look, under a cursor that stays where it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Letters of a cause"),
        Binding("tab", "app.focus_next", "Next table"),
    ]

    def __init__(self, title: str, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, show_header=True)
        self.border_title = title
        self._headings: Row = ()
        self._shown: Rows = ()

    def show(self, headings: Row, rows: Rows) -> None:
        """These rows under these headings; nothing is drawn where nothing has changed."""
        rows = tuple(rows)
        if (headings, rows) == (self._headings, self._shown):
            return
        kept, chosen = headings == self._headings, self.chosen
        row = self.cursor_row
        self._headings, self._shown = headings, rows
        self.clear(columns=True)
        self.add_columns(*headings)
        for key, cells in rows:  # names, captions and errors come from anywhere: never markup, nothing to be obeyed
            self.add_row(*(Text(plain(cell)) for cell in cells), key=key)
        keys = [key for key, _ in rows]
        if kept and rows:
            self.move_cursor(row=keys.index(chosen) if chosen in keys else min(row, len(rows) - 1))

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        return self._shown[self.cursor_row][0] if 0 <= self.cursor_row < len(self._shown) else None


class LiveView(App[None]):
    """The screen, which looks again every ``interval`` seconds until it is left."""

    TITLE = "Weavloader"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #figures { height: 3; padding: 0 1; }
    #pace { height: 2; padding: 0 1; }
    #pace Static { width: 12; color: $text-muted; }
    #pace Sparkline { width: 1fr; height: 2; }
    #middle { height: 1fr; min-height: 5; }
    Table { border-top: solid $primary; height: 1fr; }
    Table:focus { border-top: solid $accent; }
    #parts { width: 2fr; }
    #landings { width: 3fr; }
    #letters { height: 8; }
    #said { height: 1; padding: 0 1; }
    #said.wrong { background: $error; color: $text; }
    Ask { align: center middle; }
    #ask { width: 60; height: auto; padding: 1 2; border: thick $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("r", "replay", "Replay"),
        Binding("escape", "close", "All causes"),
    ]

    def __init__(self, watch: Watch, interval: float) -> None:
        super().__init__()
        self._watch = watch
        self._interval = interval
        self._cause: str | None = None
        self._counts: dict[str, int] = {}
        self._said = ""
        self._figures = Static("looking …", id="figures", markup=False)
        self._pace = Sparkline([0.0] * COLUMNS, summary_function=max)
        self._parts = Table("Parts and processes", id="parts")
        self._landings = Table("Landed last", id="landings")
        self._letters = Table("Dead letters by cause", id="letters")
        self._line = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        """Figures, pace, parts beside landings, dead letters, one line for what went wrong, keys."""
        yield self._figures
        with Horizontal(id="pace"):
            yield Static(f"last {SPAN_SECONDS / 60:.0f} min", markup=False)
            yield self._pace
        with Horizontal(id="middle"):
            yield self._parts
            yield self._landings
        yield self._letters
        yield self._line
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look, with the cursor at the dead letters."""
        self._letters.focus()
        self._look_on()

    @work(name="look")
    async def _look_on(self) -> None:
        async with self._watch as watch:
            while True:
                await self._show(await watch.look())
                await asyncio.sleep(self._interval)

    async def _show(self, sight: Sight) -> None:
        if not self._figures.is_attached:  # the screen was left meanwhile
            return
        now = sight.now
        self._figures.update(Text(figures(sight)))
        self._pace.data = self._watch.throughput.series(sight.when, COLUMNS)
        self._parts.show(("Part", "", "It says"), parts_rows(sight))
        self._landings.show(("Landed", "Node", "Caption"), landing_rows(sight))
        if now.progress is not None:
            self._counts = dict(now.progress.snapshot.dead_by_cause)
            await self._show_letters()
        self._tell(now.error)

    async def _show_letters(self) -> None:
        """The causes, or the letters of the one that was opened."""
        table, cause = self._letters, self._cause
        if cause is None:
            table.border_title = "Dead letters by cause"
            table.show(("Cause", "Letters"), [(name, (name, str(count))) for name, count in self._counts.items()])
            return
        try:
            letters = await self._watch.letters(cause)
        except WeavloaderError as error:
            self._tell(str(error))
            return
        if self._cause != cause or not table.is_attached:  # closed meanwhile
            return
        rows = [(letter.task_id, (clock(letter.when), f"{letter.attempts}x", letter.error)) for letter in letters]
        table.border_title = plain(f"Dead letters: {cause}")
        table.show(("Buried", "Tried", "Error"), rows)

    def _tell(self, error: str) -> None:
        self._line.update(Text(plain(error or self._said)))
        self._line.set_class(bool(error), "wrong")

    async def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter on a cause opens its letters."""
        if event.data_table.id == "letters" and self._cause is None:
            self._cause = self._letters.chosen
            await self._show_letters()

    async def action_close(self) -> None:
        """Back to the causes."""
        self._cause = None
        await self._show_letters()

    @work(name="replay", group="replay", exclusive=True)
    async def action_replay(self) -> None:
        """Ask, then queue the images of the chosen letter or cause again."""
        chosen, opened = self._letters.chosen, self._cause
        if chosen is None:
            self._said = "there are no dead letters to replay"
            self._tell("")
            return
        if opened is None:
            what = f"Queue the images of all {self._counts.get(chosen, 0)} dead letters of the cause {chosen} again?"
        else:
            what = f"Queue the image of the dead letter {chosen} again?"
        if not await self.push_screen_wait(Ask(plain(what))):
            return
        try:
            done = await self._watch.replay(opened or chosen, chosen if opened else None)
        except WeavloaderError as error:
            self._said = str(error)
        else:
            self._said = f"queued {len(done.queued)} images again"
            if done.unreadable:
                self._said += f"; {len(done.unreadable)} cannot be: their message held no image's record"
        self._tell("")


def figures(sight: Sight) -> str:
    """Three lines: pace, ledger, queues."""
    now, progress = sight.now, sight.now.progress
    if progress is None:
        return f"{clock(sight.when)} UTC: the ledger cannot be read"
    snapshot, audit = progress.snapshot, progress.snapshot.audit
    return "\n".join(
        (
            f"{sight.rate:.1f} images/s   {60 * progress.pace:.0f} a minute   efficiency {_share(progress.efficiency)}"
            f"   at models {_share(now.models_share)}   {clock(sight.when)}Z",
            f"pending {audit.pending}   leased {audit.leased}   landed {audit.landed}   dead {audit.dead}"
            f"   skipped {audit.skipped}   seen {audit.seen}"
            + (f"   forgotten {audit.forgotten}" if audit.forgotten else ""),
            "queues  "
            + "   ".join(f"{name} {size}" for name, size in snapshot.queues.items())
            + f"   oldest {snapshot.oldest_queued:.0f} s",
        )
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def parts_rows(sight: Sight) -> Rows:
    """The parts, those that are down first, and the processes that live, each with the seconds for which it counts as
    living unless it says so again.
    """
    parts = sorted(sight.now.parts.items(), key=lambda part: part[1].ok)
    living = sight.now.progress.heartbeats if sight.now.progress else {}
    beats = [(*name.partition("@")[::2], left) for name, left in living.items()]
    return [
        *((name, (name, "ok" if state.ok else "DOWN", state.detail)) for name, state in parts),
        *((f"{role}@{where}", (role, "lives", f"{left:.0f} s left, {where}")) for role, where, left in beats),
    ]


def landing_rows(sight: Sight) -> Rows:
    """The pictures that landed last, the newest first."""
    return [
        (result.id, (clock(landing.when), result.vsn or result.node, result.caption))
        for landing in sight.now.landings
        for result in (landing.hit.result,)
    ]


__all__ = ["Ask", "LiveView", "Table"]
