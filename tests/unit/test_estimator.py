"""``ImageClassifier`` keeps scikit-learn's contract: the checks that are quick; all of them run in ``benchmarks``."""

from __future__ import annotations

import pickle
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import descend
from descend import api
from descend.errors import DataError, KnobError
from descend.estimator import _OWN, FAMILIES
from descend.flat_pictures import FlatPictures
from descend.technique import knobs
from descend.train.recipe import Recipe

LABELS = np.arange(40) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (40, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)


def tiny(**settings: Any) -> descend.ImageClassifier:
    chosen = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "augment": [], "threads": 1}
    return descend.ImageClassifier(**(chosen | {"optimizer": "adamw(lr=0.02)"} | settings))


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance",
        "check_set_params", "check_estimators_unfitted", "check_estimators_nan_inf", "check_fit2d_1sample", "check_fit1d",
        "check_complex_data", "check_requires_y_none", "check_classifiers_one_label", "check_estimator_sparse_tag",
        "check_n_features_in", "check_classifiers_regression_target",
    ],
)  # fmt: skip
def test_the_quick_checks_of_scikit_learn(check: str) -> None:
    getattr(estimator_checks, check)("ImageClassifier", tiny(epochs=1))


def test_every_setting_of_a_recipe_is_a_parameter() -> None:
    others = {"data", "fit", "seed", "split_seed", "snapshots", "checkpoint_every", "outside", "folds", "corrections"}
    settings = {knob.name for knob in knobs(Recipe)} - others
    assert set(descend.ImageClassifier().get_params()) == settings | set(_OWN)
    assert set(FAMILIES) <= settings
    defaults = {knob.name: getattr(Recipe(), knob.name) for knob in knobs(Recipe)}
    assert all(value == defaults[name] for name, value in descend.ImageClassifier().get_params().items() if name in settings)


def test_rows_of_digits_are_pictures_in_a_pipeline_and_in_cross_validation() -> None:
    rows, labels = load_digits(return_X_y=True)
    rows, names = rows[labels < 2], np.array(["nil", "one"])[labels[labels < 2]]
    model = make_pipeline(FunctionTransformer(), tiny(epochs=3))
    scores = cross_val_score(model, rows, names, cv=2)
    assert scores.min() > 0.9
    assert clone(model).get_params()["imageclassifier__epochs"] == 3


def test_a_grid_over_a_knob() -> None:
    search = GridSearchCV(tiny(epochs=6), {"optimizer__lr": [1e-9, 0.02]}, cv=2, refit=False).fit(IMAGES, LABELS)
    assert search.best_params_ == {"optimizer__lr": 0.02}
    assert tiny().set_params(optimizer__lr=0.5).optimizer == "adamw(lr=0.5)"
    with pytest.raises(KnobError, match=r"schedule is left to descend. Name it"):
        tiny().set_params(schedule__peak=3)
    with pytest.raises(KnobError, match="optimizer__rate: must be a knob of adamw"):
        tiny().set_params(optimizer__rate=3)


@pytest.mark.parametrize("order", [1, -1])
def test_knobs_of_one_technique_are_set_together(order: int) -> None:
    """Each of the two alone would go beyond the run's length with the other as it was."""
    for knobs_now, knobs_then in (("warmup=0.9, decay=0.1", (0.1, 0.9)), ("warmup=0.1, decay=0.9", (0.9, 0.1))):
        params = dict(zip(("schedule__warmup", "schedule__decay"), knobs_then, strict=True))
        params = dict([*params.items()][::order])
        found = tiny(schedule=f"wsd({knobs_now})").set_params(**params).schedule
        assert found == f"wsd(warmup={knobs_then[0]}, decay={knobs_then[1]})"


def test_pictures_of_any_kind_and_labels_of_any_type(tmp_path: Path) -> None:
    labels = np.where(LABELS == 1, 30, 4)
    pictures = [Image.fromarray(image).resize((12 + place % 5, 12)) for place, image in enumerate(IMAGES)]
    model = tiny(keep_in=str(tmp_path)).fit(pictures, labels)
    assert model.score(pictures, labels) > 0.9
    assert model.classes_.tolist() == [4, 30]
    assert model.predict(pictures[:2]).dtype == labels.dtype
    (folder,) = tmp_path.iterdir()
    assert (folder / "report.html").exists()
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(pictures[:3]), model.predict_proba(pictures[:3])
    )
    with pytest.raises(DataError, match=r"X\[1\]: must be a readable picture"):
        model.predict([pictures[0], b"broken"])
    with pytest.raises(NotFittedError):
        clone(model).predict(pictures)


