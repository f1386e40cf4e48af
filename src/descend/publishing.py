"""A run on the Hugging Face hub: its model with a card, and without what tells of the machine and the pictures it was made on.

A repository holds a card (``README.md``), the run in ``run/`` (safetensors and text, verified by their digests when they are
read), and, where timm has the network, ``config.json`` and ``model.safetensors`` as ``timm.create_model("hf_hub:...")`` reads
them. Paths, the command, names of files and pictures of mistakes stay at home.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from descend.errors import KnobError, ModelError, RunError, first_line
from descend.models.architecture import Architecture
from descend.models.timm_export import as_timm
from descend.percentages import percent
from descend.printable import printable
from descend.technique import build
from descend.train import folder, recipe
from descend.train.metrics import told
from descend.train.record_types import Score
from descend.train.run import Run

ADDRESS = re.compile(r"hf:/{1,2}(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")  # a Path makes one slash of two
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
RUN = "run"
_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}  # timm's words for how a picture becomes square
_LOCAL = ("data", "corrections", "weights", "init")  # settings that name places on the machine


def push(run: Run, name: str, *, private: bool = False, license: str | None = None) -> str:
    """Upload a finished run to the repository ``name`` (owner/name) of the hub, made if need be. Returns its address.

    license: of the card, such as ``"apache-2.0"``. The hub's client finds the token that ``hf auth login`` has stored.
    Raises KnobError for a name that is none, RunError where the run is not finished or the hub refuses.
    """
    import huggingface_hub

    if not _NAME.fullmatch(name):
        raise KnobError("push", "the repository must be written owner/name", got=name)
    if run.record.status != "finished":
        raise RunError(f"run {run.folder}", "must be finished to be pushed", got=run.record.status,
                       fix=f"descend fit --resume {run.folder}")  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        pack(run, Path(place), name, license)
        hub = huggingface_hub.HfApi()
        try:
            hub.create_repo(name, private=private or None, exist_ok=True)
            hub.upload_folder(repo_id=name, folder_path=place, commit_message="A run of descend")
        except Exception as error:  # whatever the client raises: HTTP, the network, a missing token
            raise RunError("push", f"the hub must take {name} ({first_line(error)})",
                           fix="Log in with a token that may write: hf auth login.") from error  # fmt: skip
    return f"hf://{name}"


def fetched(address: str) -> Path:
    """Return the run folder of ``hf://owner/name[@revision]`` in the hub client's cache, downloaded where it is not there.

    Raises RunError where there is none, or it is out of reach.
    """
    import huggingface_hub

    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise RunError("load", "an address on the hub must be written hf://owner/name or hf://owner/name@revision", got=address)
    try:
        place = huggingface_hub.snapshot_download(parts["name"], revision=parts["revision"], allow_patterns=f"{RUN}/*")
    except Exception as error:
        raise RunError(address, f"must be within reach or in the hub's cache ({first_line(error)})",
                       fix="Look at its name; a private one needs: hf auth login.") from error  # fmt: skip
    if not (Path(place) / RUN / folder.RECORD).exists():
        raise RunError(address, "must hold a run of descend", fix="A model of timm's is a backbone: --backbone NAME.")
    return Path(place) / RUN


def pack(run: Run, place: Path, name: str, license: str | None = None) -> None:
    """Write what goes to the hub into an empty folder."""
    _write_run(run, place / RUN)
    in_timm = _write_timm(run, place)
    (place / "README.md").write_text(card(run, name, license, in_timm=in_timm), encoding="utf-8")


def _write_run(run: Run, place: Path) -> None:
    """Write the run folder anew, scrubbed; its manifest is written with it."""
    place.mkdir()
    settings = dict.fromkeys(_LOCAL)
    folder.write_text(place / folder.RECIPE, recipe.dump(dataclasses.replace(run.recipe, **settings)))
    content = (run.folder / folder.MODEL).read_bytes()
    folder.verify(run.folder / folder.MODEL, "Push another run.")
    with folder.replacing(place / folder.MODEL) as path:
        path.write_bytes(content)
    record = run.record
    problems = [{**problem, "message": problem["kind"], "examples": []} for problem in record.data.get("problems", [])]
    scrubbed = dataclasses.replace(
        record, command=[], mistakes=[], shown=[], notes=[], data=record.data | {"problems": problems},
        plan={**record.plan, **settings},
        weights=None if record.weights is None else {**record.weights, "file": Path(record.weights["file"]).name},
        init=None if record.init is None else {**record.init, "run": Path(record.init["run"]).name},
        reasons={knob: why for knob, why in record.reasons.items() if knob not in _LOCAL},
    )  # fmt: skip
    if (run.folder / folder.METRICS).exists():
        (place / folder.METRICS).write_bytes((run.folder / folder.METRICS).read_bytes())
    scrubbed.save(place)


def _write_timm(run: Run, place: Path) -> bool:
    """Write the network as timm reads it; returns whether timm has it."""
    from timm.models import save_for_hf

    prepared = run.record.preparation()
    size = prepared["size"]
    try:
        architecture = build(prepared["architecture"], Architecture)
        model = as_timm(run.classifier, architecture, size=size, n_classes=len(run.classes))
    except ModelError:
        return False
    config = {"input_size": (3, size, size), "mean": tuple(prepared["mean"]), "std": tuple(prepared["std"]),
              "interpolation": "bicubic", "crop_pct": size / prepared["resolution"],
              "crop_mode": _CROP_MODES[prepared["fit"]]}  # fmt: skip
    save_for_hf(model, str(place), model_config={"label_names": list(run.classes)}, safe_serialization=True, data_config=config)
    return True


def card(run: Run, name: str, license: str | None = None, *, in_timm: bool) -> str:
    """Return the model card: figures with their intervals, per class too, how it was trained and how it is used."""
    record, counts = run.record, run.record.data.get("splits", {})
    judged, split = (record.test, "test") if record.test is not None else (record.val, record.validated_by)
    parts = [_front_matter(run, name, license, judged, split, in_timm), f"# {name.partition('/')[2]}\n"]
    classes = ", ".join(_in_text(label) for label in run.classes)
    parts.append(f"An image classifier of {len(run.classes)} classes: {classes}. Trained with descend on "
                 f"{counts.get('train', 0):,} pictures.\n")  # fmt: skip
    parts.append("## How good it is\n\n```\n" + run.verdict() + "\n```\n")
    rows = record.per_class.get("test" if split == "test" else "val", [])
    figures = [(row, told(row)) for row in rows]
    table = [
        f"| {_in_text(row['class'])} | {percent(f['precision'])} | {percent(f['recall'])} | {row['n']:,} |" for row, f in figures
    ]
    parts.append(f"On {split}:\n\n| class | precision | recall | pictures |\n|---|---|---|---|\n" + "\n".join(table) + "\n")
    parts.append("These figures are of pictures like those of the training; what comes from elsewhere may be harder. It answers "
                 "with one of its classes whatever it is shown.\n")  # fmt: skip
    parts.append(f'## Use\n\n```python\nimport descend\n\nrun = descend.load("hf://{name}")\n'
                 'run.predict(["picture.jpg"]).labels\n```\n')  # fmt: skip
    if in_timm:
        parts.append(f'Its weights are a model of timm too:\n\n```python\nimport timm\n\n'
                     f'model = timm.create_model("hf_hub:{name}", pretrained=True).eval()\n```\n')  # fmt: skip
    else:
        parts.append("timm has no such network: it opens with descend alone.\n")
    settings = dataclasses.replace(run.recipe, **dict.fromkeys(_LOCAL))
    parts.append("## How it was trained\n\n```toml\n" + recipe.dump(settings) + "```\n")
    return "\n".join(parts)


def _in_text(label: str) -> str:
    """Return a class name for Markdown, where no sign of it means anything."""
    return re.sub(r"([\\`*_{}\[\]<>()#+.!|~-])", r"\\\1", printable(label))


def _front_matter(run: Run, name: str, license: str | None, judged: Score | None, split: str, in_timm: bool) -> str:
    """Return the card's metadata; JSON is YAML."""
    values: dict[str, Any] = {
        "library_name": "timm" if in_timm else "descend", "pipeline_tag": "image-classification",
        "tags": ["image-classification", "descend", *(["timm"] if in_timm else [])],
    }  # fmt: skip
    values |= {"license": license} if license else {}
    if judged is not None:
        figures = {"accuracy": judged["accuracy"], "f1": judged["macro_f1"]}
        metrics = [{"type": kind, "value": round(value, 4)} for kind, value in figures.items()]
        dataset = {"name": str(run.record.data.get("name", "")), "type": "image-folder", "split": split}
        task = {"type": "image-classification"}
        results = [{"task": task, "dataset": dataset, "metrics": metrics}]
        values["model-index"] = [{"name": name.partition("/")[2], "results": results}]
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()) + "---\n"
