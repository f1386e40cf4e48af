"""Train on arrays, predict on arrays: the whole Python interface in a few lines."""

import tempfile
from pathlib import Path

from sklearn.datasets import load_digits

import descend

images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8) * 255 / 16).astype("uint8")

with tempfile.TemporaryDirectory() as folder:
    run = descend.fit((images, labels), epochs=4, out=Path(folder) / "run")
    print(run.verdict())
    print("the first ten:", *descend.load(run.folder).predict(images[:10]).labels)
