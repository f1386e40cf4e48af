"""``descend app`` as it is used: started in a folder, walked through in a browser, ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.browser import (  # pyright: ignore[reportMissingImports]
    FLAGS,
    SCHEMES,
    WIDTHS,
    browser,  # noqa: F401
    check_layout,
    chromium,
    opened,
)
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

from descend.api import fit
from descend.data.corrections import read_corrections
from descend.train.run import Run

LOCAL = ("http://127.0.0.1:",)
PATIENCE_MS = 120_000  # on a machine with much else to do
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: pictures, one of them under two classes, and a run of them."""
    place = tmp_path_factory.mktemp("app")
    photos = shapes_folder(place / "photos", n=8, side=16)  # small pictures get a small network
    fit(photos, out=place / "runs" / "shapes", transfer="scratch", epochs=3)
    (photos / "square" / "zz.png").write_bytes((photos / "disc" / "00.png").read_bytes())
    return place


def started(folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start the app as in a terminal, and return it with the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "descend.cli", "app", "--no-browser", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # two threads wait for each other where other tests run beside
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(r"(http://127\.0\.0\.1:\d+/[\w-]{43}/)\n", line)
    assert match, line + process.stdout.read()
    return process, match[1]


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process, url = started(folder, "runs/shapes")
    yield url
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def part(page: Any, name: str) -> None:
    page.locator(f'nav a[href="#{name}"]').first.click()
    page.locator(f"#{name}").wait_for()


def listening(page: Any) -> Any:
    """Return the page once it knows its runs and listens: a file that is given before is not heard of."""
    page.locator("#run option").first.wait_for(state="attached")
    return page


def drop(page: Any, picture: Path) -> None:
    """Drop a file on the page as the browser does."""
    listening(page)
    page.evaluate(
        """([name, bytes]) => {
          const given = new DataTransfer();
          given.items.add(new File([Uint8Array.from(bytes)], name, {type: "image/png"}));
          document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true}));
        }""",
        [picture.name, [*picture.read_bytes()]],
    )


def look_again(page: Any) -> None:
    """Come back to a tab, as the browser tells it."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_picture_is_dropped_and_answered(browser, address: str, folder: Path) -> None:  # noqa: F811
    picture = folder / "photos" / "stripes" / "03.png"
    [p] = Run(folder / "runs" / "shapes").predict([picture]).probabilities
    with opened(browser, address, allowed=LOCAL) as page:
        drop(page, picture)
        answer = page.locator(".answer").first
        answer.locator(".class .p").first.wait_for(timeout=PATIENCE_MS)
        assert answer.locator(".class .p").first.inner_text() == f"{100 * p.max():.1f}%"
        page.locator("#below").fill("0")
        assert answer.locator(".verdict").inner_text() == answer.locator(".class .name").first.inner_text()
        page.locator("#below").fill("100")
        assert answer.locator(".verdict").inner_text().startswith("Not sure")
        answer.locator(".asked", has_text="Grad-CAM on stage").wait_for(timeout=PATIENCE_MS)
        assert "data:image/png" in answer.locator(".looked").evaluate("node => getComputedStyle(node).maskImage")


def test_a_picture_is_pasted_from_the_clipboard_and_answered(browser, address: str, folder: Path) -> None:  # noqa: F811
    picture = folder / "photos" / "square" / "04.png"
    run = Run(folder / "runs" / "shapes")
    with opened(browser, address, allowed=LOCAL) as page:
        listening(page).context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate(
            """bytes => navigator.clipboard.write(
              [new ClipboardItem({"image/png": new Blob([Uint8Array.from(bytes)], {type: "image/png"})})])""",
            [*picture.read_bytes()],
        )
        page.keyboard.press("Control+V")
        answer = page.locator(".answer").first
        answer.locator(".class .p").first.wait_for(timeout=PATIENCE_MS)
        [p] = run.predict([picture]).probabilities  # the clipboard encodes it anew, its pixels stay
        assert answer.locator(".class .p").first.inner_text() == f"{100 * p.max():.1f}%"
        assert answer.locator(".class .name").first.inner_text() == run.classes[int(p.argmax())]
        assert page.locator(".answer").count() == 1


def test_an_answer_that_may_mean_nothing_says_so(browser, address: str, tmp_path: Path) -> None:  # noqa: F811
    deep = np.random.default_rng(0).integers(0, 2**12, (72, 72), np.uint16)  # of 12 bits, which 16 show as black
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with opened(browser, address, allowed=LOCAL) as page:
        drop(page, tmp_path / "deep.png")
        alarm = page.locator(".answer .alarm", has_text="Careful, this answer may mean nothing: values that span less than")
        alarm.wait_for(timeout=PATIENCE_MS)


def test_what_is_no_picture_is_told_in_its_place(browser, address: str) -> None:  # noqa: F811
    page = browser.new_page()  # the browser itself notes that it was refused
    page.goto(address)
    listening(page).set_input_files("#files", {"name": "notes.txt", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator(".answer .alarm", has_text="notes.txt: ").wait_for(timeout=PATIENCE_MS)
    page.close()


def test_an_answer_stays_that_of_its_run_while_another_is_chosen(browser, address: str, folder: Path) -> None:  # noqa: F811
    page, held = browser.new_page(), list[Any]()  # the browser itself notes that a run was refused

    def with_another(route: Any) -> None:
        state = route.fetch().json()
        [known] = [run for run in state["runs"] if run["name"] == "shapes"]
        route.fulfill(json=state | {"runs": [*state["runs"], known | {"name": "gone"}]})

    page.route("**/api/state", with_another)
    page.route("**/api/about?run=gone", lambda route: held.append(route))
    page.goto(address)
    drop(page, folder / "photos" / "stripes" / "03.png")
    answer = page.locator(".answer").first
    answer.locator(".asked", has_text="Grad-CAM").wait_for(timeout=PATIENCE_MS)
    page.locator("#run").select_option("gone")
    with page.expect_request("**/api/saliency**") as asked:
        answer.locator(".class").nth(1).click()
    assert "run=shapes&" in asked.value.url
    [about] = held
    about.continue_()
    page.locator("#pictures-say", has_text="knows the runs of").wait_for(timeout=PATIENCE_MS)
    answer.locator(".alarm", has_text="knows the runs of").wait_for(timeout=PATIENCE_MS)
    assert answer.locator(".class").count() == 0
    page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_part_fits_the_screen_and_can_be_read(browser, address: str, folder: Path, width: int, scheme: str) -> None:  # noqa: F811
    with opened(browser, address, width=width, scheme=scheme, allowed=LOCAL) as page:
        listening(page).set_input_files("#files", [folder / "photos" / "disc" / "03.png"])
        page.locator(".answer .asked", has_text="Grad-CAM").wait_for(timeout=PATIENCE_MS)
        check_layout(page)
        for name in ("runs", "training", "labels"):
            part(page, name)
            check_layout(page)
            assert page.locator(f"#{name} h1").evaluate("node => node === document.activeElement")


def test_the_camera_takes_a_picture(browser, address: str) -> None:  # noqa: F811
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    filming = browser.browser_type.launch(executable_path=chromium(), args=[*FLAGS, *fake])
    with opened(filming, address, allowed=LOCAL) as page:
        page.locator("#camera").click()
        page.locator("#viewfinder").wait_for()
        for _ in range(200):
            if page.evaluate("document.getElementById('video').videoWidth"):
                break
            page.wait_for_timeout(50)
        page.locator("#snap").click()
        page.locator(".answer .verdict").wait_for(timeout=PATIENCE_MS)
        assert page.locator(".answer .seen small").inner_text().startswith("camera ")
        stream = page.evaluate_handle("document.getElementById('video').srcObject")
        page.locator("#camera-off").click()
        assert stream.evaluate("stream => stream.active") is False
    filming.close()


def test_a_training_is_started_watched_and_stopped_and_labels_are_corrected(browser, address: str, folder: Path) -> None:  # noqa: F811
    with opened(browser, address, width=WIDTHS[1], allowed=LOCAL) as page:
        second = page.context.new_page()
        second.goto(address)
        listening(second)
        page.bring_to_front()  # behind another tab a page is drawn once a second: every click waits for two
        part(page, "training")
        page.locator("#fit-data").fill("photos")
        page.locator("input[value=scratch]").check()
        page.locator("#epochs").fill("400")
        page.locator("#fit-start").click()
        page.locator("#live-charts svg").first.wait_for(timeout=PATIENCE_MS)
        check_layout(page)
        page.locator("#live [data-stop]").click()
        page.locator("#live-title", has_text="Stopped; what was trained is kept").wait_for(timeout=PATIENCE_MS)
        part(page, "runs")
        page.locator("#runs-table button", has_text="Go on").wait_for()
        for box in page.locator("#runs-table input").all():
            box.check()
        page.locator("#compare").click()
        page.locator("#comparison tr", has_text="epochs").wait_for()
        check_layout(page)
        with page.context.expect_page() as reported:
            page.locator("#runs-table button", has_text="Report").last.click()
        report = reported.value
        report.locator("h1", has_text="right").wait_for(timeout=PATIENCE_MS)
        assert "/report/" in report.url
        assert address.split("/")[3] not in report.content() + report.url
        report.close()

        part(page, "labels")
        page.locator("#review-data").fill("photos")
        page.locator("#review-deep").uncheck()
        page.locator("#review-start").click()
        page.locator(".card", has_text="one picture, two classes").wait_for(timeout=PATIENCE_MS)
        check_layout(page)
        page.keyboard.press("d")
        page.locator("#review pre", has_text="descend fit photos --corrections corrections.csv").wait_for()
        [decision] = read_corrections(folder / "corrections.csv")
        assert (decision.path, decision.action) in {("square/zz.png", "drop"), ("disc/00.png", "drop")}
        page.locator("#review button", has_text="Train with these corrections").click()
        assert page.locator("#fit-corrections").input_value() == "corrections.csv"
        check_second_tab(second)


def check_second_tab(page: Any) -> None:
    """Hold a tab that has seen neither the training nor the scan to know both, and to show labels while something is trained."""
    part(page, "runs")
    assert page.locator("#runs-table button", has_text="Go on").count() == 0
    look_again(page)
    page.locator("#runs-table button", has_text="Go on").wait_for(timeout=PATIENCE_MS)
    part(page, "labels")
    page.locator("#review .outcome", has_text="1 dropped").wait_for(timeout=PATIENCE_MS)

    def with_a_training(route: Any) -> None:
        state = route.fetch().json()
        route.fulfill(json=state | {"job": state["job"] | {"kind": "fit", "running": True}})

    page.route("**/api/state", with_a_training)
    page.route("**/api/job/news", lambda route: None)  # it goes on
    page.reload()
    page.locator("#working:visible").wait_for(timeout=PATIENCE_MS)
    page.locator("#review .outcome", has_text="1 dropped").wait_for(timeout=PATIENCE_MS)


def test_nothing_of_an_earlier_training_stands_under_the_next(browser, address: str) -> None:  # noqa: F811
    first = {
        "id": "1", "kind": "fit", "title": "training on photos", "running": False, "stopping": False, "said": [], "stage": {},
        "error": "", "result": {"status": "finished", "verdict": "The first."}, "run": "first", "epochs": [{"epoch": 1}],
        "command": "",
    }  # fmt: skip
    then = first | {"id": "2", "run": "second", "epochs": [], "result": {"status": "finished", "verdict": "The second."}}
    told = [first]
    with opened(browser, address, allowed=LOCAL) as page:
        part(listening(page), "training")
        page.route("**/api/job", lambda route: route.fulfill(json=told[-1]))
        page.route("**/api/job/curves", lambda route: route.fulfill(json=[{"title": "Loss", "svg": "<svg></svg>", "lines": []}]))
        look_again(page)
        page.locator("#live-charts svg").wait_for(state="attached", timeout=PATIENCE_MS)
        assert page.locator("#live-result").inner_text() == "The first."
        told.append(then)
        look_again(page)
        page.locator("#live-result", has_text="The second.").wait_for(timeout=PATIENCE_MS)
        assert page.locator("#live-result").inner_text() == "The second."
        assert page.locator("#live-charts svg").count() == 0


def test_what_lacks_the_token_is_refused(address: str) -> None:
    port = address.split("/")[2]
    for path in ("/", "/api/state", "/report/x", f"/{'x' * 43}/api/state"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://{port}{path}", timeout=20)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_a_training_in_order(
    folder: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process, url = started(folder, str(tmp_path), "--root", str(folder))
    asked = b'{"data": "photos", "transfer": "scratch", "epochs": 500}'
    with urllib.request.urlopen(urllib.request.Request(f"{url}api/fit", asked), timeout=60) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{url}api/job/news", timeout=120) as news:
        for line in news:
            if line.startswith(b"data: {") and b'"val_accuracy"' in line:
                break
    worker = int(subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout)
    process.send_signal(number)
    told, _ = process.communicate(timeout=90)
    assert process.returncode == status
    assert "Stopping training on photos; what was done is kept" in told
    assert told.endswith("(Ctrl-C again: at once)\nStopped.\n")
    assert all(line.startswith(("Open it", "Stopping", "Stopped")) for line in told.splitlines()), told
    assert "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    [run] = [path for path in tmp_path.iterdir() if (path / "record.json").exists()]
    assert Run(run).record.status == "interrupted"
