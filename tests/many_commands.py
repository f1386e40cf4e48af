"""What several processes run in tests: the commands of a JSON file, one after the other, in the same processes.

    torchrun --standalone --nproc-per-node 2 tests/many_commands.py COMMANDS.json

One start of Python and torch serves them all. Exit statuses go to COMMANDS.json.RANK.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from conftest import left_out  # pyright: ignore[reportMissingImports] (beside this file)
from descend.cli import main


def run(path: Path) -> None:
    """Run every command and write down how each ended."""
    ended = list[int]()
    for words in json.loads(path.read_text(encoding="utf-8")):
        threads = torch.get_num_threads()
        try:
            ended.append(main(words))
        except SystemExit as error:
            ended.append(int(error.code or 0))
        assert torch.get_num_threads() == threads
    path.with_name(f"{path.name}.{os.environ['RANK']}").write_text(json.dumps(ended), encoding="utf-8")


if __name__ == "__main__":
    with left_out(charts=True):
        run(Path(sys.argv[1]))
