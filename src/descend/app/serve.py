"""The server: bound to this machine alone, with a fresh token in its address; Ctrl-C ends it and keeps what was trained."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn

from descend.app.guard import new_token
from descend.app.routes import application
from descend.app.workspace import Workspace, located
from descend.errors import KnobError

HOST = "127.0.0.1"  # nothing else: the app reads files and starts trainings
LINGER_S = 2  # that answers under way may take when the server ends


def serve(place: Path | None, *, root: Path, port: int | None, browser: bool, tell: Callable[[str], None]) -> None:
    """Serve the app until Ctrl-C or SIGTERM.

    place: a run, a folder of runs, or None for ``runs``. root: the folder below which data may be chosen. port: None for any that
    is free. browser: whether to open it there. tell: prints one line. Raises RunError and KnobError.
    """
    runs, first = located(place)
    if not root.is_dir():
        raise KnobError("--root", "must be a folder that exists", got=str(root))
    workspace = Workspace(runs, root, first)
    listening = _bound(port)
    address = f"{HOST}:{listening.getsockname()[1]}"
    token = new_token()
    hosts = {address, address.replace(HOST, "localhost")}
    config = uvicorn.Config(
        application(workspace, token=token, hosts=hosts), log_config=None, access_log=False, server_header=False, lifespan="off",
        ws="none", timeout_graceful_shutdown=LINGER_S, timeout_keep_alive=30,
    )  # fmt: skip
    tell(f"http://{address}/{token}/")
    tell("Open it in a browser on this machine. It is for you alone: whoever has this address can use it. Ctrl-C ends it.")
    if browser and _has_screen():
        webbrowser.open(f"http://{address}/{token}/")
    try:
        with suppress(KeyboardInterrupt):  # uvicorn passes the signal on when it has ended
            _Server(config, workspace).run(sockets=[listening])
    finally:
        listening.close()
        if workspace.job is not None and workspace.job.running:
            tell(f"Stopping {workspace.job.title}; what was done is kept ...")
        workspace.close()
    tell("Stopped.")


class _Server(uvicorn.Server):
    """A server that lets what streams end when it is told to stop."""

    def __init__(self, config: uvicorn.Config, workspace: Workspace) -> None:
        super().__init__(config)
        self.workspace = workspace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the end has come, and go on as uvicorn does."""
        self.workspace.closing = True
        super().handle_exit(sig, frame)


def _bound(port: int | None) -> socket.socket:
    """Return a socket of this machine alone. Raises KnobError for a port that cannot be had."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port or 0))
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or error
        raise KnobError("--port", f"must be free ({why})", got=port, fix="Leave it out for any that is.") from None
    return listening


def _has_screen() -> bool:
    """Return whether a browser would have a window; in a terminal it would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
