"""``descend export``: one ONNX file, preprocessing and softmax inside, checked against torch on pictures."""

from __future__ import annotations

from pathlib import Path

from descend.api import load
from descend.cli.output import Parser, tell
from descend.errors import DataError, PictureError

MOST = 16  # pictures to check on


def main(argv: list[str]) -> int:
    """Write the file and say how well it agrees."""
    parser = Parser(prog="descend export", description="Write a trained run as one ONNX file.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder that `descend fit` printed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default RUN/model.onnx")
    parser.add_argument("--check", nargs="+", required=True, metavar="FILES-OR-FOLDERS",
                        help="pictures on which the file must answer as torch does")  # fmt: skip
    args = parser.parse_args(argv)
    from descend.data import list_pictures
    from descend.data.decode import decode
    from descend.export import export_onnx

    run = load(args.run)
    out = args.out or args.run / "model.onnx"
    prepared, policy = run.record.preparation(), run.record.pixel_policy()
    pictures = []
    for path in list_pictures(args.check):
        try:
            pictures.append(decode(path, policy=policy))
        except PictureError:  # predict names such files; here they only cannot serve as a check
            continue
        if len(pictures) == MOST:
            break
    if not pictures:
        raise DataError("export", "--check needs one readable picture or more", got=args.check)
    report = export_onnx(
        run.classifier, out, size=prepared["size"], resolution=prepared["resolution"], classes=run.classes,
        check_images=pictures, policy=policy,
    )  # fmt: skip
    tell(f"{out}: {report}")
    return 0
