"""The recipe: everything a run can be asked for, as one strict record; the same from the command line, TOML and Python.

A setting left at None is *not asked for*: the plan chooses it and says why. A setting that is asked for but would have no
effect on the run is an error (``train/plan.py``), so a recipe never says more than what happens.
"""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from annotated_types import Ge, Gt, Le
from typing_extensions import Doc

from descend.errors import KnobError, RunError
from descend.regular_files import read_text_bytes
from descend.technique import Technique, knobs, record
from descend.train.record_types import Metric

Transfer = Literal["auto", "features", "head", "finetune", "scratch"]
FEATURE_SETS = {
    "last": "the last stage",
    "late": "late stages",
    "covariances": "late stages, and covariances of their channels",
    "quarters": "late stages, covariances of their channels, and means of the quarters of their maps",
}
"""What a fitted head may read: name -> what that is."""

FeatureStages = Literal["auto", "last", "late", "covariances", "quarters"]
EngineName = Literal["auto", "torch", "onnxruntime", "openvino", "openvino-bf16"]
NormPolicy = Literal["eval", "affine-frozen", "train"]
BackgroundChoice = Literal["auto", "white", "black", "gray"]
FitChoice = Literal["auto", "crop", "squash", "pad"]
OnNan = Literal["stop", "skip", "rollback"]
Setting = str | int | float | bool | tuple[str, ...] | None  # the value of one setting, as plain data
LISTS = ("augment", "regularize", "gradients", "steps")  # one text may stand for a list of one
SEARCH_ONLY = ("budget", "steps", "latency", "max_size")  # they ask for a search
FORMER_NAMES = {"batch": "batch_size", "rate_decay": "layer_decay"}  # no aliases: an old name is an error that tells the new one
USUAL = {"metric": "accuracy"}
"""What settings are that nobody asks for: named where they have no effect, as recipes of before do, they ask for nothing."""


@record("recipe")
class Recipe:
    """What to train and how. Spec texts name techniques: ``"adamw(lr=0.003)"``, ``"mlp(hidden=256, dropout=0.5)"``."""

    data: Annotated[str | None, Doc("a folder, a table, or the name of a built-in set")] = None
    outside: Annotated[bool, Doc("a table may name pictures that do not lie below its folder")] | None = None
    corrections: Annotated[str | None, Doc("a table of pictures to relabel or to drop: path,label,action")] = None
    transfer: Annotated[Transfer, Doc("how the backbone is used; auto decides by the pictures")] = "auto"
    backbone: Annotated[str | None, Doc("ours (lite0 to lite2, smallcnn, resnet9, resnet20), any timm name, or auto")] = None
    download: Annotated[bool, Doc("backbone auto: weights may be fetched from the hub, not only taken from its cache")] | None = (
        None
    )
    weights: Annotated[str | None, Doc("a file of one's own with the backbone's weights: safetensors, .pt or .pth")] = None
    init: Annotated[str | None, Doc("a run to begin from: its weights, and the head's rows of the classes that it knows")] = None
    head: Annotated[str | None, Doc('"linear" or "mlp(hidden=256, dropout=0.5)"')] = None
    feature_stages: Annotated[
        FeatureStages | None, Doc("features: of the last stage, late ones too, covariances of channels, quarters")
    ] = None
    freeze_to: Annotated[str | None, Doc("finetune: the last stage that stays frozen")] = None
    norm: Annotated[NormPolicy | None, Doc("finetune: what the pretrained batch norms do")] = None
    layer_decay: Annotated[float, Gt(0), Le(1), Doc("finetune: learning rate of a stage relative to the next one")] | None = None
    folds: Annotated[int, Ge(2), Doc("features: judge every picture by a head fitted without it, in so many parts")] | None = None
    views: Annotated[int, Ge(0), Doc("features: augmented views per picture, beside the plain one")] | None = None
    augment: Annotated[tuple[str, ...] | None, Doc("augmentations or a policy name; auto: by size, none: off")] = None
    regularize: Annotated[tuple[str, ...] | None, Doc("regularizers")] = None
    optimizer: Annotated[str | None, Doc('a rule, for example "adamw(lr=0.001)"')] = None
    gradients: Annotated[tuple[str, ...] | None, Doc("what happens to gradients before the step: clipping, accumulation")] = None
    schedule: Annotated[str | None, Doc('learning-rate decay, for example "then(warmup(fraction=0.05), cosine())"')] = None
    engine: Annotated[EngineName | None, Doc("what runs the frozen part; auto measures")] = None
    budget: Annotated[str | None, Doc("auto: wall time of the whole command, for example 30s, 5m or 1h")] = None
    steps: Annotated[
        tuple[str, ...] | None, Doc("auto: the steps to take, as a search has written them, instead of searching")
    ] = None
    latency: Annotated[str | None, Doc("auto: what one answer may take on this machine, for example 20ms")] = None
    max_size: Annotated[str | None, Doc("auto: what the model may weigh, for example 20MB")] = None
    epochs: Annotated[int, Ge(1), Doc("passes over the training pictures")] | None = None
    size: Annotated[int, Ge(8), Le(4096), Doc("side of the square picture that the network sees, pixels")] | None = None
    batch_size: Annotated[int, Ge(1), Doc("pictures per step")] | None = None
    snapshots: Annotated[int, Ge(2), Doc("states to keep along the run, for descend slice")] | None = None
    checkpoint_every: Annotated[
        str | None, Doc("steps or time between checkpoints, such as 200 or 30s; default: 30s or rarer")
    ] = None
    background: Annotated[BackgroundChoice, Doc("what shows through transparent pixels, and bars; auto: where none is blank")] = (
        "auto"
    )
    fit: Annotated[FitChoice, Doc("how a picture becomes square: its center, bent, or on bars; auto: by shapes, or measured")] = (
        "auto"
    )
    crop_pct: Annotated[float, Ge(0.5), Le(1), Doc("share of the center square's side that is looked at")] | None = None
    metric: Annotated[
        Metric | None, Doc("what selects the best epoch on validation; default: accuracy, balanced_accuracy beside class weights")
    ] = None
    on_nan: Annotated[OnNan, Doc("gradients or a loss not finite: stop, skip the step, or roll back with half the rate")] = "stop"
    seed: Annotated[int, Ge(0), Doc("of the split, the initial weights, the order and every augmentation")] = 0
    split_seed: Annotated[int, Ge(0), Doc("of the split alone; default: the seed")] | None = None
    device: Annotated[str, Doc("cpu, cuda, cuda:1 or mps, for what is trained")] = "cpu"
    threads: Annotated[int, Ge(1), Le(1024), Doc("CPU threads; default: all cores")] | None = None

    @property
    def names_steps(self) -> bool:
        """Whether a search takes the steps that stand here and no others; a part alone is searched."""
        return any(not step.startswith("part(") for step in self.steps or ())


