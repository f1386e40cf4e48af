"""The addresses of the app: one page, its files, and answers as JSON. Every path here stands behind the token (``guard``)."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from functools import cache, wraps
from importlib.resources import files
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from descend import __version__
from descend.app import answers
from descend.app.guard import MOST_BYTES, Guard, TooLarge, too_large
from descend.app.workspace import Workspace
from descend.data.builtin import SETS
from descend.errors import DescendError, KnobError
from descend.plain_data import finite
from descend.report.charts import curves

WATCH_S = 0.2  # between two looks at work that goes on
SCRIPTS = ("app.js", "dom.js", "pictures.js", "runs.js", "training.js", "places.js", "labels.js")
Work = Callable[[Workspace, Request, bytes], Any]


class Json(JSONResponse):
    """An answer as JSON in ASCII: names of files need not be valid Unicode."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the answer."""
        return json.dumps(finite(content), allow_nan=False).encode("ascii")


def application(workspace: Workspace, *, token: str, hosts: set[str]) -> ASGIApp:
    """Return the app. token: what addresses begin with. hosts: what requests may call this machine, port included."""
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/static/{name}", _static),
            Route("/report/{ticket}", _report),
            Route("/api/state", _json(_state)),
            Route("/api/runs", _json(_runs)),
            Route("/api/compare", _json(_compare)),
            Route("/api/report", _json(_ticket), methods=["POST"]),
            Route("/api/about", _json(_about)),
            Route("/api/sure", _json(_sure)),
            Route("/api/predict", _json(_predict), methods=["POST"]),
            Route("/api/saliency", _json(_saliency), methods=["POST"]),
            Route("/api/places", _json(_places)),
            Route("/api/fit", _json(_fit), methods=["POST"]),
            Route("/api/job", _json(_job)),
            Route("/api/job/news", _news),
            Route("/api/job/curves", _json(_curves)),
            Route("/api/job/stop", _json(_stop), methods=["POST"]),
            Route("/api/review", _json(_start_review), methods=["POST"]),
            Route("/api/review", _json(_review)),
            Route("/api/review/decision", _json(_decide), methods=["POST"]),
            Route("/api/review/picture/{row:int}", _picture),
        ],
        exception_handlers={TooLarge: too_large},
    )  # fmt: skip
    app.state.workspace = workspace
    return Guard(app, token=token, hosts=hosts)


def _json(work: Work) -> Callable[[Request], Any]:
    """Return an endpoint that works in a thread, and answers with its result, or with an error in words (400)."""

    @wraps(work)
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        try:
            return Json(await run_in_threadpool(work, request.app.state.workspace, request, body))
        except (DescendError, OSError) as error:
            return Json({"error": str(error)}, status_code=400)
        except Exception as error:  # a mistake of ours: the page says so, and the terminal where
            traceback.print_exc()
            told = f"descend has made a mistake ({type(error).__name__}); the terminal where it runs says where."
            return Json({"error": told}, status_code=500)

    return endpoint


# ------------------------------------------------------------------------------------------------------------ the page


