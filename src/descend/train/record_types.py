"""The typed parts of a run record and of its files: plain dictionaries in JSON, checked when they are read."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from descend.pixel_choices import Background, Fit

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
"""What may select the best epoch."""

Side = Annotated[int, Ge(1), Le(65_536)]
"""The side of a square picture, pixels."""


class Score(TypedDict):
    """How good a set of answers is. accuracy_interval: [low, high], 95%. loss: mean negative log-likelihood, nats.

    n: pictures. n_independent: distinct pictures, or groups of pictures, that the interval rests on.
    """

    accuracy: float
    accuracy_interval: Annotated[list[float], Len(2, 2)]
    balanced_accuracy: float
    macro_f1: float
    loss: float
    n: int
    n_independent: int


ClassScore = TypedDict(
    "ClassScore",
    {
        "class": str, "precision": float, "recall": float, "f1": float, "n": int, "n_answered": NotRequired[int],
        "share": NotRequired[float],
    },
)  # fmt: skip
"""How good the answers are for one class; 0 where a share is of nothing. n: its pictures. n_answered: those answered with it.
share: of all that were judged, copies once, in [0, 1]."""


Confused = Annotated[list[Annotated[int, Ge(0)]], Len(3, 3)]
"""A cell of a confusion matrix: the true class and the answered one, counted from 0, and how many pictures."""


class DataNote(TypedDict):
    """Something about the data that their owner should know: ``data.Problem`` says what its kinds are, n and examples."""

    kind: str
    message: str
    n: int
    examples: list[str]


class Evaluation(Score):
    """What ``Run.evaluate`` returns: the score, and how it was measured.

    judged: what was measured, in words. is_own: whether it is a split of the run's own data. is_look: whether pictures of the
    run's own test split are among it; test_looks: how often that was so. problems: name -> reason, pictures of the split, or of
    none, that cannot be read. notes: what else there is to say of the data: what is left out, and what a score of them may rest
    on. doubtful: name -> reason, pictures that by the run's scale and background may not look as its own did. look_noted: False
    where the run folder takes no writes. n_trained_on: pictures that the run was trained or selected on; None where neither its
    own data nor their list are at hand. n_near_trained_on: others that are near copies of such; None without the data, and where
    there are more pictures than the run's budget had time to seek them among. doubt: of "right" and "wrong" answers, the mean
    entropy and mutual information in nats; None after single passes.
    """

    run: str
    split: str
    judged: str
    is_own: bool
    is_look: bool
    test_looks: int
    per_class: list[ClassScore]
    problems: dict[str, str]
    notes: list[DataNote]
    doubtful: dict[str, str]
    look_noted: bool
    n_trained_on: int | None
    n_near_trained_on: int | None
    tta: str | None
    mc: int | None
    doubt: dict[str, dict[str, float]] | None


class Mistake(TypedDict):
    """A wrong answer, with its picture: jpeg is base64. looked: the same picture with what spoke for the answer in color."""

    path: str
    split: str
    label: str
    predicted: str
    confidence: float
    jpeg: str
    looked: NotRequired[str]


class ShownAnswer(Mistake):
    """An answer, right or wrong, that a report shows; why: as one of a confused "pair", "unsure" though right, of a "class"."""

    why: str


class Processes(TypedDict):
    """The processes that trained a run together. threads: of torch in each. batch_norms: over the rows of all, or constant."""

    n: int
    backend: str
    threads: int
    batch_norms: Literal["synchronized", "frozen", "none"]


class EpochRow(TypedDict):
    """One line of ``metrics.jsonl``. lr: the base learning rate of the epoch's last step."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_macro_f1: float
    wall_s: float
    images_per_s: float
    best: bool


class Decision(TypedDict):
    """What a schedule decided from the history, after how many epochs, and why."""

    epoch: int
    what: str
    why: str


class Chosen(TypedDict):
    """What the result is. epoch: counted from 1, the one that selection preferred."""

    transfer: str
    backbone: str
    size: int
    engine: str
    epoch: int


class HeadTrial(TypedDict):
    """What a strength of the penalty reached in cross-validation, on a set of features (``feature_stages``). loss, se: nats."""

    feature_stages: str
    strength: float
    accuracy: float
    loss: float
    se: float
    chosen: bool


class EnsembleMember(TypedDict):
    """One network of an ensemble: how it is built, and what it looks at.

    taps: as in ``Preprocessing``. view: pixels of the picture that it looks at, resampled from the run's size. mirrored: whether
    it also looks at the mirror image. weight: of its probabilities.
    """

    architecture: str
    taps: list[str]
    view: Side
    mirrored: bool
    weight: float


class CrossValidation(TypedDict):
    """How the folds came about whose answers stand for validation: strength and features that each fold chose by itself."""

    n_folds: int
    strengths: list[float]
    feature_stages: list[str]


