"""The addresses of the app, asked as the page asks them: pictures, runs, reports, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from descend.api import fit
from descend.app import Workspace, application, guard, saliency
from descend.app.guard import REPORT, REPORT_POLICY
from descend.app.routes import SCRIPTS
from descend.cli.run_tables import shown_settings
from descend.errors import RunError
from descend.report.next_steps import advice
from descend.train import grad_cam
from descend.train.calibration import suggested_threshold
from descend.train.modes import MODES
from descend.train.run import Run

HOST, TOKEN = "127.0.0.1:8000", "token"
SMALL = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 24, "augment": []}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """A folder with two runs of the shapes in runs/, and a file beside it that nobody may see."""
    place = tmp_path_factory.mktemp("app")
    (place / "secret.txt").write_text("secret")
    first, second = (place / "root" / "runs" / name for name in ("first", "second"))
    fit(shapes, out=first, epochs=6, **SMALL)
    shutil.copytree(first, second)
    record = json.loads((second / "record.json").read_text())
    del record["digest"]  # so that it may be edited
    (second / "record.json").write_text(json.dumps(record | {"plan": record["plan"] | {"epochs": 1}}))
    (second / "recipe.toml").touch()
    return place / "root"


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with served(root) as started:
        yield started


def served(root: Path) -> TestClient:
    app = application(Workspace(root / "runs", root, "first", shown=shown_settings), token=TOKEN, hosts={HOST})
    return TestClient(app, base_url=f"http://{HOST}/{TOKEN}/")


@pytest.fixture(scope="module")
def disc(shapes: Path) -> bytes:
    return (shapes / "disc" / "00.png").read_bytes()


def refused(client: TestClient, path: str, **asked: object) -> str:
    """Return the app's sentence about what it refuses."""
    method = "POST" if "content" in asked or "json" in asked else "GET"
    answer = client.request(method, path, **asked)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_page_and_all_that_it_asks_for_are_served(client: TestClient, root: Path) -> None:
    page = client.get("")
    assert page.status_code == 200
    assert str(root) in page.text
    for path in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        assert client.get(path).status_code == 200, path
    folder = files("descend.app") / "static"
    assert {*SCRIPTS} == {item.name for item in folder.iterdir() if item.name.endswith(".js")}
    for name in SCRIPTS:
        text = client.get(f"static/{name}").text
        assert {*re.findall(r'from "\./([^"]+)"', text)} <= {*SCRIPTS}
    style = client.get("static/style.css").text
    assert "--paper" in style  # the report's colors
    assert ".drop" in style


