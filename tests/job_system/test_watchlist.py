"""The list of standing searches: what is wrong with a new one is told without what may be secret of it."""

from __future__ import annotations

import pytest

from errors import UsageError
from job_system import watchlist
from sections import Webhooks


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/token",
        "http://10.0.0.1/token?key=token",
        "https://token:token@8.8.8.8/",
        "https://hooks.example:token/",
        "https://[token/",
        "token",
    ],
)
async def test_a_webhook_that_cannot_be_used_is_told_by_its_host_at_most(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        await watchlist.check_webhook(Webhooks(), url)
    assert str(caught.value).startswith("the webhook cannot be used: ")
    assert "token" not in str(caught.value)
