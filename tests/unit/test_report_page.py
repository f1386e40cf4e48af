"""The page as a whole, on run folders made up here: valid, self-contained, safe against hostile names, small, honest."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from descend import report
from descend.errors import RunError
from descend.pixels import PixelPolicy
from descend.train.record import load

pytestmark = pytest.mark.charts

VOID = frozenset({"meta", "br", "img", "hr", "link", "input", "wbr"})
CLOSED_BY_ITSELF = frozenset({"path", "rect", "use", "circle", "line"})
HOSTILE = [
    '<script>alert("1")</script>',
    'ant\'s & "bees"',
    "two\nlines",
    "\u202egnp.exe\u200f",
    "naïve 蟻 🐜",
    "bad\x00\udcff\ufffe",
    "{{ 7*7 }}",
]


class Page(HTMLParser):
    """A strict reader: every element closed in order, ids unique, references inside the page, images described."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.isolated: list[bool] = []
        self.feed(text)
        self.close()
        assert self.open == []
        ids = [held["id"] for _, held in self.tags if "id" in held]
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', text)) <= set(ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        assert len(held) == len(attrs), f"an attribute twice in <{tag}>"
        assert not any(name.startswith("on") for name in held)
        self.tags.append((tag, held))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED_BY_ITSELF, f"<{tag}/> is not closed in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            self.isolated += ["bdi" in self.open] * ("\u202e" in data)  # else a name could turn the words beside it around

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\xa0", " ").split())

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [held for name, held in self.tags if name == tag]


