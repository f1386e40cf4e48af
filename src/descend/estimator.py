"""``descend.ImageClassifier``: a training with scikit-learn's contract, for its pipelines, cross-validation and searches."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from descend import api
from descend.data.labels import cell_text, encode_labels
from descend.data.one_picture import CHANNELS, is_one_picture, is_path
from descend.data.problems import LEFT_OUT, told
from descend.data.sources import unmasked
from descend.errors import DataError, KnobError, first_line
from descend.flat_pictures import FlatPictures
from descend.models.architecture import Architecture
from descend.optim.rule import Rule
from descend.schedule.shapes import Schedule
from descend.technique import Technique, build
from descend.transfer.heads import Head

FAMILIES: dict[str, type[Technique]] = {"optimizer": Rule, "schedule": Schedule, "head": Head, "backbone": Architecture}
"""Settings that are one technique: a search may set a knob of it, as ``optimizer__lr``."""
SHOWN = 10  # names in a warning
_OWN = ("validation_fraction", "image_shape", "picture_fit", "random_state", "keep_in")


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Trains on pictures as ``descend.fit`` does, behind ``fit``, ``predict``, ``predict_proba`` and ``score``.

    Its settings are those of ``descend.fit`` (``Recipe`` says what each does), but for three: ``picture_fit`` is the setting
    ``fit``, whose name the method has; ``random_state`` is the seed, where it is a whole number; and the split is made here:
    ``validation_fraction`` of the pictures given to ``fit``, in each class, chooses the epoch, all others train, and none is
    kept for testing, which is the business of whoever cross-validates. A knob of a technique that is named may be searched:
    ``GridSearchCV(ImageClassifier(optimizer="adamw", ...), {"optimizer__lr": [0.001, 0.01]})``.

    X: an array (n, H, W) or (n, H, W, 3) of uint8; a list of paths, Pillow images, bytes or arrays of any size; a data frame or
    an array (n, 1) of one column, of paths; or numbers (n, n_features), each row a flattened picture of ``image_shape`` (H, W) or
    (H, W, 3), by default of the smallest square that holds the row. Such numbers become 256 levels between the smallest and the
    largest of the training. y: (n,) words or numbers.

    keep_in: a folder, made where there is none, that gets a run folder with each ``fit``, its report included; by default nothing
    is kept on disk. The run has the labels for names of its classes, but numbers from 0 on where two would be one name to it.
    ``classes_``: (K,) the labels, sorted; ``run_``: the trained run. Pictures that ``fit`` leaves out because they cannot be read
    are told by a UserWarning. Raises DataError and KnobError, which are ValueErrors.

    >>> from sklearn.datasets import load_digits
    >>> import descend
    >>> X, y = load_digits(return_X_y=True)
    >>> model = descend.ImageClassifier(transfer="scratch", epochs=2, augment=[]).fit(X[:600], y[:600])
    >>> model.score(X[600:700], y[600:700]) > 0.5
    True
    """

    def __init__(
        self, *, transfer: Any = "auto", backbone: Any = None, download: Any = None, weights: Any = None, init: Any = None,
        head: Any = None, feature_stages: Any = None, freeze_to: Any = None, norm: Any = None, layer_decay: Any = None,
        views: Any = None, augment: Any = None, regularize: Any = None, optimizer: Any = None, gradients: Any = None,
        schedule: Any = None, engine: Any = None, budget: Any = None, steps: Any = None, latency: Any = None,
        max_size: Any = None, epochs: Any = None, size: Any = None, batch_size: Any = None, background: Any = "auto",
        picture_fit: Any = "auto", crop_pct: Any = None, metric: Any = None, on_nan: Any = "stop", device: Any = "cpu",
        threads: Any = None, validation_fraction: float = 0.15, image_shape: Any = None, random_state: Any = 0,
        keep_in: Any = None,
    ) -> None:  # fmt: skip
        self.transfer, self.backbone, self.download, self.weights, self.init = transfer, backbone, download, weights, init
        self.head, self.feature_stages, self.freeze_to, self.norm = head, feature_stages, freeze_to, norm
        self.layer_decay, self.views, self.augment, self.regularize = layer_decay, views, augment, regularize
        self.optimizer, self.gradients, self.schedule, self.engine, self.budget = optimizer, gradients, schedule, engine, budget
        self.steps, self.latency, self.max_size, self.epochs, self.size = steps, latency, max_size, epochs, size
        self.batch_size, self.background, self.metric = batch_size, background, metric
        self.picture_fit, self.crop_pct = picture_fit, crop_pct
        self.on_nan, self.device, self.threads, self.validation_fraction = on_nan, device, threads, validation_fraction
        self.image_shape, self.random_state, self.keep_in = image_shape, random_state, keep_in

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``optimizer__lr=0.01`` sets a knob of the technique that ``optimizer`` names."""
        plain = {name: value for name, value in params.items() if name.partition("__")[0] not in FAMILIES or "__" not in name}
        super().set_params(**plain)
        of_setting: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in params.items():
            setting, _, knob = name.partition("__")
            if name not in plain:
                of_setting[setting][knob] = value
        for setting, values in of_setting.items():
            named = getattr(self, setting)
            if named is None:
                raise KnobError(f"{setting}__{next(iter(values))}",
                                f"must belong to a technique that is named, and {setting} is left to descend",
                                fix=f'Name it: {setting}="adamw", for example.')  # fmt: skip
            setattr(self, setting, _with_knobs(build(named, FAMILIES[setting]), setting, values))
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Train anew. Returns the estimator. Raises KeyboardInterrupt after Ctrl-C, so that a search around it ends, too."""
        vars(self).pop("run_", None)  # what ends in an error leaves no network of an earlier fit beside the classes of this one
        X, y = self._checked(X, y)
        classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                type(self).__name__, "must have two classes or more to tell apart", got=f"1 class, n_samples = {len(y)}"
            )
        seed = self._seed()
        held_out = _held_out(numbers, self.validation_fraction, seed)
        train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        val = val if len(val) else train  # one picture per class: it must choose the epoch, too
        names = _class_names(type(self).__name__, classes)
        labels = numbers if names is None else classes[numbers]
        names = names or [str(number) for number in range(len(classes))]
        data = {name: (_rows(X, rows), labels[rows]) for name, rows in (("train", train), ("val", val))}
        settings = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        place = _run_folder(self.keep_in)
        try:
            run = api.fit(data, out=place, report=self.keep_in is not None, seed=seed, fit=self.picture_fit, **settings)
            if run.record.status == "interrupted":
                raise KeyboardInterrupt
            if lost := [str(label) for name, label in zip(names, classes, strict=True) if name not in run.classes]:
                raise DataError(type(self).__name__, "must have a readable picture of every class", got=", ".join(lost),
                                fix="Mend the paths of these classes, or leave their rows out.")  # fmt: skip
            _ = run.classifier, run.recipe  # read, so that the folder may go
        finally:
            if self.keep_in is None:
                shutil.rmtree(place, ignore_errors=True)
        _warn_of_left_out(type(self).__name__, run.record.data["problems"])
        self.classes_, self.run_, self._names_ = classes, run, names
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of each class, (n, K), in the order of ``classes_``.

        Raises DataError for a broken picture, and for a path that is none, or many: a folder, an archive.
        """
        check_is_fitted(self, "run_")
        pictures = list(self._pictures(X, reset=False))
        answers = self.run_.predict(pictures)
        if answers.problems:
            name, why = next(iter(answers.problems.items()))
            raise DataError(f"X{name}" if name.startswith("[") else name, why.removeprefix(f"{name}: ").removesuffix("."))
        are_files = all(map(is_path, pictures))
        names = [str(Path(picture)) if are_files else f"[{row}]" for row, picture in enumerate(pictures)]
        if names != [*answers.names]:
            other = next(name for name, answered in zip_longest(names, answers.names) if name != answered)
            raise DataError("X", "every row must be one picture", got=other,
                            fix="Name the files of a folder or an archive one by one.")  # fmt: skip
        return answers.probabilities[:, [answers.classes.index(name) for name in self._names_]]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each picture, (n,), in the type of ``y``."""
        answers = self.predict_proba(X).argmax(1)
        return self.classes_[answers]

    def _checked(self, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
        if y is None:
            raise DataError(type(self).__name__, "requires y to be passed, but the target y is None")
        X = self._pictures(X, reset=True)
        _refuse_missing(type(self).__name__, y)
        y = column_or_1d(y, warn=True)
        _refuse_mixed(type(self).__name__, y)
        check_classification_targets(y)
        if len(y) != len(X):
            raise DataError(type(self).__name__, f"must have one label for each of {len(X)} pictures", got=len(y))
        return X, y

    def _pictures(self, X: Any, *, reset: bool) -> Any:
        """Return pictures as ``fit`` and ``predict`` of descend take them; rows of numbers become pixels."""
        _refuse_one_picture(X, None if reset else tuple(self.run_.record.picture_shape))
        X = _one_column_of_paths(X)
        of_rows = _are_rows(X)
        if not reset and of_rows != (self._flat_ is not None):  # the levels of the one say nothing about those of the other
            kinds = ("pictures", "rows of numbers")
            raise DataError("X", f"must be {kinds[not of_rows]}, as in fit", got=kinds[of_rows], fix="Give both in one form.")
        if not of_rows:
            self._flat_ = None
            if hasattr(X, "iloc"):  # a column of a frame
                X = X.tolist()
            return X if isinstance(X, np.ndarray) else list(X)
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        if reset:
            self._flat_ = FlatPictures.of(X, self.image_shape)
        assert self._flat_ is not None
        return self._flat_.pixels(X)

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral) and int(self.random_state) >= 0:
            return int(self.random_state)
        try:
            return int(check_random_state(self.random_state).randint(2**31))
        except ValueError:
            must = "must be a whole number >= 0, None, or a RandomState of NumPy"
            raise KnobError("random_state", must, got=self.random_state) from None


