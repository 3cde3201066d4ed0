"""Command line of Weavloader: roles, the embedded stack, and the jobs of a user. ``python main.py --help`` lists all.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a part is not reachable, 4 configuration is wrong.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

if not all(map(find_spec, ("celery", "click", "numpy", "pydantic", "redis", "rich", "structlog", "weaviate"))):
    # Another Python than the project's own: hand over to that one.
    own = Path(__file__).resolve().parent / ".venv" / "bin" / "python"
    if not own.exists() or Path(sys.prefix) == own.parent.parent:
        sys.exit("error: the Python packages are not installed: run `make setup` first")
    os.execv(own, [str(own), *sys.orig_argv[1:]])

import click

from commands import (
    adding,
    adopting,
    backfilling,
    calibrating,
    cancelling,
    evaluating,
    finding,
    forgetting,
    keeping,
    letters,
    looking,
    redoing,
    reindexing,
    replaying,
    roles,
    running,
    selecting,
    serving,
    standing,
    taking,
    top,
)
from errors import EXIT_FAILED, EXIT_OK, WeavloaderError
from settings import environment_variable


class HouseGroup(click.Group):
    """The commands by what they are for, in the order a user meets them."""

    sections = (
        (
            "Run it",
            ("demo", "up", "setup", "add", "adopt", "replay", "select", "backfill", "cancel", "reprocess", "reindex"),
        ),
        ("Find pictures", ("search", "similar", "watch", "export", "mcp")),
        (
            "Look at it",
            ("status", "top", "doctor", "audit", "calibrate", "models", "evaluate", "dlq", "forget", "config", "env"),
        ),
        ("Keep it", ("backup", "restore")),
        (
            "Roles, one process each",
            ("stream", "processor", "moderator", "cleaner", "scheduler", "metrics", "flower", "web"),
        ),
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the sections."""
        return [name for _, names in self.sections for name in names if name in self.commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One block a section."""
        for title, names in self.sections:
            rows = [(name, self.commands[name].get_short_help_str(100)) for name in names if name in self.commands]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(cls=HouseGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Weavloader captions and embeds every image of a stream, lands it in Weaviate and finds it again.

    Without a command it keeps the stream monitor going, as `stream` does.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a part is not reachable, 4 configuration is wrong.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(roles.stream)


for room in (
    running,
    adding,
    adopting,
    backfilling,
    replaying,
    selecting,
    finding,
    standing,
    taking,
    looking,
    redoing,
    reindexing,
    keeping,
    top,
    calibrating,
    cancelling,
    serving,
    evaluating,
    letters,
    forgetting,
    roles,
):
    for command in room.COMMANDS:
        cli.add_command(command)


def main() -> int:
    """Run the command line; an error of ours becomes one line and its exit code."""
    try:
        outcome = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except click.Abort:
        return 130
    except WeavloaderError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_FAILED
    except Exception as error:  # a fault of ours: one line for the user, the rest where it is asked for
        if environment_variable("LOG_LEVEL").upper() == "DEBUG":
            raise
        click.echo(f"error: unexpected {type(error).__name__}: {error} (LOG_LEVEL=DEBUG shows where)", err=True)
        return EXIT_FAILED
    return outcome if isinstance(outcome, int) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