class SearchStep(TypedDict):
    """One step of a search: its text, why it was taken, and what came of it.

    began_s, ended_s: seconds since the command began. accuracy, loss: of this step's own answers, with the number n of pictures
    they were measured on, and n_independent distinct ones or groups (absent in older records); measured: by "cross-validation" on
    training pictures, on "validation", or by nothing, in words, where it learned from that; "" where it was lost. outcome: in
    words. failed: whether an error ended it (absent in older records).
    best_accuracy, best_interval: on validation, of the best answer there was when the step had ended.
    """

    step: str
    why: str
    began_s: float
    ended_s: float
    accuracy: float | None
    loss: float | None
    n: int
    n_independent: NotRequired[int]
    measured: str
    outcome: str
    failed: NotRequired[bool]
    best_accuracy: float | None
    best_interval: list[float]


class NextStep(TypedDict):
    """The step that a search would have taken next, had there been time: why, and the seconds that it was expected to take."""

    why: str
    seconds: float


class Preprocessing(TypedDict):
    """How a picture becomes the network's input.

    resolution: side of the stored square, size: side of the view, pixels. scale: [low, high], the stored values that become 0 and
    255 in pictures of more than 8 bits, or None for the usual ones. background: what shows through transparent pixels and around
    padded pictures. fit: how a picture that is not square becomes one. taps: stages of the backbone whose pooled outputs join the
    features. members: the networks of an ensemble; empty for a single network.
    """

    architecture: str
    resolution: Side
    size: Side
    mean: Annotated[list[float], Len(3, 3)]
    std: Annotated[list[float], Len(3, 3)]
    scale: Annotated[list[float], Len(2, 2)] | None
    background: Background
    fit: Fit
    taps: list[str]
    members: list[EnsembleMember]


class ParameterGroup(TypedDict):
    """One of the optimizer's groups."""

    name: str
    names: list[str]
    n_parameters: int
    lr_scale: float
    initial_lr: float
    weight_decay: NotRequired[float]


class LoadedWeights(TypedDict):
    """How the tensors of a file were matched with those of the backbone; see ``descend.models.WeightReport``."""

    file: str
    digest: str
    n_matched: int
    n_tensors: int
    share: float
    inside: str
    prefix: str
    missing: list[str]
    wrong_shape: list[str]
    classifier: list[str]
    unexpected: list[str]
    converted: NotRequired[list[str]]


class InitialRun(TypedDict):
    """The run that this one began from, the digest of its model, and what matched.

    classes: those whose rows of the head it gave. head: "whole", "rows" (of some classes) or "new". n_seen: pictures of
    validation and test that it had been trained on.
    """

    run: str
    digest: str
    classes: list[str]
    head: str
    n_seen: int


class FrozenPart(TypedDict):
    """What computes the frozen part: the engine's name, the last stage inside, and the stages that were tapped on the way."""

    engine: str
    stage: str
    taps: list[str]


class Reliability(TypedDict):
    """How well confidence and accuracy agree, over bins of confidence.

    ece: the expected calibration error, as it is, with what chance adds to it. rms_error: the root mean square of the same gaps,
    without what chance adds to the square, and its 95% interval; runs of older versions have none.
    bins: [n, mean confidence, accuracy] of every bin of confidence that has answers.
    """

    ece: float
    rms_error: NotRequired[float]
    rms_interval: NotRequired[Annotated[list[float], Len(2, 2)]]
    bins: list[list[float]]


class Calibration(TypedDict):
    """Confidence on one split, before and after the temperature; coverage: of answers after it, see ``calibration.coverage``.

    On validation, after is at temperatures that were fitted without the pictures that they are applied to.
    """

    before: Reliability
    after: Reliability
    coverage: list[list[int]]


class GraphPart(TypedDict):
    """One network of quick answers: its exported graph, and the head on top.

    graph: name of the entry in the cache. head: of the head's tensors in the run's model. n_columns: of the graph's features,
    counted from the last, that the head reads. mirrored, weight: as in ``EnsembleMember``.
    """

    graph: str
    head: str
    n_columns: int
    mirrored: bool
    weight: float


class FrozenCheck(TypedDict):
    """Fingerprints of the frozen part before and after training, and what its batch norms did."""

    before: str
    after: str
    norm: str


class TestLook(TypedDict):
    """One look at the test split: when (ISO 8601, UTC) and by what."""

    when: str
    what: str


class RunSummary(TypedDict):
    """What ``descend fit --json`` prints. wall_s: of each stage."""

    run: str
    status: str
    chosen: Chosen | None
    val: Score | None
    test: Score | None
    wall_s: dict[str, float]
    images_per_s: float | None
    seed: int


class Machine(TypedDict):
    """What kind of machine this is; nothing that names it or its user."""

    system: str
    processor: str
    n_cpus: int | None
    python: str
