"""What keeps the models from starting. The exit codes are the product's."""

from __future__ import annotations


class CannotStart(Exception):
    """One line that names what was wrong and what to do."""

    exit_code = 4


class WeightsAway(CannotStart):
    """The weights cannot be had now."""

    exit_code = 3
