"""Serve an exported classifier behind HTTP with onnxruntime and Pillow alone; descend and torch are not needed.

    pip install onnxruntime pillow
    python classify.py model.onnx --port 8000
    curl --data-binary @picture.jpg http://127.0.0.1:8000/

A picture in the body of a POST comes back as JSON: the best class and the probability of each.
"""

import argparse
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_BYTES = 20_000_000


class Classifier:
    """An exported file, opened once: ``Classifier("model.onnx")(open("picture.jpg", "rb").read())``."""

    def __init__(self, path: str | Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        stored = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(stored["classes"])
        if json.loads(stored["scale"]) is not None:
            raise ValueError("this model was trained on pictures of more than 8 bits: scale them as its metadata say")
        self.ground = {"white": 255, "black": 0, "gray": 128}[stored["background"]]

    def __call__(self, content: bytes) -> dict[str, float]:
        """Return the probability of each class for an encoded picture of 8 bits. Raises OSError for anything else."""
        with Image.open(io.BytesIO(content)) as opened:
            picture = ImageOps.exif_transpose(opened)  # the file itself does not know how the camera was held
        if picture.mode.startswith(("I", "F")):  # Pillow's convert("RGB") would make everything above 255 white
            raise OSError(f"a picture of more than 8 bits (mode {picture.mode}): scale it to 8 first")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            ground = Image.new("RGBA", picture.size, (self.ground, self.ground, self.ground, 255))
            picture = Image.alpha_composite(ground, picture)
        pixels = np.asarray(picture.convert("RGB"))[None]
        (probabilities,) = self.session.run(["probabilities"], {"images": pixels})
        return dict(zip(self.classes, map(float, probabilities[0]), strict=True))


def handler(classify: Classifier) -> type[BaseHTTPRequestHandler]:
    """Return what answers a request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if length > MOST_BYTES:
                self.answer(413, {"error": f"at most {MOST_BYTES:,} bytes"})
                return
            try:
                probabilities = classify(self.rfile.read(length))
            except UnidentifiedImageError:  # its own words name a buffer of this process
                self.answer(400, {"error": "no picture in a format that Pillow reads"})
                return
            except (OSError, Image.DecompressionBombError) as error:
                self.answer(400, {"error": str(error)})
                return
            best = max(probabilities, key=lambda name: probabilities[name])
            self.answer(200, {"class": best, "probabilities": probabilities})

        def answer(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    print(f"http://127.0.0.1:{args.port}/")
    ThreadingHTTPServer(("127.0.0.1", args.port), handler(Classifier(args.model))).serve_forever()
