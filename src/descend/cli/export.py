"""``descend export``: one ONNX file, preprocessing and softmax inside, checked against torch on pictures."""

from __future__ import annotations

from pathlib import Path

from descend.api import load
from descend.cli.output import Parser, tell


def main(argv: list[str]) -> int:
    """Write the file and say how well it agrees."""
    parser = Parser(
        prog="descend export", description="Write a trained run as one ONNX file: pixels in, probabilities out.",
        epilog="The file does not turn pictures by their EXIF orientation: whoever opens them must (docs/how-to/export.md).",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="ends in .onnx; default RUN/model.onnx")
    parser.add_argument("--check", nargs="+", metavar="FILES-OR-FOLDERS",
                        help="pictures on which the file must answer as torch does; default: the validation split")  # fmt: skip
    args = parser.parse_args(argv)
    from descend.cli.progress import Terminal
    from descend.train.exporting import check_suffix

    if args.out is not None:
        check_suffix(args.out)
    run = load(args.run)
    out = args.out or run.folder / "model.onnx"
    tell(f"{out}: {run.export(out, check=args.check, progress=Terminal())}")
    return 0
