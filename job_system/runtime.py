"""What the jobs of one process share: the ledger's connection, one asyncio loop with the adapters, and the renewer.

A job runs in a thread of Celery's pool: it takes a lease, hands its coroutine to the loop, waits, and settles the
lease. All of it opens when the first job needs it, after a fork, and closes with the worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Any, TypeVar

import uvloop
from celery.exceptions import Reject, Retry

import logs
from errors import (
    ConfigurationError,
    LoginRefused,
    PartDied,
    PartUnavailable,
    PermanentError,
    TransientError,
    WeavloaderError,
)
from job_system.job import Job
from job_system.known_sources import KnownSources
from job_system.outages import LANDING_PARTS, SHARED_PARTS, Outages
from job_system.pauses import Pauses
from job_system.policy import Bury, Leave, PoisonError, Wait, is_poison, judge
from job_system.ports import OpenPorts
from job_system.stages import MODEL_SLOW
from ledger import Lease, Ledger, Refusal
from metrics import recorder
from processing import Again, process_image, redo_image
from records import DeadLetter, ImageRecord, Redo, giving_way
from settings import Settings

log = logs.get(__name__)

#: Seconds that closing the adapters may take.
CLOSE_SECONDS = 5.0
#: Seconds between two looks whether images are given out again while somebody works alone.
HELD_SECONDS = 0.5
#: Seconds that the store may take to say whether it has an image; a child that tries one alone has 15 to spare.
STORED_SECONDS = 8.0
#: After these the models are asked again: what they made may itself be at fault.
DOUBTFUL_OUTPUTS = frozenset({"model_answer", "vector_length"})

T = TypeVar("T")

PortsOpener = Callable[[Settings, KnownSources], Coroutine[Any, Any, OpenPorts]]


class Runtime:
    """See the module's text. Thread-safe."""

    def __init__(self, settings: Settings, open_ports: PortsOpener) -> None:
        self._open_ports = open_ports
        self.pid = os.getpid()
        self.settings = settings
        self.ledger = Ledger(settings.jobs)
        self.sources = KnownSources(settings, self.ledger)
        self.pauses = Pauses(self.ledger, settings.jobs)
        self.outages = Outages(observe=recorder.circuit)
        self._jobs: set[Job] = set()
        self._others: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._renewer: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ports: OpenPorts | None = None
        self._opening: asyncio.Task[OpenPorts] | None = None
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    # -- one job ------------------------------------------------------------------------------------------------------

    def process(self, message: object, task_id: str) -> str:
        """Bring one image from its message to an outcome: ``landed``, ``skipped``, ``duplicate`` (another delivery
        has it or had it) or ``lost`` (its lease ran out and it goes on elsewhere).

        Raises ``Retry`` when it waits in the ledger for its next attempt (or, where the broker is away, for the sweep),
        ``Reject`` when this process stops and the message goes back to the queue, and the error itself when the job
        became a dead letter.
        """
        if self._stopping.is_set():
            raise Reject("this worker stops", requeue=True)
        try:
            record = ImageRecord.from_message(message)
        except PermanentError as error:
            try:
                self._refuse(task_id, message, error)
            except (PartUnavailable, ConfigurationError):
                raise Reject("the ledger cannot be reached", requeue=True) from None
            raise
        try:
            granted = self._leased(record)
            if isinstance(granted, Lease):
                return self.finish(granted, record, task_id)
            log.info("image is not to be worked on", image=record.id, task_id=task_id, reason=granted.reason)
            return "duplicate"
        except (PartUnavailable, ConfigurationError) as error:  # the ledger's own: an image's becomes a verdict
            log.warning("the ledger cannot be reached", image=record.id, task_id=task_id, error=str(error))
            raise Retry(error.cause, exc=error, when=self.settings.jobs.lease) from None

    def _leased(self, record: ImageRecord) -> Lease | Refusal:
        """Lease the image, once nobody works alone any more. Raises ``Reject`` when this process stops meanwhile."""
        while True:
            granted = self.ledger.lease(record)
            if isinstance(granted, Lease) or granted.reason != "held":
                recorder.lease("taken" if isinstance(granted, Lease) else "refused")
                return granted
            if self._stopping.wait(HELD_SECONDS):
                raise Reject("this worker stops", requeue=True)

    def finish(self, lease: Lease, record: ImageRecord, task_id: str = "") -> str:
        """Bring an image that is leased already to its outcome, as ``process`` does; one line of the log tells it."""
        job = Job(lease, task_id or record.id)
        with self._lock:
            self._jobs.add(job)
            self._start()
        recorder.image_begun()
        try:
            if is_poison(lease, self.settings.jobs):
                why = f"{lease.alone} times a worker or a model died that had this image, and nothing else, in hand"
                return self._conclude(job, record, PoisonError(why))
            return self._run_in_turn(job, record)
        finally:
            recorder.image_ended()
            with self._lock:
                self._jobs.discard(job)

    def _run_in_turn(self, job: Job, record: ImageRecord) -> str:
        """Run the job; while its source is paused it waits, unless its object has a thumbnail to be made again of."""
        # with outputs kept nothing is fetched: such an image could not show that the login is good
        may_wait = job.lease.paused and not job.lease.kept
        if may_wait and (seconds := self.pauses.wait_seconds(record.source)):
            if job.lease.redo:
                job.ask_source = False
                return self._run(job, record)
            until, reason = time.time() + seconds, LoginRefused.default_cause
            self._settle(lambda: self.ledger.wait(job.lease, until, spend_attempt=False, reason=reason))
            log.info("image waits", cause=reason, retry_in=round(seconds, 1), **job.told)
            raise Retry(reason, when=seconds)
        return self._run(job, record)

    def _run(self, job: Job, record: ImageRecord) -> str:
        needed = LANDING_PARTS if job.lease.kept else SHARED_PARTS
        try:
            self.sources.learn(record)
            self.outages.check(needed)
            if job.lease.kept:
                job.outputs = self.ledger.outputs.load(record.id)
            job.future = self._submit(self._process(record, job))
            if job.ended or self._stopping.is_set():  # stopped in the moment before there was a future to cancel
                job.stop("handed_back")
            job.future.result()
        except CancelledError:
            if job.ended:
                return self._stopped(job)
            return self._conclude(job, record, TransientError("the image's work was cancelled", cause="cancelled"))
        except Exception as error:  # noqa: BLE001 - every error gets a verdict; one that nobody knows is retried
            self.outages.failed(error)
            self._keep(job, error)
            return self._conclude(job, record, error)
        # an image that was as ordered already tells nothing of the models
        self.outages.succeeded(LANDING_PARTS if job.lease.redo and not job.outputs.of_models else needed)
        return self._landed(job)

    def _landed(self, job: Job) -> str:
        if not self._settle(lambda: self.ledger.land(job.lease)):
            return self._lost(job)
        if job.lease.redo:
            sight = job.outputs.sight
            recorder.image_redone("landed", sight.made_from if sight else "")
        log.info("image landed", **job.told)
        return "landed"

    def _stopped(self, job: Job, error: Exception | None = None) -> str:
        """What becomes of an image whose work was stopped from outside."""
        if job.ended == "lost":
            return self._lost(job)
        self._keep(job, error)
        self._settle(lambda: self.ledger.release(job.lease))
        log.info("image handed back", **job.told)
        raise Reject("this worker stops", requeue=True) from None

    @staticmethod
    def _lost(job: Job) -> str:
        log.warning("image goes on elsewhere", **job.told)
        return "lost"

    def _keep(self, job: Job, error: Exception | None = None) -> None:
        """Keep what models made for the image's next attempt. It goes on without where that cannot be kept."""
        if job.future is None or isinstance(error, PermanentError):  # nothing was tried; there is no next attempt
            return
        try:
            if isinstance(error, WeavloaderError) and error.cause in DOUBTFUL_OUTPUTS:
                if job.lease.kept:
                    self.ledger.outputs.drop(job.lease.id)
            elif job.outputs.of_models and not self.ledger.outputs.keep(job.lease, job.outputs):
                log.debug("outputs not kept", image=job.lease.id)
        except WeavloaderError as failed:
            log.warning("outputs not kept", image=job.lease.id, error=str(failed))

    def _conclude(self, job: Job, record: ImageRecord, error: Exception) -> str:
        """Settle the lease as the policy says of the error. What would end unlanded, and was put into the store by an
        earlier attempt that died or was cut off, has landed.
        """
        lease = job.lease
        verdict = judge(error, lease.attempt, self.settings.jobs)
        if not isinstance(verdict, Wait) and lease.again and not lease.redo:
            stored = self._is_stored(job)
            if job.ended:
                return self._stopped(job, error)
            if stored:
                log.warning("image is in the store since an earlier attempt", error=str(error), **job.told)
                return self._landed(job)
        match verdict:
            case Leave(reason):
                if not self._settle(lambda: self.ledger.skip(lease, reason)):
                    return self._lost(job)
                log.info("image skipped", source=record.source, reason=reason, **job.told)
                recorder.image_skipped(None, reason)
                return "skipped"
            case Wait(seconds, reason, spend, death):
                until = time.time() + seconds
                held = self._settle(
                    lambda: self.ledger.wait(lease, until, spend_attempt=spend, reason=reason, death=death)
                )
                if not held:
                    return self._lost(job)
                told: dict[str, Any] = {"cause": reason, "retry_in": round(seconds, 1), **job.told}
                if isinstance(error, WeavloaderError):
                    log.warning("image waits", error=str(error), **told)
                else:
                    log.error("image waits after an unexpected error", exc_info=error, **told)
                raise Retry(reason, exc=error, when=seconds) from None
            case Bury(cause, kind):
                letter = _letter(record.id, record.to_message(), error, cause, kind, lease.attempt)
                if lease.redo:
                    letter = replace(letter, redo=json.loads(lease.redo))
                if not self._settle(lambda: self.ledger.bury(lease, letter)):
                    return self._lost(job)
                if lease.redo:
                    recorder.image_redone("dead", "")
                log.error("image is a dead letter", cause=cause, error=str(error), **job.told)
                raise error
        raise AssertionError("every verdict is handled")

    def _is_stored(self, job: Job) -> bool:
        """Whether the store has the job's image. One that cannot say counts as no: a deep audit finds what is there."""
        stored = False

        async def ask() -> None:
            nonlocal stored
            async with asyncio.timeout(STORED_SECONDS):
                stored = await (await self._opened()).ports.store.whole(job.lease.id) is not None

        try:
            job.future = self._submit(ask())
            if job.ended or self._stopping.is_set():
                job.stop("handed_back")
            job.future.result()
        except CancelledError:
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the image must come to its end
            log.warning("not known whether the store has the image", image=job.lease.id, error=str(error))
        return stored

    def _refuse(self, task_id: str, message: object, error: PermanentError) -> None:
        """A message that holds no record: kept as a dead letter under the task's id, so that it can be looked at."""
        known = message if isinstance(message, dict) else {"message": repr(message)[:1000]}
        self.ledger.letters.archive(_letter(task_id, known, error, error.cause, "permanent", 1))
        log.error("message without a record", task_id=task_id, error=str(error))

    def _settle(self, change: Callable[[], bool]) -> bool:
        """Change the ledger, again while the broker is away: what was made is not thrown away for that. The lease may
        still be ours after it, since a sweep lets owners renew theirs first.
        """
        deadline = time.monotonic() + self.settings.jobs.timeout
        while True:
            try:
                return change()
            except (PartUnavailable, ConfigurationError):
                if time.monotonic() > deadline or self._stopping.wait(1):
                    raise

    async def _process(self, record: ImageRecord, job: Job) -> None:
        try:
            async with asyncio.timeout(self.settings.jobs.timeout):
                ports = await self._opened()
                with recorder.timing(job.stages), giving_way(job.lease.behind):
                    await self._bring(record, job, ports)
        except PartUnavailable as error:
            if error.cause != MODEL_SLOW or job.settled is None:
                raise
            with self.outages.untried(error):
                quick_again = await job.settled.quick_again()
            if not quick_again:
                raise
            raise PartDied(
                error.part, f"{error}. With this image, or one beside it: it is quick again", cause="model_stuck"
            ) from None
        except TimeoutError:
            raise TransientError(
                f"the image took longer than WEAVLOADER_JOB_TIMEOUT ({self.settings.jobs.timeout:g} s)",
                cause="job_timeout",
            ) from None

    async def _bring(self, record: ImageRecord, job: Job, ports: OpenPorts) -> None:
        """Land the image, or what is made again of one that had landed."""
        lease = job.lease
        async with ports.settled() as settled:
            job.settled = settled
            watched = self.pauses.watching(settled.ports)
            if not lease.redo:
                await process_image(record, watched, job.outputs)
                return
            order = Redo.from_text(lease.redo).by(settled.embedder)
            chosen, thumbnail_first = settled.chosen(order, watched)
            last = lease.attempt > len(self.settings.jobs.retry_delays)
            await redo_image(record, Again(order, thumbnail_first, job.ask_source, last), chosen, job.outputs)

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on the shared loop and wait for it.

        Raises ``Reject`` when this worker stops meanwhile.
        """
        with self._lock:
            self._start()
            future = self._submit(coroutine)
            self._others.add(future)
            if self._stopping.is_set():
                future.cancel()
        try:
            return future.result()
        except CancelledError:
            raise Reject("this worker stops", requeue=True) from None
        finally:
            with self._lock:
                self._others.discard(future)

    def close_too(self, closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close something else that is used on the shared loop, before it ends."""
        self._closers.append(closer)

    # -- what is shared -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start the loop and the renewer, once; the caller holds the lock."""
        if self._thread is not None:
            return
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="adapters", daemon=True)
        self._thread.start()
        self._renewer = threading.Thread(target=self._renew, name="renewer", daemon=True)
        self._renewer.start()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _opened(self) -> OpenPorts:
        """The adapters; jobs that come while they open wait together, and share the error if there is one."""
        if self._ports is not None:
            return self._ports
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_ports(self.settings, self.sources))
        opening = self._opening
        try:
            self._ports = await asyncio.shield(opening)
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None
        return self._ports

    def _renew(self) -> None:
        """Keep the leases of all jobs in flight, in one call; stop the jobs whose lease went to somebody else."""
        while not self._closed.wait(self.settings.jobs.renewal):
            with self._lock:
                jobs = {(job.lease.id, job.lease.token): job for job in self._jobs}
            if not jobs:
                continue
            try:
                lost = self.ledger.renew([job.lease for job in jobs.values()])
            except WeavloaderError as error:  # a refused login as well: the thread must outlive it
                log.warning("leases not renewed", jobs=len(jobs), error=str(error))
                continue
            for lease in lost:
                job = jobs[lease.id, lease.token]
                with self._lock:
                    ended = job not in self._jobs or job.done  # and its lease with it, as it should, or in a moment
                if not ended:
                    log.warning("lease lost", image=lease.id)
                    recorder.lease("lost")
                    job.stop("lost")

    def hand_back(self) -> None:
        """Stop what is in flight: every image goes back to the queue, in the ledger and as a message."""
        self._stopping.set()
        with self._lock:
            jobs, others = list(self._jobs), list(self._others)
        for future in others:
            future.cancel()
        if jobs:
            log.info("handing jobs back", jobs=len(jobs))
        for job in jobs:
            job.stop("handed_back")

    def close(self) -> None:
        """Close the adapters and the loop, within a few seconds whatever they do."""
        self.hand_back()
        self._closed.set()
        if self._loop is not None and self._thread is not None:

            async def close() -> None:
                for closer in self._closers:
                    await closer()
                if self._ports is not None:
                    await self._ports.close()

            try:
                self._submit(close()).result(CLOSE_SECONDS)
            except TimeoutError:
                log.warning("the adapters did not close in time", seconds=CLOSE_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_SECONDS)
            if not self._thread.is_alive():
                self._loop.close()
        if self._renewer is not None:
            self._renewer.join(CLOSE_SECONDS)
        self.ledger.close()


def _letter(
    task_id: str, record: dict[str, Any], error: BaseException, cause: str, kind: str, attempts: int
) -> DeadLetter:
    return DeadLetter(
        task_id=task_id,
        record=record,
        cause=cause,
        kind=kind,
        error=logs.scrubbed(str(error)),
        traceback=logs.scrubbed("".join(traceback.format_exception(error))),
        attempts=attempts,
        when=time.time(),
    )