@pytest.mark.parametrize("name", ["../guard.py", "..%2fguard.py", "%2e%2e%2fguard.py", "guard.py", "app.js/..", "page.html"])
def test_no_other_file_is(client: TestClient, name: str) -> None:
    answer = client.get(f"static/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_there_is_no_way_round_the_token(client: TestClient) -> None:
    inner = client.app.app  # pyright: ignore
    assert isinstance(inner, Starlette)
    paths = [route.path for route in inner.routes]  # pyright: ignore
    assert len(paths) > 15
    for path in paths:
        filled = re.sub(r"\{[^}]+\}", "1", path)
        for method in ("GET", "POST"):
            status = client.request(method, f"http://{HOST}{filled}").status_code
            assert status == 403 or (filled == f"{REPORT}1" and method == "POST" and status == 405), filled


def test_the_ways_to_train_are_those_that_there_are() -> None:
    script = (files("descend.app") / "static" / "training.js").read_text(encoding="utf-8")
    assert re.findall(r'^  \["(\w+)", "', script, re.MULTILINE) == [*MODES]


def test_a_mistake_of_ours_is_told_without_its_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(Workspace, "listed", lambda self: 1 / 0)
    answer = client.get("api/runs")
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["error"]
    assert "routes.py" in capsys.readouterr().err


def test_what_is_too_large_is_told_also_where_its_length_was_not(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_BYTES", 2**20)
    for content in (bytes(2**20 + 1), iter([bytes(2**20), b"x"])):  # the second is sent in chunks
        answer = client.post("api/predict?run=first&name=x", content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "A picture must have at most 1 MB.")
        assert answer.headers["content-security-policy"] == guard.POLICY


# ------------------------------------------------------------------------------------------------------------ pictures


def test_a_picture_gets_the_runs_own_calibrated_answer(client: TestClient, root: Path, disc: bytes) -> None:
    told = client.post("api/predict?run=first&name=disc.png&below=0.01", content=disc).json()
    [p] = Run(root / "runs" / "first").predict([disc], quick=True).probabilities
    assert [one["label"] for one in told["top"]] == [("disc", "square", "stripes")[k] for k in np.argsort(-p)]
    np.testing.assert_allclose([one["p"] for one in told["top"]], np.sort(p)[::-1], rtol=1e-5)
    assert told["sure"]
    assert told["name"] == "disc.png"
    assert told["doubtful"] == ""
    assert Image.open(io.BytesIO(base64.b64decode(told["seen"]))).size >= (200, 200)


def test_an_answer_that_may_mean_nothing_says_so(client: TestClient) -> None:
    deep = np.random.default_rng(0).integers(0, 2**12, (72, 72), np.uint16)  # of 12 bits, which 16 show as black
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "png")
    told = client.post("api/predict?run=first&name=deep.png", content=file.getvalue()).json()
    assert "their bits may be fewer" in told["doubtful"]


def test_what_is_less_likely_than_the_threshold_is_not_sure(client: TestClient, disc: bytes) -> None:
    asked = "api/predict?run=first&name=x&below={:.6f}"
    best = client.post("api/predict?run=first&name=x", content=disc).json()["top"][0]["p"]
    assert client.post(asked.format(best - 1e-5), content=disc).json()["sure"]
    assert not client.post(asked.format(min(1.0, best + 1e-5)), content=disc).json()["sure"]


def test_the_threshold_that_is_suggested_is_that_of_the_report(client: TestClient, root: Path) -> None:
    suggested = client.get("api/about?run=first").json()["suggested"]
    record = Run(root / "runs" / "first").record
    assert suggested == suggested_threshold(record.calibration["val"]["coverage"])
    (advised,) = [item.command for item in advice(root, record) if "--unsure-below" in item.command] or [None]
    assert (advised is None) == (suggested is None)
    assert advised is None or advised.endswith(f" {suggested:.2f}")
    sentence = client.get("api/sure?run=first&below=0.34").json()["sentence"]
    assert sentence == Run(root / "runs" / "first").record.sure_answers(0.34)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), b"<svg/>", b"%PDF-1.4"])
def test_what_is_no_picture_is_told_by_its_name(client: TestClient, content: bytes) -> None:
    for path in ("api/predict", "api/saliency"):
        assert refused(client, f"{path}?run=first&name=holiday.jpg&class=0", content=content).startswith("holiday.jpg: ")


def test_a_picture_that_is_cut_short_is_told(client: TestClient, disc: bytes) -> None:
    assert refused(client, "api/predict?run=first&name=cut.png", content=disc[: len(disc) // 2]).startswith("cut.png: ")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("name=x", "run: must be given"),
        ("run=third&name=x", "got 'third'. Known: first, second."),
        ("run=../runs/first&name=x", "knows the runs of"),
        ("run=/etc&name=x", "knows the runs of"),
        ("run=first", "name: must be given"),
        ("run=first&name=x&below=nan", "must be a probability in (0, 1]"),
        ("run=first&name=x&below=much", "must be a number, got 'much'"),
    ],
)
def test_what_cannot_be_meant_is_told(client: TestClient, disc: bytes, query: str, told: str) -> None:
    assert told in refused(client, f"api/predict?{query}", content=disc)


