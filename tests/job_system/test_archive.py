"""The archive's files: for their owner alone, and for some months."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from job_system.archive import KEPT_DAYS, archive_finished
from ledger import Lease, Ledger
from records import DeadLetter
from settings import Jobs, Paths, Settings
from tests.job_system.samples import image


def bury_old(ledger: Ledger, number: int) -> None:
    record = image(number=number)
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    when = time.time() - 31 * 86_400
    assert ledger.bury(lease, DeadLetter(record.id, record.to_message(), "not_found", "permanent", "404", "", 1, when))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_read_the_archive(ledger: Ledger, jobs_settings: Jobs, tmp_path: Path) -> None:
    settings, folder = Settings(jobs=jobs_settings, paths=Paths(data=tmp_path)), tmp_path / "archive"
    before = os.umask(0)
    try:
        bury_old(ledger, 1)
        archive_finished(ledger, settings)
        (file,) = folder.iterdir()
        assert (mode(folder), mode(file)) == (0o700, 0o600)
        folder.chmod(0o755)
        file.chmod(0o644)
        bury_old(ledger, 2)
        archive_finished(ledger, settings)
    finally:
        os.umask(before)
    assert (mode(folder), mode(file)) == (0o700, 0o600), "as an older version left them"
    assert len(file.read_text().splitlines()) == 2


def test_a_days_file_is_kept_for_some_months(ledger: Ledger, jobs_settings: Jobs, tmp_path: Path) -> None:
    folder, today = tmp_path / "archive", datetime.now(UTC).date()
    folder.mkdir()
    kept, old = (today - timedelta(days=days) for days in (KEPT_DAYS - 1, KEPT_DAYS + 1))
    others = ("notes.jsonl", "9999-99-99.jsonl", f"{old}.txt")
    for name in (f"{kept}.jsonl", f"{old}.jsonl", *others):
        (folder / name).touch()
    archive_finished(ledger, Settings(jobs=jobs_settings, paths=Paths(data=tmp_path)))
    assert {path.name for path in folder.iterdir()} == {f"{kept}.jsonl", *others}
