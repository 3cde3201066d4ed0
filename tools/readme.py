"""Write the README's table of settings anew from ``settings.py``."""

from __future__ import annotations

import re

from commands.looking import settings_table
from settings import PROJECT_ROOT


def main() -> None:
    """Replace what stands between the two marks."""
    readme = PROJECT_ROOT / "README.md"
    marks = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.S)
    readme.write_text(marks.sub(lambda found: f"{found[1]}{settings_table()}\n{found[2]}", readme.read_text()))


if __name__ == "__main__":
    main()
