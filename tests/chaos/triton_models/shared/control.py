"""How the models behave: ``control.json`` beside them, read again whenever it has been replaced."""

import json
from pathlib import Path

#: Beside the models' folders; one file for all models, which may be replaced at any time (by a rename).
FILE = Path(__file__).resolve().parents[1] / "control.json"


class Control:
    """One model's view: the keys at the top, unless a section with the model's name has its own.

    ``base_ms`` and ``per_item_ms``: a batch of n takes base + n · per_item, times ``slow``. ``nan``, ``garbage``,
    ``shape``, ``error``: which answers are spoilt, a share of them (0..1, evenly spread) or a list of numbers.
    ``kill_numbers``: pictures at which the model's process dies; ``hang_numbers``: at which it does nothing for
    ``hang_seconds``, as where a decoder runs in a circle.
    """

    def __init__(self, model, file=FILE):
        self._model = model
        self._file = file
        self._seen = None
        self._values = {}
        self._counts = {}

    def refresh(self):
        """Read the file where it is new; without one nothing is out of the ordinary."""
        try:
            status = self._file.stat()
            seen = status.st_mtime_ns, status.st_ino
            if seen == self._seen:
                return
            document = json.loads(self._file.read_text())
        except FileNotFoundError:
            seen, document = None, {}
        except ValueError:  # it is being written: what held before holds
            return
        self._seen = seen
        self._values = {**document, **document.get(self._model, {})}
        self._counts = {}

    def number(self, name, otherwise):
        """A key's number."""
        return float(self._values.get(name, otherwise))

    def seconds(self, items):
        """How long a batch of so many items takes."""
        milliseconds = self.number("base_ms", 5) + items * self.number("per_item_ms", 2)
        return milliseconds * self.number("slow", 1) / 1000

    def strikes(self, name, number):
        """Whether this answer, about the picture of this number (None: of none), is to be spoilt in this way."""
        chosen = self._values.get(name, 0)
        if isinstance(chosen, list):
            return number in chosen
        if number is None:  # the health check's own picture
            return False
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return int(count * chosen) > int((count - 1) * chosen)

    def hang_seconds(self, numbers):
        """How long these pictures make the model hang."""
        hanging = set(self._values.get("hang_numbers", ()))
        return self.number("hang_seconds", 10) if hanging.intersection(numbers) else 0.0

    def kills(self, number):
        """Whether the model's process dies at this picture."""
        return number in self._values.get("kill_numbers", ())
