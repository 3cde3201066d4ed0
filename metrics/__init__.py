"""Metrics: one catalog, functions that hooks call, and the endpoint that shows them.

``from metrics import metrics`` gives the functions of ``recorder.py``. Importing this makes no folder and starts
nothing; a role calls ``metrics.prepare(data_folder, role)`` first, so that its numbers reach the host's endpoint.
"""

from metrics import recorder as metrics

__all__ = ["metrics"]