def from_settings(settings: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """Return ``base`` with ``settings`` laid over it; techniques become their text, lists become tuples."""
    for old in FORMER_NAMES.keys() & settings.keys():
        raise renamed(old)
    clean = {name: _plain(value) for name, value in settings.items()}
    clean |= {name: (clean[name],) for name in LISTS if isinstance(clean.get(name), str)}
    given = {} if base is None else {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}  # pyright: ignore
    return Recipe(**(given | clean))


def names_asked(recipe: Recipe) -> list[str]:
    """Return the names of the settings that were asked for."""
    unasked = {knob.name: (None, knob.default, USUAL.get(knob.name)) for knob in knobs(Recipe)}
    return [name for name, values in unasked.items() if getattr(recipe, name) not in values]


def from_arguments(
    data: Any, recipe: Recipe | Mapping[str, Any] | Path | str | None, settings: Mapping[str, Any]
) -> tuple[Recipe, Any]:
    """Return the recipe that the arguments of ``descend.fit`` ask for, and the data where they are no path, else None."""
    base = read(Path(recipe)) if isinstance(recipe, (str, Path)) else recipe
    base = from_settings(base) if isinstance(base, Mapping) else base
    if base is not None and base.names_steps and settings.get("budget") is not None and settings.get("steps") is None:
        raise KnobError("budget", "has no effect on a recipe that names the steps to take", got=settings["budget"],
                        fix="Leave it out, or delete the steps from the recipe: then it searches anew.")  # fmt: skip
    if isinstance(data, (str, Path)):
        return from_settings({**settings, "data": str(data)}, base), None
    return from_settings(settings, base), data


def scan_command(settings: Mapping[str, Any], *, deep: bool = False, seed: int = 0) -> str:
    """Return the command that shows the pictures of data given by ``settings``, of a recipe or a plan. seed: of their split."""
    corrections = settings.get("corrections")
    return shlex.join([
        "descend", "scan", str(settings["data"]), *(["--corrections", str(corrections)] if corrections else []),
        *(["--outside"] if settings.get("outside") else []), *(["--seed", str(seed)] if seed else []),
        *(["--deep"] if deep else []), "--page", "scan.html",
    ])  # fmt: skip


def renamed(old: str) -> KnobError:
    """Return the error for a setting's former name."""
    return KnobError("recipe", f"knows no setting {old!r}", fix=f"It is called {FORMER_NAMES[old]} now.")


def _plain(value: Any) -> Any:
    if isinstance(value, Technique):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return value


def read(path: Path) -> Recipe:
    """Read a TOML recipe. Raises RunError for a file that is not TOML, KnobError for a setting that does not exist."""
    try:
        settings = tomllib.loads(read_text_bytes(path).decode())
    except FileNotFoundError:
        raise RunError("recipe", "must be a TOML file that exists", got=str(path)) from None
    except OSError as error:
        raise RunError("recipe", f"must be a TOML file ({error.strerror})", got=str(path)) from None
    except (ValueError, RecursionError) as error:  # TOML, UTF-8, a number of more digits than Python reads
        raise RunError(f"recipe {path}", f"must be valid TOML ({error})") from None
    tables = [name for name, value in settings.items() if isinstance(value, dict)]
    if tables:
        raise KnobError(f"recipe {path}", "must be a flat list of settings, no [table]", got=tables[0])
    return from_settings(settings)


def dump(recipe: Recipe) -> str:
    """Return the recipe as TOML, in the order of its definition; settings that are not asked for are left out."""
    values = {knob.name: getattr(recipe, knob.name) for knob in knobs(Recipe)}
    return tomli_w.dumps({name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None})


def without_flags(command: Sequence[str], dropped: Set[str]) -> list[str]:
    """Return the words of a command without some flags, each with the one value that follows it, and without ``--json``."""
    kept, skip = list[str](), False
    for word in command:
        name, equals, _ = word.partition("=")
        if not skip and name not in dropped and word != "--json":
            kept.append(word)
        skip = not skip and name in dropped and not equals
    return kept