def test_validation_is_a_share_of_every_class_and_nothing_is_kept_for_testing() -> None:
    model = tiny(epochs=1, validation_fraction=0.2).fit(IMAGES, LABELS)
    record = model.run_.record
    assert record.data["counts"] == {name: {"train": 16, "val": 4, "test": 0} for name in "01"}
    assert not model.run_.folder.exists()
    for fraction in (0, 1):
        with pytest.raises(KnobError, match="validation_fraction: must lie between 0 and 1"):
            tiny(validation_fraction=fraction).fit(IMAGES, LABELS)


def test_rows_become_levels_between_the_extremes_of_the_training() -> None:
    rows = np.array([[-1.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    flat = FlatPictures.of(rows, None)
    assert flat.pixels(rows).tolist() == [[[0, 64], [255, 0]], [[128, 128], [128, 0]]]
    assert flat.pixels(np.array([[9.0, -9.0, 3.0]])).tolist() == [[[255, 0], [255, 0]]]
    assert FlatPictures.of(rows, (1, 3)).pixels(rows).shape == (2, 1, 3)
    with pytest.raises(KnobError, match="image_shape: must be of 3 values, as X has columns"):
        FlatPictures.of(rows, (2, 2))


def test_flattened_pictures_in_color_are_no_gray_ones_of_another_shape() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    images[0, 0, 0, :2] = 0, 255  # the whole range
    rows = images.reshape(4, -1).astype(np.float64)
    np.testing.assert_array_equal(FlatPictures.of(rows, (16, 16, 3)).pixels(rows), images)
    assert FlatPictures.of(rows, (32, 24)).pixels(rows).shape == (4, 32, 24)
    must = r"must be given: rows of 768 columns may be .* 16x16 pixels in 3 channels. Write image_shape=\(16, 16, 3\)"
    with pytest.raises(KnobError, match=must):
        FlatPictures.of(rows, None)
    for shape in ((16, 48, 1), (768,), (16.0, 48.0), "16x48", 768, (-16, -48)):
        with pytest.raises(KnobError, match=r"image_shape: must be \(H, W\), or \(H, W, 3\) of pictures in color"):
            FlatPictures.of(rows, shape)  # pyright: ignore[reportArgumentType]


def test_a_grid_of_numpy_numbers_is_a_grid() -> None:
    search = GridSearchCV(tiny(optimizer="adamw"), {"epochs": np.arange(1, 3), "optimizer__lr": np.logspace(-2, -1, 2)}, cv=2)
    found = search.fit(IMAGES, LABELS)
    assert len(found.cv_results_["params"]) == 4
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


def test_rows_of_numbers_and_pictures_are_not_taken_for_each_other() -> None:
    """The levels that rows were given in training say nothing about those of a picture: 0 to 16 would be nearly black."""
    rows = IMAGES.reshape(len(IMAGES), -1)
    with pytest.raises(DataError, match="must be pictures, as in fit, got 'rows of numbers'"):
        tiny(epochs=1).fit(IMAGES, LABELS).predict(rows)
    model = tiny(epochs=1).fit(rows, LABELS)
    with pytest.raises(DataError, match="must be rows of numbers, as in fit, got 'pictures'"):
        model.predict(IMAGES)
    again = model.fit(IMAGES, LABELS)  # pictures now: nothing of the rows is left
    np.testing.assert_array_equal(again.predict_proba(IMAGES), tiny(epochs=1).fit(IMAGES, LABELS).predict_proba(IMAGES))


def test_a_frame_of_paths_is_a_list_of_paths(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(len(IMAGES))]
    model = tiny(epochs=1, size=12).fit(pandas.DataFrame({"file": paths}, index=range(100, 140)), LABELS)
    answers = model.predict_proba(pandas.DataFrame({"file": paths}))
    np.testing.assert_array_equal(answers, tiny(epochs=1, size=12).fit(paths, LABELS).predict_proba(paths))


@pytest.mark.parametrize("kind", ["array", "objects", "lists", "frame"])
def test_a_column_of_paths_is_a_list_of_paths_and_others_beside_it_are_refused(kind: str, files: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    made: Any = {
        "array": np.array, "objects": lambda rows: np.array(rows, object), "lists": list,
        "frame": lambda rows: pandas.DataFrame(rows, columns=["file", "age"][: len(rows[0])]),
    }[kind]  # fmt: skip
    alone = {"array": "X[:, 0]", "objects": "X[:, 0]", "lists": "[row[0] for row in X]", "frame": "X['file']"}[kind]
    with pytest.raises(DataError, match=rf"paths stand beside .*got '2 columns'.*column of paths alone: {re.escape(alone)}\."):
        tiny(epochs=1, size=12).fit(made([[path, 7] for path in files]), LABELS)
    if kind != "frame":  # has a test of its own
        model = tiny(epochs=1, size=12).fit(made([[path] for path in files]), LABELS)
        np.testing.assert_array_equal(model.predict_proba(made([[path] for path in files[:4]])), model.predict_proba(files[:4]))


def test_numbers_that_are_words_are_no_paths() -> None:
    rows = np.array([[str(value) for value in image.ravel()] for image in IMAGES])
    model = tiny(epochs=1).fit(rows.astype(np.float64), LABELS)
    np.testing.assert_array_equal(tiny(epochs=1).fit(rows, LABELS).predict_proba(rows), model.predict_proba(rows))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["class10", "class9"], ("class9", "class10")),  # NumPy has them in the other order
        (["ants", "bees"], ("ants", "bees")),
        ([30, 4], ("4", "30")),
        ([True, False], ("False", "True")),
        (["cat", " cat"], ("0", "1")),  # one name to a run, two classes to scikit-learn
        (["0.5", "1.5"], ("0", "1")),  # measurements to a run
    ],
)
def test_the_run_knows_the_classes_by_their_names(labels: list[Any], names: tuple[str, ...], tmp_path: Path) -> None:
    y = np.array(labels)[LABELS]
    model = tiny(epochs=3, keep_in=tmp_path).fit(IMAGES, y)
    run = descend.load(model.run_.folder)
    assert run.classes == names
    assert model.classes_.tolist() == sorted(labels)
    assert model.score(IMAGES, y) > 0.9
    if names != ("0", "1"):
        np.testing.assert_array_equal(run.predict(IMAGES).labels, model.predict(IMAGES))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(len(IMAGES))]


