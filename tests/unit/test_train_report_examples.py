"""What a report shows beside the worst mistakes: the rest of a confused pair, the unsure, the typical, each picture once."""

from __future__ import annotations

import numpy as np

from descend.train import report_examples


def test_each_picture_is_shown_once_for_its_reason() -> None:
    n_wrong, n_right = 27, 20  # three more mistakes than are shown as the worst
    sure = np.concatenate([np.linspace(0.99, 0.6, n_wrong), np.linspace(0.55, 0.98, n_right)]).astype(np.float32)
    probs = np.stack([sure, 1 - sure], 1)
    labels = np.array([1] * n_wrong + [0] * n_right)
    names = [f"{at}.jpg" for at in range(len(labels))]
    picture = np.zeros((300, 300, 3), np.uint8)
    answers = report_examples.Answers(names, ["val"] * len(names), labels, probs, ("a", "b"), lambda at: picture)
    worst, others = report_examples.mistakes(answers), report_examples.others(answers)
    assert [item["path"] for item in worst] == names[:24]
    paths = [item["path"] for item in (*worst, *others)]
    assert len(paths) == len(set(paths))
    unsure = [item["path"] for item in others if item["why"] == "unsure"]
    assert unsure == names[n_wrong : n_wrong + report_examples.N_UNSURE]
    assert [item["path"] for item in others if item["why"] == "class"] == names[-1:-4:-1]
    assert others == report_examples.others(answers)


def test_a_class_whose_few_right_answers_are_all_unsure_is_shown_as_a_class_too() -> None:
    sure = np.concatenate([np.linspace(0.51, 0.53, 3), np.linspace(0.6, 0.99, 40)]).astype(np.float32)
    labels = np.array([1] * 3 + [0] * 40)
    probs = np.where(labels[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    names = [f"{at}.jpg" for at in range(len(labels))]
    picture = np.zeros((30, 30, 3), np.uint8)
    others = report_examples.others(report_examples.Answers(names, ["val"] * 43, labels, probs, ("a", "b"), lambda at: picture))
    of = {why: [item["path"] for item in others if item["why"] == why] for why in ("unsure", "class")}
    assert of["class"] == ["2.jpg", "42.jpg", "41.jpg", "40.jpg"] or of["class"] == ["42.jpg", "41.jpg", "40.jpg", "2.jpg"]
    assert of["unsure"] == [name for name in names if name != "2.jpg"][: report_examples.N_UNSURE]
