"""What is looked at before it is opened; the rest of it is asked in test_data_hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from descend.errors import RunError
from descend.regular_files import read_text_bytes
from descend.train.recipe import read


def test_a_file_is_read_and_a_folder_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert read_text_bytes(tmp_path / "x") == b"abc"
    with pytest.raises(OSError, match=r"directory|denied"):
        read_text_bytes(tmp_path)


def test_a_recipe_with_a_number_of_ten_thousand_digits_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("epochs = " + "9" * 10_000)
    with pytest.raises(RunError, match="must be valid TOML"):
        read(tmp_path / "r.toml")