def test_a_class_without_a_readable_picture_is_named(files: list[str], tmp_path: Path) -> None:
    """The run would know two classes, and the columns of its answers would be taken for other ones."""
    given, names = [*files[:20], str(tmp_path / "gone.png"), *files[20:]], [*LABELS[:20] * 2, 1, *LABELS[20:] * 2]
    model = tiny(epochs=1, size=12)
    with pytest.raises(DataError, match=r"must have a readable picture of every class, got '1'\. Mend the paths"):
        model.fit(given, names)
    with pytest.raises(NotFittedError):
        model.predict(files)


def test_pictures_that_fit_leaves_out_are_a_warning(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    given, names = [*files, str(tmp_path / "gone.png"), str(tmp_path / "broken.png")], [*LABELS, 0, 1]
    model = tiny(epochs=1, size=12)
    with pytest.warns(UserWarning, match="left out") as caught:
        model.fit(given, names)
    told = [str(warning.message) for warning in caught]
    assert any("ImageClassifier: 1 file" in line and "gone.png" in line for line in told)
    assert any("ImageClassifier: 1 file cannot be decoded" in line and "broken.png" in line for line in told)
    assert len(model.classes_) == 2


def test_a_broken_picture_is_named_once(files: list[str], tmp_path: Path) -> None:
    model = tiny(epochs=1, size=12).fit(files, LABELS)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        model.predict([files[0], tmp_path / "broken.png"])
    assert str(caught.value) == f"{tmp_path / 'broken.png'}: must be a readable picture (not a format that Pillow reads)."


@pytest.mark.parametrize(
    "one", ["/tmp/x/", Path("a.png"), np.str_("a.png"), np.array("a.png"), Image.new("L", (8, 8)), b"\x89PNG"]
)
def test_one_picture_is_refused_where_many_must_stand(one: Any, files: list[str]) -> None:
    """The characters of a path would each be one: ``/`` is the whole disk."""
    model = tiny(epochs=1, size=12).fit(files, LABELS)
    for ask in (model.predict, model.predict_proba, lambda X: model.score(X, LABELS), lambda X: tiny().fit(X, LABELS)):
        with pytest.raises(DataError, match=r"X: must be many pictures, not one, got .*Give a list: \[X\] for one picture"):
            ask(one)


@pytest.mark.parametrize("shape", [(12, 12, 3), (12, 12)])
def test_one_color_picture_is_not_taken_for_its_rows(shape: tuple[int, ...]) -> None:
    pictures = IMAGES if len(shape) == 2 else np.repeat(IMAGES[..., None], 3, axis=3)
    model = tiny(epochs=1).fit(pictures, LABELS)
    with pytest.raises(DataError, match=r"X: an array of \(12, 12, 3\) may be one picture, .*X\[None\] for the one picture"):
        model.predict(np.zeros((12, 12, 3), np.uint8))
    assert len(model.predict(pictures[:12])) == 12


def test_a_path_that_is_many_pictures_or_none_is_refused(files: list[str], tmp_path: Path) -> None:
    model = tiny(epochs=1, size=12).fit(files, LABELS)
    (tmp_path / "more").mkdir()
    with pytest.raises(DataError, match=r"X: every row must be one picture, got '.*more'"):
        model.predict([files[0], str(tmp_path / "more"), files[1]])
    for number in range(2):
        Image.fromarray(IMAGES[number]).save(tmp_path / "more" / f"{number}.png")
    with pytest.raises(DataError, match=r"X: every row must be one picture, got '.*more'"):
        model.predict([files[0], str(tmp_path / "more"), files[1]])
    assert len(model.predict([Path(files[0]), f"{tmp_path}/./0.png"])) == 2


def test_ctrl_c_ends_a_search_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def on_epoch(row: dict[str, Any]) -> None:
        told.append(row["epoch"])
        signal.raise_signal(signal.SIGINT)

    whole = api.fit
    monkeypatch.setattr(api, "fit", lambda data, **settings: whole(data, on_epoch=on_epoch, **settings))
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(tiny(), {"optimizer__lr": [0.01, 0.02]}, cv=2).fit(IMAGES, LABELS)
    assert told == [1]


def test_arrays_of_any_size_whatever_the_split_makes_of_them() -> None:
    """What is held out is one picture, which is alike by itself."""
    pictures = [np.full((20 + row, 20), 40 + 150 * (row % 2), np.uint8) for row in range(6)]
    model = tiny(epochs=1, size=12, validation_fraction=0.1).fit(pictures, LABELS[:6])
    assert len(model.predict(pictures)) == 6


def test_what_is_kept_may_lie_in_a_folder_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    model = tiny(epochs=1, keep_in="~/a/runs").fit(IMAGES, LABELS)
    assert model.run_.folder.parent == tmp_path / "a" / "runs"
    (tmp_path / "file").touch()
    with pytest.raises(KnobError, match="keep_in: must be a folder that takes new ones"):
        tiny(epochs=1, keep_in=tmp_path / "file").fit(IMAGES, LABELS)


@pytest.mark.parametrize("seed", [-1, "one"])
def test_a_seed_that_is_none_is_refused_in_words(seed: Any) -> None:
    with pytest.raises(KnobError, match="random_state: must be a whole number >= 0"):
        tiny(random_state=seed).fit(IMAGES, LABELS)


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
@pytest.mark.parametrize("kind", [list, lambda labels: np.array(labels, object)])
def test_a_missing_label_is_named_and_no_class(missing: Any, kind: Any) -> None:
    labels = ["nil" if label == 0 else "one" for label in LABELS]
    labels[7] = missing
    with pytest.raises(DataError, match="every picture must have a label, that of row 7 is missing"):
        tiny(epochs=1).fit(IMAGES, kind(labels))


@pytest.mark.parametrize("word", ["", " ", "nan", "<NA>", "null"])
def test_a_word_that_stands_for_no_label_is_no_class(word: str) -> None:
    """``np.array(["cat", np.nan])`` holds the word nan."""
    labels = np.array(["nil", "one"], "U4")[LABELS]
    labels[7] = word
    with pytest.raises(DataError, match="every picture must have a label, that of row 7 is missing"):
        tiny(epochs=1).fit(IMAGES, labels)


@pytest.mark.parametrize("labels", [LABELS, np.array(["nil", "one"])[LABELS]])
def test_a_masked_label_is_missing(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="that of row 3 is missing"):
        tiny(epochs=1).fit(IMAGES, np.ma.array(labels, mask=np.arange(40) == 3))


def test_words_beside_numbers_are_refused_in_words() -> None:
    labels = np.array([1, "one"], object)[LABELS]
    with pytest.raises(DataError, match=r"labels must all be words, or all numbers, got .*Make words of them"):
        tiny(epochs=1).fit(IMAGES, labels)


def test_a_fitted_estimator_is_pickled_after_its_first_answer_too(tmp_path: Path) -> None:
    begun = tiny(epochs=1, keep_in=tmp_path).fit(IMAGES, LABELS).run_.folder
    model = descend.ImageClassifier(transfer="features", init=str(begun), engine="torch", augment=[]).fit(IMAGES, LABELS)
    answers = model.predict_proba(IMAGES)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(IMAGES), answers)