def _run_folder(keep_in: Any) -> Path:
    """Return a new folder for a run. keep_in: the folder that it shall lie in, made where there is none; None: it will go."""
    if keep_in is None:
        return Path(tempfile.mkdtemp(prefix="run-"))
    try:
        folder = Path(keep_in).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody has the home that ~ names
        raise KnobError("keep_in", f"must be a folder that takes new ones ({first_line(error)})", got=str(keep_in)) from None


def _with_knobs(named: Technique, setting: str, values: dict[str, Any]) -> str:
    """Return the text of a technique with other values of its knobs, all at once: a pair may fit where one alone does not."""
    known = {field.name for field in dataclasses.fields(named)}  # pyright: ignore[reportArgumentType] (every technique is a dataclass)
    for knob in values:
        if knob not in known:
            raise KnobError(f"{setting}__{knob}", f"must be a knob of {named}", fix=f"It has {', '.join(sorted(known))}.")
    return str(dataclasses.replace(named, **values))  # pyright: ignore[reportArgumentType]


def _refuse_missing(who: str, y: Any) -> None:
    """Raise DataError for a label that is missing: by itself, by a mask, or by a word that stands for none.

    NumPy makes the word ``nan`` of a NaN beside words, and pandas an empty one of a gap in a file.
    """
    labels = unmasked(y) if np.ma.isMaskedArray(y) else np.asarray(y, object)
    for row, label in enumerate(np.ravel(labels)):
        if not cell_text(label):
            raise DataError(who, f"every picture must have a label, that of row {row} is missing", got=label,
                            fix="Leave such rows out, or give them a label.")  # fmt: skip


