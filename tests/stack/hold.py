"""Hold a stack until a signal: ``python hold.py [--full SHARE] [ROLE …]``, with everything else in the environment.

From that share of a core on a processor is full, and is looked at often.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from errors import WeavloaderError
from settings import load
from stack import Stack, growing


def main() -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    roles = sys.argv[1:]
    if roles[:1] == ["--full"]:
        growing.FULL, growing.LOOK_SECONDS = float(roles[1]), 0.2
        roles = roles[2:]
    try:
        loaded = load(toml_file=Path("/nonexistent.toml"))
        with Stack(loaded, report=say, roles=roles) as stack:
            say("READY")
            stack.wait()
            say("STOPPING")
    except WeavloaderError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
