"""What the app starts: trainings and scans in processes of their own, watched, stopped in order, and what comes of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

from descend.app import Workspace, application, jobs, review, serve, worker
from descend.app.places import Places
from descend.cli import app as verb
from descend.cli import main
from descend.cli.run_tables import shown_settings
from descend.data import load
from descend.data.corrections import read_corrections
from descend.errors import KnobError, MissingExtra, TrainingError
from descend.train import folder
from descend.train.run import Run

HOST, TOKEN = "127.0.0.1:8000", "token"
WAIT_S = 240  # on a machine with much else to do


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two threads wait for each other where other tests run beside
    shapes_folder(tmp_path / "photos", n=6, side=16)  # small pictures get a small network
    return tmp_path


@pytest.fixture
def workspace(root: Path) -> Iterator[Workspace]:
    made = Workspace(root / "runs", root, shown=shown_settings)
    yield made
    made.close()


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    with TestClient(application(workspace, token=TOKEN, hosts={HOST}), base_url=f"http://{HOST}/{TOKEN}/") as started:
        yield started


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)
    pytest.fail("it has not come to that")


def posted(client: TestClient, path: str, asked: Mapping[str, Any]) -> Any:
    answer = client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ------------------------------------------------------------------------------------------------------------ training


def test_a_training_is_watched_stopped_in_order_and_gone_on_with(client: TestClient, workspace: Workspace, root: Path) -> None:
    begun = posted(client, "api/fit", {"data": "photos", "transfer": "scratch", "epochs": 300})
    assert begun["running"]
    assert begun["command"] == f"descend fit {root / 'photos'} --transfer=scratch --epochs=300"
    until(lambda: workspace.job.epochs())  # pyright: ignore
    again = client.post("api/fit", json={"data": "photos"})
    assert (again.status_code, "does one thing at a time" in again.text) == (400, True)
    assert [chart["title"] for chart in client.get("api/job/curves").json()][:2] == ["Loss", "Accuracy"]
    stopping = threading.Timer(0.5, lambda: posted(client, "api/job/stop", {}))
    stopping.start()
    with client.stream("GET", "api/job/news") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [*stream.iter_lines()]
    stopping.join()
    news = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith('data: {"')]
    assert lines[-3] == "event: over"
    assert news[0]["running"]
    assert any(item["stage"].get("stage") == "training" for item in news)
    assert not news[-1]["running"]
    assert news[-1]["result"]["status"] == "interrupted"
    [run] = client.get("api/runs").json()
    assert (run["name"], run["status"]) == (begun["run"], "interrupted")
    n = len(Run(root / "runs" / run["name"]).record.epoch_rows(root / "runs" / run["name"]))
    assert posted(client, "api/fit", {"resume": run["name"]})["kind"] == "resume"
    until(lambda: len(workspace.job.epochs()) > n)  # pyright: ignore
    process = workspace.job._process  # pyright: ignore
    workspace.close()
    assert process.returncode == 0
    assert Run(root / "runs" / run["name"]).record.status == "interrupted"


@pytest.mark.parametrize(
    ("data", "name"), [("my.photos", "my.photos"), ("birds.tar.gz", "birds"), ("table.csv", "table"), ("digits", "digits")]
)
def test_a_run_is_named_after_its_data_and_the_time_as_in_the_terminal(
    data: str, name: str, workspace: Workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "my.photos").mkdir()
    for file in ("birds.tar.gz", "table.csv"):
        (root / file).write_bytes(b"")
    places = list[Path]()
    monkeypatch.setattr(workspace, "_begun", lambda begin, place: places.append(place))
    monkeypatch.setattr(folder, "datetime", Noon)
    workspace.fit({"data": data})
    folder.create(None, name, root=str(root / "runs"))  # a command in a terminal, in the same second
    workspace.fit({"data": data})
    assert [place.name for place in places] == [f"{name}-20260102-120000", f"{name}-20260102-120000-2"]
    assert {place.parent for place in places} == {root / "runs"}


class Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Noon:
        return cls(2026, 1, 2, 12, tzinfo=tz)


def test_what_stops_a_training_is_told(client: TestClient, root: Path) -> None:
    shutil.rmtree(root / "photos" / "disc")
    shutil.rmtree(root / "photos" / "square")
    posted(client, "api/fit", {"data": "photos", "transfer": "scratch"})
    told = until(lambda: (job := client.get("api/job").json()) and not job["running"] and job)
    assert "photos" in told["error"]
    assert "class" in told["error"]
    assert told["result"] is None
    assert client.get("api/runs").json() == []


def test_a_process_that_dies_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = jobs.Job("nonsense", "what is not there", {})
    until(lambda: not job.running)
    job.close()
    assert "ended unasked, with status 1" in job.error
    assert "KeyError: 'nonsense'" in job.error


# -------------------------------------------------------------------------------------------------------------- labels


def test_findings_are_gone_through_and_corrected_into_a_table_that_fit_takes(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "json.py").write_text("raise SystemExit('taken')")  # no module is taken from the folder with the pictures
    monkeypatch.chdir(root)
    photos = root / "photos"
    shutil.copy(photos / "disc" / "00.png", photos / "square" / "zz.png")  # one picture, two classes
    shutil.copy(photos / "stripes" / "01.png", photos / "stripes" / "zz.png")  # the same twice
    posted(client, "api/review", {"data": "photos", "table": "corrections.csv", "deep": False})
    found = until(lambda: (told := client.get("api/review").json()) and not told["running"] and told)
    assert found["error"] == ""
    assert found["command"] == "descend fit photos --corrections corrections.csv"
    cards = {card["check"]: {picture["path"] for picture in card["pictures"]} for card in found["cards"]}
    assert cards["label conflicts"] == {"disc/00.png", "square/zz.png"}
    assert {"stripes/01.png", "stripes/zz.png"} in cards.values()

    def decide(path: str, action: str, label: str = "") -> Any:
        return client.post("api/review/decision", json={"review": found["id"], "path": path, "action": action, "label": label})

    assert decide("square/zz.png", "relabel", "disc").json()["decisions"] == [
        {"path": "square/zz.png", "label": "disc", "action": "relabel"}
    ]
    for path, action, label in (("stripes/zz.png", "drop", ""), ("disc/00.png", "keep", ""), ("disc/01.png", "drop", "")):
        assert decide(path, action, label).status_code == 200
    assert decide("disc/01.png", "undo").status_code == 200
    table = root / "corrections.csv"
    assert table.read_text(encoding="utf-8").splitlines() == [
        "path,label,action", "disc/00.png,disc,keep", "square/zz.png,disc,relabel", "stripes/zz.png,,drop"
    ]  # fmt: skip
    assert len(read_corrections(table)) == 3
    corrected = load(photos, corrections=table)
    names = {corrected.name_of(row): corrected.classes[corrected.labels[row]] for row in range(len(corrected))}
    assert names["square/zz.png"] == "disc"
    assert "stripes/zz.png" not in names

    before = table.read_bytes()
    for path, action, label in (
        ("../secret.png", "drop", ""), ("disc/00.png", "burn", ""), ("disc/00.png", "relabel", ""),
        ("disc/00.png", "relabel", "disc"), ("disc/00.png", "relabel", "cat"), ("", "drop", ""),
    ):  # fmt: skip
        assert decide(path, action, label).status_code == 400
    assert table.read_bytes() == before

    row = next(card for card in found["cards"] if card["check"] == "label conflicts")["pictures"][0]["row"]
    jpeg = client.get(f"api/review/picture/{row}?review={found['id']}")
    assert jpeg.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(jpeg.content)).size[1] >= 160
    assert client.get(f"api/review/picture/9999?review={found['id']}").status_code == 400

    posted(client, "api/review", {"data": "photos", "table": "corrections.csv", "deep": False})
    assert len(client.get("api/review").json()["decisions"]) == 3  # gone on with
    client.post("api/job/stop", json={})
    for late in (decide("disc/02.png", "drop"), client.get(f"api/review/picture/{row}?review={found['id']}")):  # of another tab
        assert late.status_code == 400
        assert late.json()["error"].startswith("labels: must be those of the latest scan, and this page shows an earlier one.")
    assert client.get(f"api/review/picture/{row}").status_code == 400
    assert table.read_bytes() == before


def test_two_tabs_that_decide_at_once_lose_no_decision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "Job", lambda *_: SimpleNamespace())
    gone_through = review.Review(str(root / "photos"), root / "c.csv", deep=False, places=Places(root))
    second = threading.Thread(target=gone_through.decide, args=("disc/01.png", "drop", ""))
    write = review.write_corrections

    def interrupted(*args: Any) -> None:
        if second.ident is None:
            second.start()
            second.join(0.2)  # it must wait for the first to end
        write(*args)

    monkeypatch.setattr(review, "write_corrections", interrupted)
    gone_through.decide("disc/00.png", "drop", "")
    second.join()
    assert [item.path for item in read_corrections(root / "c.csv")] == ["disc/00.png", "disc/01.png"]
    assert len(gone_through.decided()) == 2


def test_a_picture_whose_link_leads_out_is_not_shown(
    client: TestClient, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (30, 30)).save(outside)
    (root / "photos" / "disc" / "99.png").symlink_to(outside)
    told = posted(client, "api/review", {"data": "photos", "table": "c.csv", "deep": False})
    client.post("api/job/stop", json={})
    rows = [client.get(f"api/review/picture/{row}?review={told['id']}") for row in range(told["n_pictures"])]
    [refused] = [answer for answer in rows if answer.status_code != 200]
    assert "may only look below" in refused.json()["error"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_pictures_of_an_archive_are_shown_from_where_they_lie(kind: str, client: TestClient, root: Path) -> None:
    shutil.make_archive(str(root / "packed"), kind, root / "photos")
    assert f"packed.{kind}" in [entry["path"] for entry in client.get("api/places").json()["entries"]]
    told = posted(client, "api/review", {"data": f"packed.{kind}", "table": "c.csv", "deep": False})
    client.post("api/job/stop", json={})
    pictures = [f"api/review/picture/{row}?review={told['id']}" for row in range(told["n_pictures"])]
    assert {client.get(path).status_code for path in pictures} == {200}


def test_a_table_of_something_else_is_not_written_over(client: TestClient, root: Path) -> None:
    (root / "prices.csv").write_text("item,price\n")
    answer = client.post("api/review", json={"data": "photos", "table": "prices.csv", "deep": False})
    assert answer.status_code == 400
    assert "must have the columns path,label,action" in answer.text
    assert (root / "prices.csv").read_text() == "item,price\n"
    assert "needs data to be scanned first" in client.get("api/review").text


# -------------------------------------------------------------------------------------------------- the worker's words


@pytest.mark.parametrize(
    ("raised", "news"),
    [
        (KeyboardInterrupt(), {"ended": {"status": "stopped"}}),
        (TrainingError("training", "must go on"), {"error": "training: must go on."}),
        (OSError(28, "No space left on device"), {"error": "[Errno 28] No space left on device"}),
    ],
)
def test_the_worker_says_what_has_stopped_it(raised: BaseException, news: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> Any:
        raise raised

    monkeypatch.setitem(worker._KINDS, "fit", stopped)
    sent: list[Mapping[str, Any]] = []
    worker.work({"kind": "fit"}, sent.append)
    assert sent == [news]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell ignores signals for others on POSIX only")
def test_the_worker_can_be_stopped_where_a_script_has_started_the_app_in_the_background() -> None:
    watched = (
        "import signal, time\n"
        "from descend.app import worker\n"
        "worker.work = lambda request, send: time.sleep(60)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as a shell without job control does for what ends in "&"
        "try:\n    worker.main()\n"
        "except KeyboardInterrupt:\n    raise SystemExit(7)\n"
    )
    ended = subprocess.run([sys.executable, "-c", watched], input=b"{}\nstop\n", capture_output=True, timeout=50, check=False)
    assert ended.returncode == 7


def test_the_worker_tells_beginning_and_end_of_a_stage_and_not_every_step() -> None:
    sent: list[Mapping[str, Any]] = []
    listener = worker.Listener(sent.append)
    for done in range(101):
        listener.update("training", done, 100)
    listener.update("judging", 0, 5)
    assert [(item["stage"], item["done"]) for item in sent if item["done"] in (0, 100)] == [
        ("training", 0), ("training", 100), ("judging", 0)
    ]  # fmt: skip
    assert len(sent) < 20


# ---------------------------------------------------------------------------------------------------------- the server


def test_a_port_that_is_taken_gives_the_next_free_one() -> None:
    first = serve._bound(None)
    port = first.getsockname()[1]
    second = serve._bound(port)
    try:
        assert first.getsockname()[0] == second.getsockname()[0] == "127.0.0.1"
        assert port < second.getsockname()[1] <= port + serve.PORTS_TRIED
        with socket.create_connection(second.getsockname(), timeout=5):
            pass
    finally:
        first.close()
        second.close()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="who may have every port is refused none")
def test_a_port_that_cannot_be_had_is_told() -> None:
    with pytest.raises(KnobError, match="--port: must be free"):
        serve._bound(1)


@pytest.mark.parametrize("answer", [False, OSError("no"), serve.webbrowser.Error("none")])
def test_where_no_browser_opens_the_address_is_to_be_copied(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(url: str) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(serve.webbrowser, "open", opened)
    lines: list[str] = []
    serve._show("http://127.0.0.1/", lines.append)
    assert lines == ["No browser could be opened here: copy the address above into one."]


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        (["nowhere"], "must be given a run, or a folder of runs, that exists, got 'nowhere'", 1),
        (["photos"], "there is none here, got 'photos'", 1),
        (["--port", "70000"], "--port: must be a whole number in [1, 65535], got 70000", 2),
        (["--root", "nowhere"], "--root: must be a folder that exists, got 'nowhere'", 2),
    ],
)
def test_what_cannot_be_served_is_told(
    words: list[str], told: str, status: int, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    assert main(["app", "--no-browser", *words]) == status
    assert told in capsys.readouterr().err


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "NEEDED", ("starlette", "no_such_module"))
    with pytest.raises(MissingExtra, match=r"no_such_module must be installed.*pip install 'descend\[app\]'"):
        verb.main([])
