"""``descend export``: a file that answers by itself, preprocessing and softmax inside, checked against torch on pictures."""

from __future__ import annotations

from pathlib import Path

from descend.cli.destinations import destination
from descend.cli.first_look import load
from descend.cli.output import Parser, tell
from descend.errors import KnobError
from descend.outputs import check_output

FORMATS = ("onnx", "torch", "openvino")


def main(argv: list[str]) -> int:
    """Write the file and say how well it agrees."""
    parser = Parser(
        prog="descend export", description="Write a trained run as one file: pixels in, probabilities out.",
        epilog="The file does not turn pictures by their EXIF orientation: whoever opens them must (docs/how-to/export.md).",
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed, or runs/latest")
    parser.add_argument(
        "--out", type=destination, metavar="FILE", help="default RUN/model.onnx, model.pt2, model.xml or model.int8.onnx"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of --out, else onnx")
    parser.add_argument("--check", nargs="+", metavar="FILES-OR-FOLDERS",
                        help="pictures on which the file must answer as torch does; default: the validation split")  # fmt: skip
    parser.add_argument("--int8", action="store_true", help="compute in 8 bits; the loss of accuracy is measured and told")
    parser.add_argument("--max-loss", type=float, metavar="SHARE",
                        help="of accuracy that --int8 may cost on validation; default 0.01")  # fmt: skip
    args = parser.parse_args(argv)
    if args.max_loss is not None and not args.int8:
        raise KnobError("--max-loss", "has no effect without --int8", got=args.max_loss, fix="Leave it out.")
    if args.out is not None:
        check_output("--out", args.out)
    asked = args.int8 or args.format or args.out  # what is wrong with these is told before a missing run, and imports torch
    run = None if asked else load(args.run)
    from descend.cli.progress import Terminal
    from descend.train.exporting import Int8, check_int8, default_out, format_of

    int8 = None if not args.int8 else Int8() if args.max_loss is None else Int8(args.max_loss)
    format = args.format or "onnx" if args.out is None else format_of(args.out, args.format)
    check_int8(int8, format, args.check)
    run = run or load(args.run)
    out = args.out or default_out(run.folder, format, int8=int8 is not None)
    told = run.export(out, format=format, check=args.check, int8=int8, progress=Terminal())
    tell(f"{out}: {told}")
    return 0
