"""``descend push``: a finished run on the Hugging Face hub, with a model card."""

from __future__ import annotations

from pathlib import Path

from descend.cli.first_look import load
from descend.cli.output import Parser, tell


def main(argv: list[str]) -> int:
    """Upload a run and print its address."""
    parser = Parser(
        prog="descend push", description="Upload a finished run to the Hugging Face hub: model, card, and weights for timm.",
        epilog="Paths, file names and pictures stay here. Log in before, with a token that may write: hf auth login",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed")
    parser.add_argument("name", metavar="OWNER/NAME", help="the repository; it is made if there is none")
    parser.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    parser.add_argument("--license", metavar="NAME", help="for the card, for example apache-2.0")
    args = parser.parse_args(argv)
    run = load(args.run)
    from descend.publishing import push

    address = push(run, args.name, private=args.private, license=args.license)
    tell(f"{address}", f"Load it: descend.load({address!r}), or descend predict {address} FILES-OR-FOLDERS")
    return 0