# --------------------------------------------------------------------------------------------------- where it looked


def test_where_it_looked_is_grad_cam_of_the_last_stage_that_keeps_places(client: TestClient, root: Path, disc: bytes) -> None:
    run = Run(root / "runs" / "first")
    network = run.classifier
    stage = network.backbone.stages.get_submodule("block2")
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    with stage.register_forward_hook(keep), torch.enable_grad():
        network(run.transform(disc)[None].requires_grad_())[0, 2].backward()
    [activation] = kept
    weights = activation.grad.mean((2, 3), keepdim=True)
    by_hand = torch.relu((weights * activation).sum(1, keepdim=True))
    by_hand = torch.nn.functional.interpolate(by_hand, (24, 24), mode="bilinear")[0, 0]
    found = saliency.saliency(run, disc, 2)
    np.testing.assert_allclose(found.heat, (by_hand / by_hand.max()).detach().numpy(), atol=1e-5)
    told = client.post("api/saliency?run=first&name=x&class=2", content=disc).json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["heat"]))))
    assert mask.shape[2] == 2
    assert mask[..., 1].max() >= 250
    assert "smallcnn" in told["asked"]


def test_where_that_cannot_be_said_the_page_says_why(client: TestClient, disc: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "api/saliency?run=first&name=x&class=0"
    with monkeypatch.context() as patch:
        patch.setattr(grad_cam, "LEAST_PLACES", 25)
        assert "so Grad-CAM cannot say where it looked" in client.post(ask, content=disc).json()["why_not"]
    for wrong in ("3", "-1", "1e9", "nan", "½"):
        assert refused(client, f"api/saliency?run=first&name=x&class={wrong}", content=disc).startswith("class: ")


def test_a_vision_transformer_answers_and_says_that_its_tokens_keep_no_map(root: Path, shapes: Path, disc: bytes) -> None:
    vit = {"transfer": "scratch", "backbone": 'timm(model="test_vit", img_size=32, pretrained=False)', "size": 32, "augment": []}
    fit(shapes, out=root / "runs" / "vit", epochs=1, **vit)
    try:
        with served(root) as client:
            told = client.post("api/predict?run=vit&name=disc.png", content=disc).json()
            assert {one["label"] for one in told["top"]} == {"disc", "square", "stripes"}
            why = client.post("api/saliency?run=vit&name=disc.png&class=0", content=disc).json()["why_not"]
            assert why.startswith("timm(model='test_vit'")
            assert "keeps no map of 4 x 4 places or more (its stages give vectors, tokens or coarser maps)" in why
    finally:
        shutil.rmtree(root / "runs" / "vit")


# ---------------------------------------------------------------------------------------------------------------- runs


def test_runs_are_listed_and_compared_as_in_the_terminal(client: TestClient) -> None:
    runs = client.get("api/runs").json()
    assert [run["name"] for run in runs] == ["second", "first"]
    assert [run["status"] for run in runs] == ["finished", "finished"], runs
    assert all(run["can_answer"] and run["has_report"] and run["val"]["accuracy_interval"] for run in runs)
    told = client.get("api/compare?run=first&run=second").json()
    assert told["settings"] == {"epochs": ["6", "1"]}
    assert told["same_data"]
    assert "two runs or more" in refused(client, "api/compare?run=first")
    assert "knows the runs" in refused(client, "api/compare?run=first&run=..")


def test_a_report_is_opened_by_a_ticket_of_its_own_and_shut_in(client: TestClient, root: Path) -> None:
    path = client.post("api/report?run=first").json()["path"]
    assert path.startswith(REPORT)
    answer = client.get(f"http://{HOST}{path}")
    assert answer.text == (root / "runs" / "first" / "report.html").read_text(encoding="utf-8")
    assert answer.headers["content-security-policy"] == REPORT_POLICY
    assert client.post("api/report?run=first").json()["path"] == path
    assert client.post("api/report?run=second").json()["path"] != path
    for other in (f"{path}x", path[:-1], f"{REPORT}{TOKEN}", f"{REPORT}..", f"{path}/../../secret.txt", f"{path}/record.json"):
        assert client.get(f"http://{HOST}{other}").status_code in (403, 404), other


def test_a_report_of_a_run_that_is_gone_is_refused_in_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def gone(self: object, ticket: str) -> Path:
        raise RunError("run first", "must be there")

    monkeypatch.setattr("descend.app.workspace.Workspace.report", gone)
    answer = client.get(f"http://{HOST}{REPORT}ticket")
    assert answer.status_code == 403
    assert "Open the report from the app" in answer.json()["error"]


def test_a_run_that_is_damaged_is_told_and_the_others_stay(client: TestClient, root: Path) -> None:
    broken = root / "runs" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text("{")
    try:
        [run] = [run for run in client.get("api/runs").json() if run["name"] == "broken"]
        assert run["status"] == "damaged"
        assert "must be intact JSON" in run["problem"]
        assert "must be intact JSON" in refused(client, "api/about?run=broken")
    finally:
        (broken / "record.json").unlink()
        broken.rmdir()


# -------------------------------------------------------------------------------------------------------------- places


def test_data_are_chosen_below_the_root_and_nowhere_else(client: TestClient, root: Path, shapes: Path) -> None:
    (root / "mine").mkdir(exist_ok=True)
    (root / "out").symlink_to(root.parent)
    (root / "a.csv").write_text("path,label\n")
    try:
        listed = client.get("api/places").json()
        assert [entry["path"] for entry in listed["entries"]] == ["mine", "runs", "a.csv"]
        assert listed["parent"] is None
        assert client.get("api/places?folder=runs").json()["parent"] == ""
        for outside in ("..", "../secret.txt", "/etc", "out", "mine/../../", "~", "\0"):
            answer = client.get("api/places", params={"folder": outside})
            assert answer.status_code == 400, outside
            assert "secret" not in answer.text.replace(outside, "")
        for path, asked in (("api/fit", {"data": str(shapes)}), ("api/review", {"data": "../x", "table": "c.csv"}),
                            ("api/review", {"data": "mine", "table": "../c.csv"})):  # fmt: skip
            assert "may only look below" in refused(client, path, json=asked)
        assert "Start it with --root FOLDER" in refused(client, "api/fit", json={"data": ".."})
        linked = refused(client, "api/fit", json={"data": "out"})  # as it is written it lies below
        assert f"may only look below {root} (it is a link to {root.parent}), got 'out'." in linked
        assert f"Start it with --root {root.parent} to allow" in linked
    finally:
        (root / "out").unlink()
        (root / "a.csv").unlink()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "data: must be a folder"),
        ({"data": "nowhere"}, "data: must be a folder or a table that exists, got 'nowhere'"),
        ({"data": "digits", "transfer": "magic"}, "must be one of auto, "),
        ({"data": "digits", "epochs": -1}, "epochs"),
        ({"data": "digits", "budget": "soon"}, "budget"),
        ({"data": "digits", "out": "/tmp/x"}, "takes data, transfer"),
        ({"data": "digits", "device": "cuda"}, "got 'device'"),
        ({"data": "digits", "corrections": "c.txt"}, "ending in .csv"),
        ({"resume": "../first"}, "knows the runs of"),
        ({"resume": "first"}, "run first: must be one that was interrupted, got 'finished'"),
    ],
)
def test_a_training_that_cannot_be_meant_is_told_before_it_begins(client: TestClient, asked: dict[str, str], told: str) -> None:
    assert told in refused(client, "api/fit", json=asked)
    assert client.get("api/job").json() is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, json.dumps("text").encode()])
def test_what_is_no_object_is_told(client: TestClient, body: bytes) -> None:
    assert "must be sent a JSON object" in refused(client, "api/fit", content=body)