def score(labels: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    share = float((labels == answers).mean())
    reach = 1.96 * math.sqrt(share * (1 - share) / len(labels))
    ends = [max(0.0, share - reach), min(1.0, share + reach)]
    return {"accuracy": share, "accuracy_interval": ends, "balanced_accuracy": share - 0.003, "macro_f1": share - 0.005,
            "loss": 0.141, "n": len(labels), "n_independent": len(labels)}  # fmt: skip


def per_class(table: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    rows = []
    for at, name in enumerate(classes):
        hit, true, said = int(table[at, at]), int(table[at].sum()), int(table[:, at].sum())
        recall, precision = hit / max(1, true), hit / max(1, said)
        rows.append(
            {
                "class": name,
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / max(1e-9, precision + recall),
                "n": true,
            }
        )
    return rows


def epoch_rows(n: int, of: int, best_at: int) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, n + 1):
        x = epoch / of
        wobble = 0.006 * math.sin(7 * epoch)
        rows.append({
            "epoch": epoch, "lr": 0.005 * (1 + math.cos(math.pi * x)) / 2, "train_loss": 0.62 * math.exp(-5 * x) + 0.04,
            "train_accuracy": 0.995 - 0.3 * math.exp(-7 * x), "val_loss": 0.5 * math.exp(-6 * x) + 0.13 + wobble + 0.02 * x,
            "val_accuracy": 0.955 - 0.25 * math.exp(-8 * x) + wobble, "val_balanced_accuracy": 0.95, "val_macro_f1": 0.95,
            "wall_s": 0.021, "images_per_s": 11650.0, "best": epoch <= best_at,
        })  # fmt: skip
    return rows


def picture(seed: int) -> str:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((112, 84), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def make_run(
    run: Path, classes: list[str] | None = None, *, n: int = 153, wrong: float = 0.046, seed: int = 0, **changes: Any
) -> Path:
    """Write what a finished ``features`` run leaves behind; ``changes`` replace parts of the record, None removes them."""
    classes = ["ants", "bees"] if classes is None else classes
    size = len(classes)
    rng = np.random.default_rng(seed)
    confusion, scores, tables = {}, {}, {}
    for split in ("val", "test"):
        labels = np.arange(n) % size
        near = np.where(rng.random(n) < 0.7, (labels + 1) % size, rng.integers(0, size, n))
        answers = np.where(rng.random(n) < wrong, near, labels)
        table = np.zeros((size, size), np.int64)
        np.add.at(table, (labels, answers), 1)
        confusion[split], scores[split], tables[split] = table.tolist(), score(labels, answers), per_class(table, classes)
    counts = {name: {"train": 120 + 3 * (at % 5), "val": n // size, "test": n // size} for at, name in enumerate(classes)}
    totals = {split: sum(row[split] for row in counts.values()) for split in ("train", "val", "test")}
    problems = [
        {"kind": "unreadable", "message": "2 files cannot be decoded and are left out", "n": 2,
         "examples": ["ants/broken.jpg (truncated)", "bees/notes.txt (not a picture)"]},
        {"kind": "leak", "message": "5 pictures occur twice, they stay on the same side", "n": 5,
         "examples": [f"bees/copy{k}.jpg" for k in range(5)]},
    ]  # fmt: skip
    record = {
        "status": "finished", "created": "2026-03-14T09:26:53+00:00",
        "command": ["descend", "fit", "my photos/hymenoptera", "--views", "4"],
        "data": {"name": "hymenoptera", "n": sum(totals.values()), "classes": classes, "splits": totals, "counts": counts,
                 "given_split": True,
                 "shorter_side": {"min": 113, "median": 375, "max": 2336}, "gray": False, "problems": problems},
        "data_fingerprint": "9f2c4be17d0a55e3c8814b6a0d27f1e9", "classes": classes,
        "plan": {"transfer": "features", "backbone": "lite0()", "head": "linear()", "size": 224, "engine": "onnxruntime",
                 "views": 4,
                 "augment": ["random_resized_crop(scale_range=[0.6, 1.0])", "flip(p=0.5)"], "regularize": [], "norm": "eval",
                 "optimizer": "adamw(lr=0.005, weight_decay=0.01)", "schedule": "then(warmup(fraction=0.05), cosine())",
                 "epochs": 60,
                 "batch_size": 64, "metric": "accuracy", "seed": 0, "device": "cpu", "threads": None,
                 "data": "my photos/hymenoptera"},
        "reasons": {"transfer": "a pretrained backbone computes each picture's features once; a head trains on them in seconds",
                    "backbone": "EfficientNet-Lite0 with ImageNet weights, installed with descend",
                    "size": "the size the backbone was trained for",
                    "engine": "84 pictures a second, torch 30", "epochs": "an epoch on cached features takes milliseconds",
                    "augment": "random crops; mirrored: leave flip out if left and right matter",
                    "batch_size": "small enough for many steps",
                    "optimizer": "the default for a head", "head": "one linear layer is hard to beat on good features"},
        "chosen": {"transfer": "features", "backbone": "lite0()", "size": 224, "engine": "onnxruntime", "epoch": 31},
        "parameter_groups": [{"initial_lr": 0.005, "lr_scale": 1.0, "name": "all", "weight_decay": 0.01, "n_parameters": 2560,
                              "names": ["weight"]},
                             {"initial_lr": 0.005, "lr_scale": 1.0, "name": "all/no_decay", "weight_decay": 0.0,
                              "n_parameters": 2,
                              "names": ["bias"]}],
        "frozen": {"before": "3f1d88a2c67be094", "after": "3f1d88a2c67be094", "norm": "eval"},
        "val": scores["val"], "test": scores["test"],
        "test_looks": [{"when": "2026-03-14T09:27:20+00:00", "what": "descend fit, after training"}],
        "per_class": tables, "confusion": confusion,
        "mistakes": [{"path": f"val/{classes[k % size]}/{1030023514 + 7919 * k}_aad5c608f9.jpg", "split": "val",
                      "label": classes[k % size],
                      "predicted": classes[(k + 1) % size], "confidence": 0.998 - 0.02 * k, "jpeg": picture(k)}
                     for k in range(9)],
        "estimate_s": 1.5, "wall_s": {"scan": 0.42, "decode": 2.9, "features": 13.6, "train": 1.26, "evaluate": 0.31},
        "images_per_s": 11650.0, "seed": 0,
        "versions": {"python": "3.12.3", "descend": "0.1.0", "torch": "2.9.0", "timm": "1.0.22"},
        "machine": {"system": "Linux", "processor": "A Processor @ 2.10GHz", "n_cpus": 2, "python": "cpython"}, "schema": 3,
    }  # fmt: skip
    record = {name: value for name, value in (record | changes).items() if name not in changes or value is not None}
    run.mkdir(parents=True, exist_ok=True)
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epoch_rows(60, 60, 31)), encoding="utf-8")
    (run / "recipe.toml").write_text('data = "my photos/hymenoptera"\ntransfer = "features"\nviews = 4\n', encoding="utf-8")
    return run


def written(run: Path) -> tuple[str, Page]:
    text = report.write(run).read_text(encoding="utf-8")
    return text, Page(text)


def test_page_is_one_file_without_network_and_with_one_script_that_its_policy_names(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text, page = written(run)
    assert text.startswith("<!DOCTYPE html>")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = next(str(held["content"]) for held in page.having("meta") if held.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "default-src 'none'" in policy
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base"}
    assert not re.findall(r"(?:src|href)=\"https?:|@import|url\((?!#)", text)
    shown = [held for held in page.having("img") if "src" in held]
    assert all((held["src"] or "").startswith("data:image/") and held["alt"] for held in shown)
    assert len(page.having("img")) - len(shown) == 2  # those of the viewer, which are filled when it opens
    assert all(held.get("scope") in ("col", "row") for held in page.having("th"))
    assert all(held.get("role") == "img" and held.get("aria-label") for held in page.having("svg"))
    assert len(page.having("table")) == len(page.having("caption"))
    assert not [path for path in run.iterdir() if path.suffix == ".part"]


def test_contents_stand_in_the_order_of_the_question(tmp_path: Path) -> None:
    text, page = written(make_run(tmp_path / "my run"))
    headings = re.findall(r"<h[12]>(.*?)</h[12]>", text, re.DOTALL)
    assert headings[1:] == [
        "Worst mistakes", "What is taken for what", "Class by class", "What to do next", "Curves", "The data",
        "What was chosen, and why", "Time", "What was trained, what was frozen", "Repeat it", "Every setting of every technique",
        "Papers behind it",
    ]  # fmt: skip
    assert "chosen at epoch 31 of 60; the test split was looked at once" in page.text
    for said in (
        f"descend fit --recipe '{tmp_path / 'my run' / 'recipe.toml'}'",
        "descend fit 'my photos/hymenoptera' --views 4", "84 pictures a second, torch 30", "asked for",
        "ants/broken.jpg (truncated)",
        "and 1 more", "every parameter and buffer is what it was before training",
        "18.5 s in these stages. Training was estimated beforehand at 1.50 s and took 1.26 s.",
        "11,650 pictures a second", "torch 2.9.0", "A Processor @ 2.10GHz, Linux, 2 CPUs",
        "Looks at the test split", "lowest recall",
    ):  # fmt: skip
        assert said in page.text, said
    pictures = [held for held in page.having("img") if held.get("class") == "whole" and "src" in held]
    assert len(pictures) == 9
    assert len(page.having("svg")) == 2


def test_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert written(run)[0] == written(run)[0]


def test_the_commonest_class_is_scored_on_what_the_accuracy_counts(tmp_path: Path) -> None:
    rows = [{"class": name, "precision": 0.5, "recall": 0.5, "f1": 0.5, "n": n} for name, n in (("ants", 10), ("bees", 25))]
    counts = {"ants": {"train": 90, "val": 200, "test": 0}, "bees": {"train": 40, "val": 50, "test": 0}}
    changes: dict[str, Any] = {"test": None, "confusion": {"val": [[5, 5], [15, 10]]},
                               "data": {"name": "x", "counts": counts, "splits": {"train": 130, "val": 250}}}  # fmt: skip
    known = {"accuracy": 1 / 3, "accuracy_interval": [0.15, 0.58], "n": 35, "n_independent": 15, "loss": 1.0,
             "balanced_accuracy": 0.4, "macro_f1": 0.3}  # fmt: skip
    once = [row | {"share": share} for row, share in zip(rows, (0.6, 0.4), strict=True)]  # a bee is there eleven times
    _, page = written(make_run(tmp_path / "run", **changes, val=known, per_class={"val": once}))
    assert "the commonest class in training, would be right on 60.0% of validation." in page.text
    assert "Validation: 20 of 35 wrong" in page.text
    assert "Every picture is counted here; the accuracy counts copies once." in page.text
    _, older = written(make_run(tmp_path / "older", **changes, val=known | {"accuracy": 15 / 35}, per_class={"val": rows}))
    assert f"would be right on {10 / 35:.1%} of validation." in older.text  # of those judged, not of all 250
    assert "counts copies once" not in older.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", HOSTILE)
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    record["data"] |= {"name": HOSTILE[0], "problems": [{"kind": "few", "message": HOSTILE[0], "n": 1, "examples": [HOSTILE[3]]}]}
    record["command"], record["mistakes"][0]["path"] = ["descend", "fit", '"><img src=x onerror=alert(1)>'], HOSTILE[1]
    record["mistakes"][1]["jpeg"] = '" onload="alert(1)'
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (run / "recipe.toml").write_text('data = "</pre><script>"\n', encoding="utf-8")
    text, page = written(run)
    assert text.count("<script") == 1
    assert len(page.having("script")) == 1
    assert len([held for held in page.having("img") if held.get("class") == "whole" and "src" in held]) == 9
    for name in HOSTILE[:2] + HOSTILE[4:5] + HOSTILE[6:]:
        assert name in "".join(page.words), name
    assert "two\nlines" in "".join(page.words)
    assert "bad\ufffd\ufffd\ufffd" in "".join(page.words)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\udcff]", text)
    assert all(page.isolated)


@pytest.mark.parametrize("size", [2, 3, 7, 20, 21, 57, 100])
def test_confusions_suit_the_number_of_classes(tmp_path: Path, size: int) -> None:
    run = make_run(tmp_path / "run", [f"class {k}" for k in range(size)], n=12 * size, wrong=0.3)
    text, _ = written(run)
    confusion = json.loads((run / "record.json").read_text(encoding="utf-8"))["confusion"]["val"]
    if size <= 20:
        cells = r'<td(?: class="(?:right|wrong|none)"[^>]*)>(?:<a class="cell"[^>]*>)?(\d+)(?:</a>)?</td>'
        shown = re.findall(cells, text)[: size * size]
        assert list(map(int, shown)) == [count for row in confusion for count in row]
    else:
        titles = re.findall(r"<title>class (\d+) answered as class (\d+): (\d+)</title>", text)
        filled = [(str(i), str(j), str(n)) for i, row in enumerate(confusion) for j, n in enumerate(row) if n]
        assert titles[: len(filled)] == filled
    if any(n for i, row in enumerate(confusion) for j, n in enumerate(row) if i != j):
        worst = max(n for i, row in enumerate(confusion) for j, n in enumerate(row) if i != j)
        first = re.search(r"Commonest confusions.*?<tbody>\s*<tr>.*?class=\"n\">(\d+)<", text, re.DOTALL)
        assert first is not None
        assert int(first[1]) == worst
    assert len(text) < 1_500_000


def test_cells_make_the_matrix_that_the_rows_of_older_records_made(tmp_path: Path) -> None:
    classes = ["ants", "bees", "wasps"]
    rows = {"val": [[8, 2, 0], [0, 9, 0], [1, 0, 9]]}
    before, _ = written(make_run(tmp_path / "run", classes, confusion=rows))
    cells = {"val": [[0, 0, 8], [0, 1, 2], [1, 1, 9], [2, 0, 1], [2, 2, 9]]}
    (tmp_path / "run" / "record.json").unlink()
    after, _ = written(make_run(tmp_path / "run", classes, confusion={}, confused=cells))
    assert "2" in after
    assert after == before


@pytest.mark.parametrize("cells", [[[0, 0]], [[-1, 0, 3]], [[0, 0, 1.5]], [["ants", "bees", 1]]])
def test_cells_that_are_none_are_refused(cells: list[Any], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"record\.json must be as descend wrote it \(confused"):
        written(make_run(tmp_path / "run", confused={"val": cells}))


def test_a_cell_of_a_class_that_there_is_not_is_no_error(tmp_path: Path) -> None:
    text, _ = written(make_run(tmp_path / "run", confusion={}, confused={"val": [[0, 0, 8], [7, 0, 1]]}))
    assert "ants" in text


def test_a_thousand_classes_stay_small_and_quick(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [f"n{k:08d} some species of plant or animal" for k in range(1000)], n=50_000, wrong=0.3)
    started = time.process_time()
    text, page = written(run)
    assert time.process_time() - started < 30  # far above what it takes: only a quadratic page would reach it
    assert len(text.encode()) < 5_000_000
    matrix = next(held for held in page.having("img") if held.get("class") == "matrix")
    opened = Image.open(io.BytesIO(base64.b64decode((matrix["src"] or "").split(",")[1])))
    alpha = np.asarray(opened.convert("RGBA"))[..., 3]
    confusion = np.array(json.loads((run / "record.json").read_text(encoding="utf-8"))["confusion"]["val"])
    assert ((alpha > 0) == (confusion.reshape(250, 4, 250, 4).sum(axis=(1, 3)) > 0)).all()  # a dot for 4 x 4 cells
    assert "All 1,000 classes" in page.text


def test_interrupted_run_says_so_and_how_to_go_on(tmp_path: Path) -> None:
    nothing: Mapping[str, Any] = {
        "val": None,
        "test": None,
        "per_class": {},
        "confusion": {},
        "mistakes": [],
        "test_looks": [],
        "chosen": None,
    }
    run = make_run(tmp_path / "run", **{**nothing, "status": "interrupted", "wall_s": {"scan": 1.0}})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epoch_rows(12, 60, 10)) + '{"epoch": 13, "ra')
    _, page = written(run)
    assert "Interrupted after epoch 12 of 60: the best validation accuracy so far is" in page.text
    assert page.text.count(f"descend fit --resume {run}") == 3
    assert "48 of 60 epochs are left" in page.text
    assert "Nothing is kept that was trained. Begin with" in page.text
    (run / "checkpoint.safetensors").touch()
    assert "What was trained is kept. Go on where it stopped" in written(run)[1].text
    (run / "metrics.jsonl").unlink()
    _, page = written(run)
    assert "Interrupted before the first epoch was complete: nothing has been measured yet." in page.text
    assert "No epoch was completed" in page.text


def test_runs_of_earlier_versions_which_spelled_some_names_otherwise_are_read(tmp_path: Path) -> None:
    prepared = {"architecture": "x", "resolution": 8, "size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "scale": None,
                "background": "grey", "fit": "pad", "taps": [], "members": []}  # fmt: skip
    run = make_run(tmp_path / "run", preprocessing=prepared)
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    del record["data"]["gray"]
    record["data"]["grey"] = True
    record["data"]["problems"] = [{"kind": "unlabelled", "message": "1 picture has no label", "n": 1, "examples": ["a.png"]}]
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    assert load(run).pixel_policy() == PixelPolicy(None, "gray", "pad")
    assert [item["kind"] for item in load(run).data["problems"]] == ["unlabeled"]
    assert "pictures, gray, shorter side" in written(run)[1].text


def test_a_record_with_nothing_in_it_still_gives_a_page(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.json").write_text('{"schema": 3}')
    _, page = written(run)
    assert "Not finished before the first epoch was complete" in page.text


def test_odd_parts_of_a_record_are_shown_not_fatal(tmp_path: Path) -> None:
    odd = score(np.arange(10) % 2, np.r_[1, np.arange(1, 10) % 2])
    rows = [
        {"class": "ants", "precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0},
        {"class": "bees", "precision": 1.0, "recall": 0.9, "f1": 0.95, "n": 10},
    ]
    run = make_run(
        tmp_path / "run", val=odd, test=None, per_class={"val": rows}, confusion={"val": [[1]]}, estimate_s=None,
            images_per_s=None,
        frozen={"before": "aa", "after": "bb", "norm": "none"},
        mistakes=[{"path": "x.jpg", "split": "val", "label": "ants", "predicted": "bees", "confidence": 0.5, "jpeg": picture(0)}],
        command=[], plan={"epochs": 60},
        parameter_groups=[{"lr_scale": 0.1, "initial_lr": 0.1, "name": "stem", "n_parameters": 50, "names": ["a"] * 50}],
    )  # fmt: skip
    text, page = written(run)
    assert "the test split has not been looked at" in page.text
    assert "changed during training: aa before, bb after" in page.text
    assert "0.1" in page.text
    assert 'class="heat' not in text
    assert "How this run was started" not in page.text
    assert "recipe.toml DATA" in page.text  # trained on arrays: the recipe does not know the pictures


@pytest.mark.parametrize(
    ("part", "entry"),
    [({"val": {"accuracy": 0.9, "n": 10}}, "val"), ({"chosen": {"epoch": "3"}}, "chosen"), ({"mistakes": 3}, "mistakes"),
     ({"frozen": ["aa", "bb"]}, "frozen"), ({"confusion": {"val": [["x"]]}}, "confusion"),
     ({"plan": {"epochs": {"n": 3}}}, "plan")],
)  # fmt: skip
def test_parts_that_are_not_what_descend_writes_are_refused_by_name(tmp_path: Path, part: dict[str, Any], entry: str) -> None:
    with pytest.raises(RunError, match=rf"record\.json must be as descend wrote it \({entry}"):
        report.write(make_run(tmp_path / "run", **part))


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must be a run folder"):
        report.write(tmp_path)


SEARCH: list[dict[str, Any]] = [
    {"step": "features(size=224)", "why": "features of the <pretrained> network", "began_s": 4.2, "ended_s": 12.0,
     "accuracy": 0.90, "loss": 0.3, "n": 200, "measured": "cross-validation", "outcome": "kept", "best_accuracy": 0.88,
     "best_interval": [0.82, 0.92]},
    {"step": "features(size=288)", "why": "more pixels", "began_s": 12.0, "ended_s": 31.0, "accuracy": None, "loss": None,
     "n": 0, "measured": "", "outcome": "its time ran out", "best_accuracy": 0.88, "best_interval": [0.82, 0.92]},
    {"step": "finetune(size=128)", "why": "train late stages", "began_s": 31.0, "ended_s": 58.0, "accuracy": 0.91, "loss": 0.3,
     "n": 153, "measured": "validation", "outcome": "kept with weight 0.60", "best_accuracy": 0.93,
     "best_interval": [0.88, 0.96]},
]  # fmt: skip


def test_a_search_is_shown_step_by_step_with_its_intervals(tmp_path: Path) -> None:
    searched = {"search": SEARCH, "budget_used_s": 61.0, "choices_by_val": 2, "reasons": {"search": "nothing is left"}}
    page = Page(report.write(make_run(tmp_path / "run", **searched)).read_text(encoding="utf-8"))
    assert "3 steps in 1 min 01 s" in page.text
    assert "It ended because nothing is left" in page.text
    assert "Validation decided twice between answers" in page.text
    for step in SEARCH:
        assert step["step"] in page.text
        assert step["why"] in page.text
        assert step["outcome"] in page.text
    z, n, share = 1.959964, 200, 0.9  # Wilson 1927
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert f"{low:.1f}% to {high:.1f}%, cross-validation of 200" in page.text
    (drawing,) = [held for held in page.having("svg") if "best answer" in str(held.get("aria-label"))]
    assert "88.0% after 12.0" in str(drawing["aria-label"]).replace("\xa0", " ")
    assert "No epoch was completed" not in page.text


def test_the_accuracy_of_a_step_is_the_one_that_the_terminal_told(tmp_path: Path) -> None:
    """Where copies share their weight, it is no whole number of pictures: 95.374% of 245 was rounded to 234, 95.5%."""
    step = SEARCH[0] | {"accuracy": 0.9537415, "n": 245}
    page = Page(report.write(make_run(tmp_path / "run", search=[step])).read_text(encoding="utf-8"))
    assert "95.4%" in page.text
    assert "95.5%" not in page.text


def test_a_search_whose_heads_were_chosen_by_cross_validation_alone_says_so(tmp_path: Path) -> None:
    searched = {"search": SEARCH[:1], "budget_used_s": 12.0, "choices_by_val": 0, "reasons": {}}
    page = Page(report.write(make_run(tmp_path / "run", **searched)).read_text(encoding="utf-8"))
    assert "validation had no part in it" in page.text
    assert "1 step in" in page.text
