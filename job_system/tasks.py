"""The tasks, thin: what they do stands in the modules that they call. All end in at most one outcome each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from celery import Task

from errors import WeavloaderError
from job_system.app import celery_app
from job_system.publish import publish_records
from job_system.sweeping import sweep
from records import ImageRecord, Page, SourceAddress

if TYPE_CHECKING:
    from settings import Monitor, Sage
    from sources import Poller

#: Seconds for which it is known, beyond what every poll reads again, which images of an hour were chosen: as much as a
#: source is read at once after a gap.
PLACES_SECONDS = 6 * 3600.0


# ``throws`` are the expected faults: the state is FAILURE, without a traceback in the log (the letter has it).
@celery_app.task(bind=True, ignore_result=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def process_image_task(self: Task, record: dict[str, Any]) -> str:
    """Bring one image to where it can be found. ``record`` is ``ImageRecord.to_message()``."""
    return str(self.app.runtime.process(record, self.request.id))


@cache
def _poller(sage: Sage, monitor: Monitor) -> Poller:
    """One for all rounds of the process: it remembers how much a source can give at once. It holds nothing open."""
    from sources import Poller

    return Poller(sage, monitor)


@celery_app.task(bind=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def monitor_data_stream(self: Task) -> dict[str, Any]:
    """Poll every source once and queue what is new; see ``job_system.monitor.poll_sources`` for the summary."""
    from job_system.monitor import poll_sources
    from job_system.selection import Selector

    runtime = self.app.runtime
    selector = Selector(runtime.settings.selection)
    poller = _poller(runtime.settings.sage, runtime.settings.monitor)

    def poll(address: SourceAddress, start_ns: int) -> Page:
        page: Page = runtime.wait_for(poller.poll_async(address, start_ns))
        return page

    def publish(records: Sequence[ImageRecord]) -> None:
        publish_records(self.app, records)

    def places(wanted: Sequence[tuple[str, str]], most: int) -> set[int]:
        taken: set[int] = runtime.ledger.places(wanted, most, PLACES_SECONDS + runtime.settings.monitor.overlap)
        return taken

    return poll_sources(
        runtime.ledger,
        runtime.sources.read(),
        runtime.settings.monitor,
        poll,
        publish,
        lambda page: selector.select(page, places),
    )


@celery_app.task(bind=True, ignore_result=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def sweep_ledger(self: Task) -> int:
    """Put back to work now what workers put back by themselves every few seconds; how many images. See ``sweeping``."""
    return sweep(self.app, self.app.runtime.ledger)


@celery_app.task(bind=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def reprocess_dlq_tasks(self: Task) -> dict[str, int]:
    """Queue the images of young dead letters with a transient cause again; ``{"due": n, "queued": n}``."""
    from metrics import recorder

    letters = self.app.runtime.ledger.letters
    due = letters.due_for_reprocess()
    records = letters.replay(due)
    publish_records(self.app, records)
    recorder.dead_letters_reprocessed("success", len(records))
    return {"due": len(due), "queued": len(records)}


@celery_app.task(bind=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def cleanup_failed_tasks(self: Task) -> dict[str, int]:
    """Archive and remove expired dead letters and old finished images; ``{"letters": n, "images": n}``."""
    from job_system.archive import archive_finished

    return archive_finished(self.app.runtime.ledger, self.app.runtime.settings)


@celery_app.task(bind=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def forget_old_images(self: Task) -> dict[str, int | bool]:
    """Forget what the settings do not keep; how many images, by reason. See ``job_system.retention.retain``."""
    from job_system.retention import retain

    runtime = self.app.runtime
    forgotten: dict[str, int | bool] = runtime.wait_for(retain(runtime.settings, runtime.ledger))
    return forgotten


@celery_app.task(bind=True, throws=(WeavloaderError,))  # type: ignore[untyped-decorator]
def check_health(self: Task) -> dict[str, Any]:
    """Ask every part for something real, and look at dead letters and the disk; see ``job_system.health``."""
    from job_system.health import report

    runtime = self.app.runtime
    return report(runtime.settings, runtime.ledger, runtime.wait_for)
