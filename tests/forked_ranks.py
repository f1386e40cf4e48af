"""What several processes run in tests, as torchrun would start them, but forked from one that has imported everything once.

    python tests/forked_ranks.py PROCESSES COMMANDS.json [PROCESSES COMMANDS.json ...]

Runs each file of commands in that many processes, one file after the other. What is imported takes seconds for every process that
begins anew. That torchrun itself starts a run is another test's matter. Exit statuses go to COMMANDS.json.RANK.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

import torch
from torch.distributed import TCPStore

from conftest import left_out  # pyright: ignore[reportMissingImports] (beside this file)
from descend.cli import main

IMPORTED = (
    "descend.api", "descend.cli.fit", "descend.compiled", "descend.report.page", "descend.train.distributed",
    "descend.train.metrics", "scipy.stats", "sklearn.metrics", "timm", "torch._dynamo", "torch.nn.parallel",
)  # fmt: skip


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


def together(n: int, path: Path) -> bool:
    """Run a file of commands in ``n`` processes; return whether all of them came to its end."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port,
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": True,
    }  # fmt: skip
    children = list[int]()
    for rank in range(n):
        if child := os.fork():
            children.append(child)
            continue
        os.environ.update({name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()})
        try:
            run(path)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return not any(ended)


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    with left_out(charts=True):
        well = [together(int(n), Path(path)) for n, path in zip(sys.argv[1::2], sys.argv[2::2], strict=True)]
    sys.exit(0 if all(well) else 1)
