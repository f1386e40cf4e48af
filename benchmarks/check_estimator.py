"""Claim: ``descend.ImageClassifier`` passes every check that scikit-learn has for an estimator; no failure is expected.

Usage: python benchmarks/check_estimator.py [--epochs N]. 55 checks of two or three trainings each: most of a minute of one
core. The test suite runs the few checks that need no training, or one (tests/unit/test_estimator.py).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import sklearn
from sklearn.utils.estimator_checks import check_estimator

import descend

EXPECTED: dict[str, str] = {}  # check -> why it cannot pass; 8 at most
RESULT = Path(__file__).parent / "results" / "check_estimator.json"


def outcomes(epochs: int) -> list[dict[str, Any]]:
    """Run all checks on a small network; a row for each, with what came of it."""
    small = descend.ImageClassifier(
        transfer="scratch", backbone="smallcnn(width=8)", epochs=epochs, augment=[], batch_size=16, threads=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check_estimator(small, expected_failed_checks=EXPECTED, on_skip=None, on_fail=None)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    epochs = parser.parse_args().epochs
    started = time.process_time()
    rows = outcomes(epochs)
    counts = {status: sum(row["status"] == status for row in rows) for status in ("passed", "failed", "xfail", "skipped")}
    failed = {row["check_name"]: str(row["exception"]).splitlines()[0] for row in rows if row["status"] == "failed"}
    skipped = {row["check_name"]: str(row["exception"]) for row in rows if row["status"] == "skipped"}
    cpu_s = round(time.process_time() - started, 1)
    result = {"sklearn": sklearn.__version__, "epochs": epochs, "cpu_s": cpu_s, **counts, "failed_checks": failed,
              "expected": EXPECTED, "skipped_checks": skipped}  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
