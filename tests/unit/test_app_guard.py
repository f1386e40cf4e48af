"""The app's guard: only the token, the host and the page that belong to it are let in."""

import asyncio

import pytest

pytest.importorskip("starlette")

from descend.app.guard import MOST_BYTES, Guard

HOST = "127.0.0.1:8000"


def _status(path: str, **headers: str) -> int:
    sent = []

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    given = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
    asyncio.run(Guard(inner, token="right", hosts={HOST})(scope, receive, send))
    return sent[0]["status"]


def test_only_the_token_host_and_origin_of_the_app_are_let_in():
    assert _status("/right/x") == 200
    assert _status("/wrong/x") == 403
    assert _status("/right/x", host="evil.example:8000") == 403
    assert _status("/right/x", origin="http://evil.example") == 403


def test_a_body_that_is_too_large_is_refused():
    assert _status("/right/x", content_length=str(MOST_BYTES + 1)) == 413
