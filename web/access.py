"""Who may do what: tokens by role, a cookie for browsers, and what proves that a form was this page's own."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from dataclasses import dataclass
from enum import IntEnum

from starlette.datastructures import Headers
from starlette.requests import Request

from errors import ConfigurationError, WeavloaderError
from settings import Web

COOKIE = "weavloader"
#: Seconds for which a browser stays logged in.
SESSION_SECONDS = 12 * 3600


class Role(IntEnum):
    """What somebody may do; a higher role may do all that a lower one may."""

    NOBODY = 0
    READ = 1
    ADMIN = 2


class Refused(WeavloaderError):
    """The request needs a token, or another one. ``status`` is the HTTP status."""

    default_cause = "unauthorised"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, cause="unauthorised" if status == 401 else "forbidden")
        self.status = status


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. ``only`` are the nodes that alone this visitor may see (all where empty); ``csrf`` is what a form of
    this visitor's has to bring along, '' where no cookie can be misused.
    """

    role: Role
    only: tuple[str, ...] = ()
    csrf: str = ""


class Access:
    """Decides by the settings. Raises ``ConfigurationError`` where the page would be open beyond loopback."""

    def __init__(self, section: Web) -> None:
        self._section = section
        beyond = not is_loopback(section.host)
        if beyond and not (section.read_token or section.admin_token):
            raise ConfigurationError(
                f"WEAVLOADER_WEB_HOST={section.host} is not loopback, where everybody could read: set"
                " WEAVLOADER_WEB_READ_TOKEN (and WEAVLOADER_WEB_ADMIN_TOKEN for changes), or listen on 127.0.0.1"
            )
        #: Whether reading needs no token.
        self.open = not beyond and not section.read_token
        tokens = f"{section.read_token}\0{section.admin_token}".encode()
        self._key = hashlib.sha256(b"weavloader web session\0" + tokens).digest()

    @property
    def can_change(self) -> bool:
        """Whether anybody at all may change dead letters and watches."""
        return bool(self._section.admin_token)

    @property
    def has_tokens(self) -> bool:
        """Whether there is anything to log in with."""
        return bool(self._section.read_token or self._section.admin_token)

    def role_of_token(self, token: str) -> Role:
        """The token's role; every token is compared, in a time that does not tell how much of it is right."""
        role = Role.NOBODY
        for own, gives in ((self._section.read_token, Role.READ), (self._section.admin_token, Role.ADMIN)):
            equal = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), hashlib.sha256(own.encode()).digest())
            if own and equal:
                role = gives
        return role

    def visitor(self, request: Request) -> Visitor:
        """Who asks, whatever they may. Raises ``Refused`` (401) for a token that is wrong."""
        if token := bearer(request.headers):
            role = self.role_of_token(token)
            if role is Role.NOBODY:
                raise Refused(401, "the token is not valid: send Authorization: Bearer with one of this server's")
            return self._visitor(role)
        cookie = request.cookies.get(COOKIE, "")
        if (role := self._role_of_session(cookie)) is not Role.NOBODY:
            return self._visitor(role, self._mac("form", cookie))
        return self._visitor(Role.READ if self.open else Role.NOBODY)

    def _visitor(self, role: Role, csrf: str = "") -> Visitor:
        return Visitor(role, () if role is Role.ADMIN else self._section.nodes, csrf)

    def session(self, role: Role) -> str:
        """A cookie's value that stands for a role, for some hours; another token makes it worthless."""
        text = f"{role.name}.{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{text}.{self._mac('session', text)}"

    def check_form(self, visitor: Visitor, csrf: str) -> None:
        """Raises ``Refused`` (403) for a form that is not this page's own."""
        if not visitor.csrf or not hmac.compare_digest(visitor.csrf.encode(), csrf.encode()):
            raise Refused(403, "this form is out of date, or not this page's own: load the page again")

    def _role_of_session(self, cookie: str) -> Role:
        text, _, mac = cookie.rpartition(".")
        if not text or not hmac.compare_digest(self._mac("session", text).encode(), mac.encode()):
            return Role.NOBODY
        name, expires, _ = text.split(".")
        return Role[name] if time.time() < int(expires) else Role.NOBODY

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def demand(visitor: Visitor, role: Role, access: Access) -> Visitor:
    """The visitor, who may do this. Raises ``Refused``."""
    if visitor.role >= role:
        return visitor
    if role is Role.ADMIN and not access.can_change:
        raise Refused(403, "nothing can be changed here: set WEAVLOADER_WEB_ADMIN_TOKEN and start again")
    if visitor.role is Role.NOBODY:
        raise Refused(401, "this needs a token: send Authorization: Bearer, or log in at /login")
    raise Refused(403, "this needs the admin's token")


def bearer(headers: Headers) -> str:
    """The token of an Authorization header, '' where there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode("latin-1").decode("utf-8", "replace") if kind.lower() == "bearer" else ""


def is_loopback(host: str) -> bool:
    """Whether only this host's own programs reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
