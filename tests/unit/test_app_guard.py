"""The app's guard: only the token, the host and the page that belong to it are let in, and only so many bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from descend.app.guard import MOST_BYTES, POLICY, REPORT_POLICY, Guard, TooLarge, new_token

HOST = "127.0.0.1:8000"


def ask(path: str, *chunks: bytes, method: str = "POST", **headers: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and the path that was handed on ("" where none was)."""
    sent, handed_on, left = [], [""], [*chunks, b""]

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        handed_on[0] = scope["path"]
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    asyncio.run(Guard(inner, token="right", hosts={HOST})(scope, receive, send))  # pyright: ignore
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, handed_on[0]


def test_what_has_the_token_is_handed_on_without_it() -> None:
    assert ask("/right/api/runs")[::2] == (200, "/api/runs")
    assert ask("/right/")[::2] == (200, "/")
    status, headers, handed_on = ask("/right", method="GET")
    assert (status, headers["location"], handed_on) == (307, "/right/", "")


@pytest.mark.parametrize(
    "path",
    ["/", "", "/api/runs", "//right/x", "/wrong/x", "/righ/x", "/rightx/x", "/RIGHT/x", "/right%2Fx", "/./right/x", "/\udcff/x",
     "/right/report/x", "/Report/x", "/reports/x"],
)  # fmt: skip
def test_nothing_else_is(path: str) -> None:
    assert ask(path)[::2] == (403, "")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8000"}, {"host": "127.0.0.1"}, {"host": "127.0.0.1:8001"}, {"host": ""},
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": f"https://{HOST}"}, {"origin": "http://127.0.0.1:8001"},
        {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
    ],
)  # fmt: skip
def test_another_name_or_another_page_is_refused_even_with_the_token(headers: dict[str, str]) -> None:
    assert ask("/right/x", **headers)[::2] == (403, "")
    assert ask("/report/x", **headers)[::2] == (403, "")


def test_the_page_itself_is_let_in() -> None:
    assert ask("/right/x", origin=f"http://{HOST}", sec_fetch_site="same-origin")[0] == 200
    assert ask("/right/", method="GET", sec_fetch_site="none")[0] == 200


def test_too_much_is_refused_whether_it_is_declared_or_not() -> None:
    half = bytes(MOST_BYTES // 2)
    assert ask("/right/x", content_length=str(MOST_BYTES + 1))[::2] == (413, "")
    assert ask("/right/x", content_length="-1")[0] == 413
    with pytest.raises(TooLarge):  # answered by the application: see test_app_routes
        ask("/right/x", half, half, b"x", content_length="5")
    assert ask("/right/x", half, half)[0] == 200


def test_every_answer_forbids_the_browser_what_the_app_has_not_served() -> None:
    for path in ("/right/x", "/wrong/x"):
        headers = ask(path)[1]
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_a_report_is_shut_in_because_its_scripts_may_be_a_strangers() -> None:
    policy = ask("/report/x", method="GET")[1]["content-security-policy"]
    assert policy == REPORT_POLICY
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy  # so that default-src 'none' counts


def test_tokens_differ_and_are_long() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43
