"""The server: bound to this machine alone, with a fresh token in its address; Ctrl-C ends it and keeps what was trained."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn

from descend.app.guard import new_token
from descend.app.places import folder_and_run
from descend.app.routes import application
from descend.app.workspace import Shown, Workspace
from descend.errors import KnobError
from descend.train.interrupt import EXIT_TERMINATED

HOST = "127.0.0.1"  # nothing else: the app reads files and starts trainings
LINGER_S = 1  # that answers under way may take when the server ends
PORTS_TRIED = 50  # from the one that was asked for
Tell = Callable[[str], None]


def serve(place: Path | None, *, root: Path, port: int | None, browser: bool, shown: Shown, tell: Tell) -> int:
    """Serve the app until Ctrl-C or SIGTERM, and return the exit status: 0, or what SIGTERM gives.

    place: a run, a folder of runs, or None for ``runs``. root: the folder below which data may be chosen. port: None for any that
    is free; where it is taken, the next free one. browser: whether to open it there. shown: as ``Workspace`` has it. tell: prints
    one line. Raises RunError and KnobError.
    """
    runs, first = folder_and_run(place)
    if not root.is_dir():
        raise KnobError("--root", "must be a folder that exists", got=str(root))
    workspace = Workspace(runs, root, first, shown=shown)
    listening = _bound(port)
    taken = listening.getsockname()[1]
    address, token = f"{HOST}:{taken}", new_token()
    server = _Server(_config(workspace, token, {address, f"localhost:{taken}"}), workspace)
    if port not in (None, taken):
        tell(f"Port {port} is taken; this is the next free one.")
    tell(f"http://{address}/{token}/")
    tell("Open it in a browser on this machine. It is for you alone: whoever has this address can use it. Ctrl-C ends it.")
    if browser:
        threading.Thread(target=_show, args=(f"http://{address}/{token}/", tell), daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    finally:
        listening.close()
        if workspace.job is not None and workspace.job.running:
            tell(f"Stopping {workspace.job.title}; what was done is kept ... (Ctrl-C again: at once)")
        workspace.close()
    tell("Stopped.")
    return EXIT_TERMINATED if server.ended_by == signal.SIGTERM else 0


def _config(workspace: Workspace, token: str, hosts: set[str]) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.exc_info is not None)  # not how it ends its connections
    return uvicorn.Config(
        application(workspace, token=token, hosts=hosts), log_config=None, access_log=False, server_header=False, lifespan="off",
        ws="none", timeout_graceful_shutdown=LINGER_S, timeout_keep_alive=30,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """A server that lets what streams end when it is told to stop, and work that goes on end in order afterwards.

    ended_by: the signal that came first; 0 before. uvicorn would raise it again before anything else is ended.
    """

    def __init__(self, config: uvicorn.Config, workspace: Workspace) -> None:
        super().__init__(config)
        self.workspace, self.ended_by = workspace, 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Let the server end; a second time at once."""
        del frame
        self.force_exit = self.should_exit
        self.should_exit = self.workspace.closing = True
        self.ended_by = self.ended_by or sig


def _bound(port: int | None) -> socket.socket:
    """Return a listening socket of this machine alone. Raises KnobError where no port can be had."""
    why = ""
    for wanted in [0] if port is None else range(port, min(65_535, port + PORTS_TRIED) + 1):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just left is free
            listening.bind((HOST, wanted))
            listening.listen()
        except OSError as error:
            listening.close()
            why = error.strerror or str(error)
        else:
            return listening
    raise KnobError("--port", f"must be free, or one soon after it ({why})", got=port, fix="Leave it out for any that is.")


def _show(url: str, tell: Tell) -> None:
    """Open the page in a browser, where there is one with a window; in a terminal it would take the terminal."""
    has_screen = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    try:
        opened = has_screen and webbrowser.open(url)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        tell("No browser could be opened here: copy the address above into one.")