def _refuse_mixed(who: str, y: NDArray[Any]) -> None:
    """Raise DataError for words beside numbers: they have no order, and ``1`` and ``"1"`` would be two classes."""
    if y.dtype == object and len(kinds := {isinstance(label, (str, bytes)) for label in y}) > 1:
        got = [next(label for label in y if isinstance(label, (str, bytes)) is kind) for kind in sorted(kinds)]
        raise DataError(
            who, "labels must all be words, or all numbers", got=got, fix="Make words of them: [str(label) for label in y]."
        )


def _refuse_one_picture(X: Any, shape: tuple[int, ...] | None) -> None:
    """Raise DataError for one picture in the place of many: its characters, bytes or rows would each be taken for one.

    shape: of one picture in the array that was fitted on, () where it was no array; None before fitting.
    """
    if is_path(X) or is_one_picture(X) or (isinstance(X, np.ndarray) and X.ndim == 0):
        fix = "Give a list: [X] for one picture" + is_path(X) * "; for a folder or a table, descend.fit and Run.predict" + "."
        raise DataError("X", "must be many pictures, not one", got=X if is_path(X) else type(X).__name__, fix=fix)
    if shape is None or not isinstance(X, np.ndarray) or X.ndim != 3:
        return
    if X.shape == shape or (X.shape[2] in CHANNELS and X.shape[1:] != shape):
        n, height, width = X.shape
        must = f"an array of {X.shape} may be one picture, or {n} gray pictures of {height} x {width} pixels: say which"
        raise DataError("X", must, fix="Give X[None] for the one picture, list(X) for the gray ones.")


