"""Who may ask the app anything: whoever has the token of its address, from this machine, from this very page.

A server on this machine can be reached by every page that a browser has open, so each request must name this host (a page that
points its own name at 127.0.0.1 names another), come from no other page, and begin its path with the token. What is sent is
bounded, and every answer forbids the browser to load or to run anything that the app has not served.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 2**20  # of one request: a photograph of a phone has 2 to 25 MB
REPORT = "/report/"
"""Where reports stand: each has an address of its own, which is good for nothing else, because a report may be a stranger's."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-modals; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class TooLarge(Exception):
    """A request has sent more than ``MOST_BYTES``: raised where the body is read, answered with ``too_large``."""


def new_token() -> str:
    """Return what nobody guesses: 256 random bits, as text for an address."""
    return secrets.token_urlsafe(32)


def is_among(given: str, known: Collection[str]) -> bool:
    """Return whether a text is one of the known ones, in a time that does not tell how much of it is right."""
    found = [secrets.compare_digest(given.encode("utf-8", "replace"), one.encode()) for one in known]
    return any(found)


class Guard:
    """The outermost layer: it refuses with 403 what does not belong here, and hands on the rest without the token.

    app: is given a ``receive`` that raises ``TooLarge``, and answers that itself: Starlette answers with 500 what it lets pass.

    hosts: what the header Host may say, port included.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str]) -> None:
        self.app, self.token, self.hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # a websocket is not accepted
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        answer = _guarded(send, REPORT_POLICY if scope["path"].startswith(REPORT) else POLICY)
        if refused:
            await JSONResponse({"error": refused}, status_code=403)(scope, receive, answer)
            return
        if not scope["path"].startswith(REPORT):
            inner = scope["path"][1 + len(self.token) :]
            if not inner:
                await RedirectResponse(f"/{self.token}/")(scope, receive, answer)
                return
            scope = {**scope, "path": inner, "raw_path": inner.encode("utf-8", "surrogateescape")}
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > MOST_BYTES:
            await too_large()(scope, receive, answer)
            return
        await self.app(scope, _bounded(receive), answer)

    def _refused(self, scope: Scope, headers: Headers) -> str:
        """Return why a request is refused, "" where it is not."""
        if headers.get("host", "") not in self.hosts:
            return "This address is not the app's: open the one that `descend app` has printed."
        origin = headers.get("origin")
        from_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["method"] != "GET"
        if from_elsewhere or (origin is not None and origin not in {f"http://{host}" for host in self.hosts}):
            return "Another page has asked for this: it is refused."
        if scope["path"].startswith(REPORT):
            return ""  # its own ticket is looked at there
        token, _, inner = scope["path"][1:].partition("/")
        if not is_among(token, [self.token]):
            return "The address lacks the token: open the one that `descend app` has printed."
        if f"/{inner}".startswith(REPORT):
            return "A report has an address of its own, without the token: open it from the page."  # the sandbox hangs on it
        return ""


def _guarded(send: Send, policy: str) -> Send:
    """Return ``send`` with the headers that every answer has."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {**HEADERS, "content-security-policy": policy}.items():
                headers[name] = value
        await send(message)

    return guarded


def _bounded(receive: Receive) -> Receive:
    """Return ``receive`` that counts: a length may be left out, or be a lie."""
    n_bytes = 0

    async def bounded() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > MOST_BYTES:
            raise TooLarge
        return message

    return bounded


def too_large(request: Request | None = None, error: Exception | None = None) -> JSONResponse:
    """Return the answer to too much; it is a handler of exceptions as Starlette calls them."""
    del request, error
    return JSONResponse({"error": f"A picture must have at most {MOST_BYTES // 2**20} MB."}, status_code=413)