async def _page(request: Request) -> Response:
    workspace: Workspace = request.app.state.workspace
    return HTMLResponse(_template().render(version=__version__, runs=str(workspace.runs), root=str(workspace.places.root)))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("descend.app"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")


async def _static(request: Request) -> Response:
    """Answer one of the files that are named here: no path is built from what was asked."""
    name = request.path_params["name"]
    if name == "style.css":
        return Response(_style(), media_type="text/css")
    if name in SCRIPTS:
        return Response(files("descend.app").joinpath("static", name).read_text(encoding="utf-8"), media_type="text/javascript")
    return Json({"error": "There is no such file."}, status_code=404)


@cache
def _style() -> str:
    """Return the style of the report, and what the app adds to it."""
    report = files("descend.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return report + files("descend.app").joinpath("static", "app.css").read_text(encoding="utf-8")


async def _report(request: Request) -> Response:
    try:
        path = await run_in_threadpool(request.app.state.workspace.report, request.path_params["ticket"])
    except DescendError:  # its run has been deleted
        path = None
    if path is None or not path.is_file():
        return Json({"error": "Open the report from the app: this address is none of a report."}, status_code=403)
    return FileResponse(path, media_type="text/html; charset=utf-8")


def _state(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request, body
    runs = workspace.listed()
    return {
        "first": workspace.first, "runs_folder": str(workspace.runs), "root": str(workspace.places.root), "sets": sorted(SETS),
        "runs": runs, "job": workspace.job.describe() if workspace.job is not None else None,
        "has_review": workspace.review is not None, "most_bytes": MOST_BYTES, "known_data": workspace.known_data(runs),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ pictures


def _about(workspace: Workspace, request: Request, body: bytes) -> Any:
    del body
    return answers.about(workspace.run(_text(request, "run")))


def _sure(workspace: Workspace, request: Request, body: bytes) -> Any:
    del body
    below = _number(request, "below")
    if below is None or not 0 < below <= 1:
        raise KnobError("the threshold", "must be a probability in (0, 1]", got=below)
    return {"sentence": workspace.run(_text(request, "run")).record.sure_answers(below)}


def _predict(workspace: Workspace, request: Request, body: bytes) -> Any:
    run = workspace.run(_text(request, "run"))
    return answers.answer(run, body, name=_text(request, "name"), below=_number(request, "below"))


def _saliency(workspace: Workspace, request: Request, body: bytes) -> Any:
    run = workspace.run(_text(request, "run"))
    return answers.looked(run, body, name=_text(request, "name"), label=_whole(request, "class"))


# ---------------------------------------------------------------------------------------------------------------- runs


def _runs(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request, body
    return workspace.listed()


def _compare(workspace: Workspace, request: Request, body: bytes) -> Any:
    del body
    return workspace.compared(request.query_params.getlist("run"))


def _ticket(workspace: Workspace, request: Request, body: bytes) -> Any:
    del body
    return {"path": f"/report/{workspace.report_ticket(_text(request, 'run'))}"}


# ---------------------------------------------------------------------------------------------------------------- work


def _places(workspace: Workspace, request: Request, body: bytes) -> Any:
    del body
    return workspace.places.listed(request.query_params.get("folder", ""))


def _fit(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request
    asked = _object(body)
    resumed = asked.pop("resume", None)
    job = workspace.fit(asked) if resumed is None else workspace.resume(str(resumed))
    return job.describe()


def _job(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request, body
    return workspace.job.describe() if workspace.job is not None else None


def _stop(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request, body
    workspace.stop()
    return {"ok": True}


def _curves(workspace: Workspace, request: Request, body: bytes) -> Any:
    """Draw the epochs so far as the report draws them."""
    del request, body
    rows = workspace.job.epochs() if workspace.job is not None else []
    charts = curves(rows, None) if rows else []
    return [{"title": chart.title, "svg": str(chart.svg), "lines": [line.name for line in chart.lines]} for chart in charts]


async def _news(request: Request) -> Response:
    """Stream the state of the work, whenever there is news, until it has ended."""
    return StreamingResponse(_events(request.app.state.workspace), media_type="text/event-stream")


async def _events(workspace: Workspace) -> AsyncIterator[str]:
    seen, watched = -1, workspace.job
    while watched is not None and not workspace.closing:
        if watched.version != seen:
            seen, runs = watched.version, watched.running
            yield f"data: {json.dumps(finite(await run_in_threadpool(watched.describe)))}\n\n"
            if not runs:
                break
        await asyncio.sleep(WATCH_S)
    yield "event: over\ndata: {}\n\n"


# -------------------------------------------------------------------------------------------------------------- labels


def _start_review(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request
    asked = _object(body)
    deep = asked.get("deep")
    review = workspace.start_review(str(asked.get("data", "")), str(asked.get("table", "")), deep=bool(deep))
    return review.describe()


def _review(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request, body
    return workspace.current_review().describe()


def _decide(workspace: Workspace, request: Request, body: bytes) -> Any:
    del request
    asked = _object(body)
    review = workspace.current_review(str(asked.get("review", "")))
    review.decide(*(str(asked.get(name, "")) for name in ("path", "action", "label")))
    return {"decisions": review.decided()}


async def _picture(request: Request) -> Response:
    workspace: Workspace = request.app.state.workspace
    try:
        review = workspace.current_review(_text(request, "review"))
        jpeg = await run_in_threadpool(review.picture, request.path_params["row"])
    except (DescendError, OSError) as error:
        return Json({"error": str(error)}, status_code=400)
    return Response(jpeg, media_type="image/jpeg")


# ---------------------------------------------------------------------------------------------------- what was asked for


def _text(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise KnobError(name, "must be given")
    return value


def _number(request: Request, name: str) -> float | None:
    value = request.query_params.get(name)
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        raise KnobError(name, "must be a number", got=value) from None


def _whole(request: Request, name: str) -> int:
    value = _text(request, name)
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise KnobError(name, "must be a whole number", got=value)
    return int(value)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise KnobError("the app", "must be sent a JSON object")
    return value