def _warn_of_left_out(who: str, problems: Sequence[Mapping[str, Any]]) -> None:
    """Warn of pictures that were given to ``fit`` and not trained on: scores are of others. problems: as a record has them."""
    for item in problems:
        if item["kind"] in LEFT_OUT:
            said = told(item["message"], item["examples"], item["n"], most=SHOWN)
            warnings.warn(f"{who}: {said}", UserWarning, stacklevel=3)


def _class_names(who: str, classes: NDArray[Any]) -> list[str] | None:
    """Return the names that a run gives to classes, (K,) labels; None where it has none or fewer for them.

    `` cat`` and ``cat`` are one class to a run, and ``0.5`` and ``1.5`` may be measurements.
    """
    try:
        names, numbers, _ = encode_labels(classes, who=who)
    except DataError:
        return None
    return [names[number] for number in numbers] if len(names) == len(classes) else None


def _one_column_of_paths(X: Any) -> Any:
    """Return the paths where X is a table of one column, of paths; else X. Raises DataError for paths beside other columns."""
    if hasattr(X, "columns"):
        columns = {f"X[{name!r}]": X[name] for name in X.columns}
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUS":
        columns = {f"X[:, {place}]": column for place, column in enumerate(X.T)}
    elif isinstance(X, (list, tuple)) and X and isinstance(X[0], (list, tuple)) and any(map(is_path, X[0])):
        columns = {f"[row[{place}] for row in X]": column for place, column in enumerate(zip(*X, strict=False))}
    else:
        return X
    of_paths = [name for name, column in columns.items() if len(column) and _is_file_name(next(iter(column)))]
    if of_paths and len(columns) > 1:
        raise DataError("X", "must be pictures alone: paths stand beside other columns", got=f"{len(columns)} columns",
                        fix=f"Give the column of paths alone: {of_paths[0]}.")  # fmt: skip
    return list(columns[of_paths[0]]) if of_paths else X


def _is_file_name(value: Any) -> bool:
    """Return whether a cell names a file: a path, or a word that is no number."""
    with contextlib.suppress(TypeError, ValueError):
        float(value)
        return False
    return is_path(value)


def _are_rows(X: Any) -> bool:
    """Return whether X is a table of numbers, or what scikit-learn refuses in its own words; not pictures."""
    if hasattr(X, "toarray") or hasattr(X, "columns"):
        return True
    if isinstance(X, np.ndarray):
        return X.ndim == 2 or (X.ndim < 2 and X.dtype.kind not in "OUS")
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return not hasattr(X, "iloc") and bool(len(X)) and np.ndim(X[0]) == 1 and not isinstance(X[0], (str, bytes))
    return not hasattr(X, "__len__")


def _rows(X: Any, rows: NDArray[np.int64]) -> Any:
    return X[rows] if isinstance(X, np.ndarray) else [X[row] for row in rows]


def _held_out(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose a share of every class, (n,) bool: at least one picture in all, never the only one of its class."""
    if not 0 < fraction < 1:
        raise KnobError("validation_fraction", "must lie between 0 and 1", got=fraction)
    generator, chosen = np.random.default_rng(seed), np.zeros(len(labels), np.bool_)
    classes: Sequence[NDArray[np.int64]] = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for rows in classes:
        chosen[generator.permutation(rows)[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    largest = max(classes, key=len)
    if not chosen.any() and len(largest) > 1:
        chosen[generator.choice(largest)] = True
    return chosen
