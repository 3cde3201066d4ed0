"""Pages made of templates: what all of them show, and how they show it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web.access import Role
from web.answers import own_path
from web.arranging import Bar, parts
from web.services import base_of, services_of

FOLDER = Path(__file__).parent

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _safe_link(url: str) -> str:
    """The URL where following it is harmless, else ''."""
    try:
        return url if urlsplit(url).scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _moment(seconds: float) -> str:
    """A time in seconds since the epoch, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _clock(time: str, bars: Sequence[Bar]) -> str:
    """A time of a histogram, to the second where all of it is short."""
    first, last = (datetime.fromisoformat(text) for text in (bars[0].since, bars[-1].until))
    return time[: 19 if last - first < timedelta(hours=1) else 16].replace("T", " ")


_environment.filters["clock"] = _clock
_environment.filters["duration"] = _duration
_environment.filters["megabytes"] = lambda size: f"{size / 2**20:.3g} MB"
_environment.globals["own_path"] = own_path
_environment.filters["parts"] = parts
_environment.filters["safe_link"] = _safe_link
_environment.filters["moment"] = _moment
_environment.filters["query"] = lambda values: urlencode({name: value for name, value in values.items() if value})


def render(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """The page. Nothing of it is kept by what lies between, and only the visitor's own browser may."""
    services = services_of(request)
    common = {
        "base": base_of(request),
        "path": request.url.path,
        "csrf": "",
        "is_admin": False,
        "may_log_in": services.access.has_tokens,
        "originals": services.settings.web.originals,
    }
    if visitor := values.pop("visitor", None):
        common |= {"csrf": visitor.csrf, "is_admin": visitor.role is Role.ADMIN}
    text = _environment.get_template(template).render({**common, **values})
    return HTMLResponse(text, status, {"Cache-Control": "private, no-store"})
