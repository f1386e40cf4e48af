"""The page on augmentation, dropout and decay: what it computes, run in Node, against the Python that it came from."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erfc

from descend import rng
from descend.augment import Augmentation, Pipeline
from descend.augment.apply import levels, normal, rounded
from descend.cli import main
from descend.errors import KnobError
from descend.landscape.array_javascript import ArrayLibrary, array_method
from descend.landscape.javascript import Untranslatable
from descend.optim import Adam, Optimizer
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD
from descend.regularize import DropConnectLinear, Dropout
from descend.regularize.stochastic_depth import expected_depth, linear_decay
from descend.report import lesson_page
from descend.report.lesson_translation import augmentations
from descend.schedule import Schedule
from descend.technique import build, find, knobs, registered, spec

NODE = shutil.which("node")
SIDE = 48
MIXED = [  # lists in which factors compose, and settings that switch another part of a formula on
    ["rotate(degrees=90.0)", "color_jitter(hue=0.3)", "gamma()", "random_erasing(p=1.0, fill='noise')", "elastic()"],
    ["rotate(degrees=40.0)", "resampling(interpolation='bicubic', border='constant', fill='black')"],
    ["scale(factor_range=[0.3, 0.5], anisotropic=True)", "resampling(border='wrap')"],
    ["scale(factor_range=[0.2, 0.25])", "shift(fraction=0.3)"],
    ["random_erasing(p=1.0, fill='color')", "solarize(p=1.0)", "autocontrast(p=1.0)", "gamma(gamma_range=[2.0, 3.0])"],
    ["flip()", "flip()", "flip(axis='vertical')"],
    ["rotate(p=0.5)", "resampling(border='replicate')"],
    ["gaussian_noise(sigma_range=[5.0, 20.0])", "gaussian_noise()"],
    ["coarse_dropout(fill='black')", "cutout(fill='color')", "grayscale(p=0.5)"],
    ["shear(axis='horizontal')", "perspective(p=1.0, distortion=0.6)", "equalize(p=1.0)", "invert(p=0.5)"],
]  # fmt: skip


def node(body: str, given: Any = None) -> Any:
    """Run ``body``, which sees GIVEN and the page's scripts without their controls, in Node; return what it answers."""
    if NODE is None:
        pytest.skip("node is not installed")
    text = lesson_page.script()
    text = text[: text.index(lesson_page.asset("draws.js"))]
    plain = "(k, v) => v instanceof Nd ? v.tolist() : ArrayBuffer.isView(v) ? [...v] : Number.isNaN(v) ? 'NaN' : v"
    answer = f"const GIVEN = {json.dumps(given)}; const answer = (x) => console.log(JSON.stringify(x, {plain}));"
    done = subprocess.run([NODE, "-"], input="\n".join([text, answer, body]), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def always(name: str) -> str:
    """Return a transform that is applied to every picture."""
    cls = find(name, Augmentation)
    return spec(build(f"{name}(p=1.0)" if "p" in {knob.name for knob in knobs(cls)} else name, Augmentation))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """The middle of a photograph: (SIDE, SIDE, 3) uint8."""
    return lesson_page.photographs()[0][1][40 : 40 + SIDE, 60 : 60 + SIDE]


# ------------------------------------------------------------------------------------------------------- random numbers


def test_the_pages_random_words_are_those_of_the_product() -> None:
    jobs = [(0, "augment.flip", 0, 1, 0, 0), (7, "drop/é", -5, 9, 3, 2), (123456789, "x" * 200, 2**45, 6, 1, 99)]
    found = node("answer(GIVEN.map((job) => rng.bits(...job)))", jobs)
    for (seed, stream, sample, n, epoch, draw), words in zip(jobs, found, strict=True):
        assert words == rng.bits(seed, stream, ids=[sample], n=n, epoch=epoch, draw=draw)[0].tolist()


def test_the_pages_digest_is_blake2b() -> None:
    texts = ["", "a", "b" * 127, "c" * 128, "d" * 129, "e" * 1000]
    found = node("answer(GIVEN.map((text) => [8, 64].map((size) => blake2b(new TextEncoder().encode(text), size))))", texts)
    for text, digests in zip(texts, found, strict=True):
        assert [bytes(d) for d in digests] == [hashlib.blake2b(text.encode(), digest_size=size).digest() for size in (8, 64)]


def test_masks_are_those_of_the_drop_layers() -> None:
    body = "answer(GIVEN.map(([id, n, p]) => rng.kept(rng.key(3, 'dropout', 5, 1), id, n, p)))"
    jobs = [(0, 37, 0.5), (11, 8, 0.1), (4, 129, 0.9)]
    for (sample, n, p), kept in zip(jobs, node(body, jobs), strict=True):
        layer = Dropout(p, seed=3).train()
        with rng.context(5, 0, [sample], draw=1):
            assert (layer(torch.ones(1, n))[0] > 0).tolist() == kept


def test_noise_is_the_noise_of_the_product() -> None:
    found = node("answer(normals(9, [12, 34], 301))")
    np.testing.assert_allclose(found, normal(np.array([9]), (12, 34), 301)[0], rtol=2e-6, atol=1e-6)


# --------------------------------------------------------------------------------------------------------- augmentation

DRAW = """
answer(GIVEN.jobs.map(([specs, draw]) => {
  const image = { height: GIVEN.side, width: GIVEN.side, data: GIVEN.image };
  const draws = drawn(specs.map(parsed), image, { seed: 3, id: 17, draw });
  return [applied(image, draws).data, draws.matrix, draws.color, draws.boxes, captions(draws)];
}));
"""


def test_draws_and_pixels_of_the_page_are_those_of_the_product(image: np.ndarray) -> None:
    lists = [*([always(name)] for name in augmentations()[0]), *MIXED]
    jobs = [(texts, draw) for texts in lists for draw in (0, 1, 2)]
    found = node(DRAW, {"jobs": jobs, "image": image.ravel().tolist(), "side": SIDE})
    mean, std = (255 * torch.tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    changed = 0
    for (texts, draw), (data, matrix, color, boxes, said) in zip(jobs, found, strict=True):
        draws = Pipeline(texts, seed=3, size=SIDE, out="uint8").draw([17], (SIDE, SIDE), epoch=0, draw=draw)
        np.testing.assert_allclose(matrix, draws.matrix, rtol=1e-12, atol=1e-10, err_msg=str(texts))
        if color is not None:
            assert draws.color is not None
            np.testing.assert_allclose(color, draws.color, rtol=1e-12, atol=1e-10, err_msg=str(texts))
        if boxes is not None:
            assert draws.boxes is not None
            assert boxes == draws.boxes.tolist(), texts
        assert [line[0] for line in said] == [name for name in draws.parameters if _done(draws.describe()[0], name)], texts
        wanted = rounded(levels(torch.from_numpy(image.copy())[None], draws, mean, std))[0].numpy().astype(int)
        off = np.abs(np.array(data).reshape(wanted.shape) - wanted)
        assert off.max() <= 1, (texts, draw, off.max())
        assert (off > 0).mean() < 0.01, (texts, draw)
        changed += int((wanted != image).any())
    assert changed > 0.8 * len(jobs)


def _done(description: dict[str, Any], stream: str) -> bool:
    values = [value for key, value in description.items() if key.rpartition(".")[0] == stream]
    return not any(value is False or value is None for value in values) and not (stream == "flip#2" and not values)


def test_every_transform_is_on_the_page_or_named_with_its_reason() -> None:
    shown, missing, _ = augmentations()
    assert {*shown, *missing} == {cls.name for cls in registered(Augmentation)}
    assert {*missing} == {
        "autoaugment", "one_of", "randaugment", "some_of", "trivialaugment", "blur", "jpeg", "sharpen", "center_crop",
        "letterbox", "normalize", "resize", "squash", "cutmix", "mixup",
    }  # fmt: skip
    text = lesson_page.page()
    for name in missing:
        assert re.search(rf"\b{name}\b", text[text.index("Not on this page") :])
    assert all("translator" not in reason for reason in missing.values())


def test_ranges_have_the_limits_that_the_technique_checks() -> None:
    body = "answer(Object.fromEntries(Object.entries(AUGMENTATIONS).map(([name, { facts }]) => [name, facts.knobs])))"
    facts = node(body)
    assert (facts["random_resized_crop"]["scale_range"]["low"], facts["random_resized_crop"]["scale_range"]["high"]) == (1e-3, 1)
    assert facts["grid_mask"]["period_range"]["low"] == 1 / 16
    for name, controls in facts.items():
        for knob, control in controls.items():
            if isinstance(control["default"], list) and control["default"] and knob.endswith("_range"):
                assert control["range"], f"{name}.{knob} has no limits"


def test_what_a_technique_refuses_the_page_refuses() -> None:
    texts = ["gamma(gamma_range=[2.0, 1.0])", "rotate(degrees=-1)", "flip(axis='diagonal')", "tilt", "rotate(speed=1)", "mixup"]
    body = "answer(GIVEN.map((text) => { try { transform(parsed(text)); return ''; } catch (error) { return error.message; } }))"
    said = node(body, texts)
    assert all(said), said
    assert "gamma_range must be two numbers with 0.05" in said[0]


# ------------------------------------------------------------------------------------------------------ dropout and kin


def torch_network(n: int, p: float, mode: str, seed: int) -> torch.nn.Sequential:
    """Return the page's network in torch, with the product's dropout; its weights are zero."""
    drop = [Dropout(p, stream=f"dropout.{k}", seed=seed, mode=mode) for k in (1, 2)]  # pyright: ignore[reportArgumentType]
    layers = [
        torch.nn.Linear(1, n),
        torch.nn.ReLU(),
        drop[0],
        torch.nn.Linear(n, n),
        torch.nn.ReLU(),
        drop[1],
        torch.nn.Linear(n, 1),
    ]
    return torch.nn.Sequential(*layers).double()


def load(network: torch.nn.Sequential, weights: list[float]) -> None:
    """Put the page's list of weights into a network."""
    torch.nn.utils.vector_to_parameters(torch.tensor(weights, dtype=torch.float64), network.parameters())


def flat(network: torch.nn.Sequential) -> np.ndarray:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


NETWORK = """
const { n, p, mode, seed, steps } = GIVEN, points = noisyPoints(6, seed), before = new Network(n, seed);
const net = trained(n, points, { p, mode, steps, lr: 0.02, seed }), xs = [-0.7, 0.1, 0.9];
const pass = (pair) => (x, id) => net.forward(x, ...pair(id)).y;
answer({ points, before: before.weights, after: net.weights, every: everySubNetwork(net, xs, p, mode),
  once: xs.map(pass(() => whole(n, p, mode))), drawn: xs.map(pass((id) => masks(seed, { id, epoch: 2, draw: 4 }, n, p, mode))) });
"""


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_the_small_network_trains_as_in_torch_with_our_dropout(mode: str) -> None:
    n, p, seed, steps = 3, 0.3, 5, 40
    found = node(NETWORK, {"n": n, "p": p, "mode": mode, "seed": seed, "steps": steps})
    network = torch_network(n, p, mode, seed).train()
    load(network, found["before"])
    points = torch.tensor(found["points"], dtype=torch.float64)
    optimizer = Optimizer(network.parameters(), Adam(lr=0.02))
    for step in range(1, steps + 1):
        with rng.context(step, step, np.arange(len(points))):
            loss = (network(points[:, :1]) - points[:, 1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(found["after"], flat(network), rtol=1e-7, atol=1e-9)
    assert np.abs(np.subtract(found["after"], found["before"])).max() > 0.1
    xs = torch.tensor([[-0.7], [0.1], [0.9]], dtype=torch.float64)
    with torch.no_grad(), rng.context(2, 0, np.arange(3), draw=4):
        np.testing.assert_allclose(found["drawn"], network(xs)[:, 0], rtol=1e-6)
        np.testing.assert_allclose(found["once"], network.eval()(xs)[:, 0], rtol=1e-6)


def test_the_average_over_all_sub_networks_is_that_of_their_enumeration() -> None:
    found = node(NETWORK, {"n": 3, "p": 0.3, "mode": "inverted", "seed": 5, "steps": 10})
    weights = np.array(found["after"])
    a, b, c, d, e, f = np.split(weights, [3, 6, 15, 18, 21])
    for x, every in zip((-0.7, 0.1, 0.9), found["every"], strict=True):
        answers, chances = [], []
        for mask in range(64):
            on = np.array([(mask >> k) & 1 for k in range(6)])
            h = on[:3] / 0.7 * np.maximum(a * x + b, 0)
            answers.append(float(e @ (on[3:] / 0.7 * np.maximum(c.reshape(3, 3) @ h + d, 0)) + f[0]))
            chances.append(0.7 ** on.sum() * 0.3 ** (6 - on.sum()))
        mean = np.dot(answers, chances)
        assert every["mean"] == pytest.approx(mean, rel=1e-12)
        assert every["sd"] == pytest.approx(math.sqrt(np.dot((np.array(answers) - mean) ** 2, chances)), rel=1e-9)


def test_one_neuron_has_the_moments_of_its_masks_and_dropconnects() -> None:
    terms, p = [0.3, -1.2, 0.8, 2.0, -0.1], 0.4
    body = "answer([subNeurons(GIVEN[0], GIVEN[1], 'inverted'), moments(...GIVEN), normalTerms(3, 8)])"
    every, found, drawn = node(body, [terms, p])
    chances, sums = [one["chance"] for one in every], [one["u"] for one in every]
    assert len(every) == 32
    assert sum(chances) == pytest.approx(1)
    assert np.dot(chances, sums) == pytest.approx(found["mean"])
    assert np.dot(chances, np.square(sums)) - found["mean"] ** 2 == pytest.approx(found["variance"])
    layer = DropConnectLinear(5, 1, p, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        mean, variance = layer.moments(torch.tensor([terms], dtype=torch.float64))
    assert (found["mean"], found["variance"]) == (pytest.approx(mean.item()), pytest.approx(variance.item()))
    assert len({*drawn}) == 8


def test_formulas_of_the_drop_layers_are_translated() -> None:
    from descend.regularize.dropconnect import expected_relu

    means, variances = [-3.0, -0.2, 0.0, 1.5], [0.5, 2.0, 1e-3, 4.0]
    depths, expected, relu, tails = node(
        "const depths = linearDecay(0.5, 7), relu = expectedRelu(nd(GIVEN[0]), nd(GIVEN[1]));"
        "answer([depths, expectedDepth(depths), relu, GIVEN[2].map(erfc)])",
        [means, variances, tail := [-4.0, -0.3, 0.0, 0.7, 2.4, 2.6, 5.0, 9.0]],
    )
    assert depths == linear_decay(0.5, 7)
    assert expected == pytest.approx(expected_depth(depths), rel=1e-15)
    np.testing.assert_allclose(relu, expected_relu(*torch.tensor([means, variances], dtype=torch.float64)), rtol=1e-11)
    np.testing.assert_allclose(tails, erfc(tail), rtol=1e-11)


# --------------------------------------------------------------------------------------------------------------- decay


def test_every_schedule_of_progress_alone_is_the_same_curve() -> None:
    plain = [cls for cls in registered(Schedule) if issubclass(cls, Schedule) and cls.factor_at is Schedule.factor_at]
    texts = [*(spec(cls()) for cls in plain), "multi_step(milestones=[0.2, 0.21, 0.9])", "wsd(form='sqrt', floor=0.1)"]
    texts += ["wsd(form='cosine')", "one_cycle(anneal='linear')", "cosine_restarts(n_cycles=4, stretch=1.7, floor=0.05)"]
    body = """answer(GIVEN.map((text) => {
      const schedule = made(SCHEDULES, checked(SCHEDULES, parsed(text)));
      return Array.from({ length: 201 }, (_, k) => schedule.at(k / 200));
    }))"""
    assert len(texts) >= 17
    for text, curve in zip(texts, node(body, texts), strict=True):
        schedule = build(text, Schedule)
        np.testing.assert_allclose(curve, [schedule.factor(k / 200) for k in range(201)], rtol=1e-12, atol=1e-15, err_msg=text)


# ---------------------------------------------------------------------------------------------------------------- state


def test_the_state_survives_the_hash() -> None:
    hashes = [
        "",
        "#augment=rotate(degrees=30);flip&neuron_p=0.3&neuron_activation=relu&schedules=cosine&seed=9",
        "#augment=&draws=3",
    ]
    body = """answer(GIVEN.map((hash) => {
      const state = fromHash(hash), written = toHash(state);
      return [state, fromHash(written), written, command(state)];
    }))"""
    for hash_, (first, again, written, command) in zip(hashes, node(body, hashes), strict=True):
        assert first == again
        assert command.startswith("descend fit photos/")
        assert (written == " ") == (hash_ == "")
    assert '--augment "rotate(degrees=30)" flip --regularize "dropout(p=0.2)" --schedule cosine' in node(body, hashes)[1][3]


def test_a_hash_that_means_nothing_is_an_error() -> None:
    hashes = ["augment=cliff", "augment=rotate(degrees=999)", "schedules=watch", "neuron_p=2", "neuron_p=", "draws=0",
              "draws=1.5", "network_mode=odd", "seed=x", "augment=gamma(gamma_range=[9,1])",
              "schedules=wsd(warmup=0.6,decay=0.6)"]  # fmt: skip
    body = "answer(GIVEN.map((hash) => { try { fromHash(hash); return ''; } catch (error) { return error.message; } }))"
    assert [hash_ for hash_, said in zip(hashes, node(body, hashes), strict=True) if not said] == []


# ------------------------------------------------------------------------------------------------------- page and command


def test_the_page_asks_nothing_of_any_network_and_its_script_is_javascript(tmp_path: Path) -> None:
    text = lesson_page.page()
    assert not re.search(r"(src|href)=.?(https?:)?//|@import|url\(|fetch\(|XMLHttp|WebSocket|sendBeacon", text)
    assert "default-src 'none'" in text
    script = tmp_path / "page.js"
    script.write_text(lesson_page.script(), encoding="utf-8")
    if NODE is not None:
        assert subprocess.run([NODE, "--check", str(script)], capture_output=True, timeout=60).returncode == 0


def test_the_command_writes_the_page_for_nothing_a_picture_and_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(6):
            pixels = np.random.default_rng(k + 10 * len(label) + (label == "dog")).integers(0, 255, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{k}.png")
    page = tmp_path / "page.html"
    first = tmp_path / "photos" / "cat" / "0.png"
    for given, names in (([], ["a temple", "a flower"]), ([str(first)], ["0.png"]), ([str(tmp_path / "photos")], None)):
        assert main(["augment", *given, "--augment", "rotate(degrees=30)", "flip", "--page", str(page)]) == 0
        assert "needs no network" in capsys.readouterr().out
        facts = json.loads(re.findall(r"^const FACTS = (.*);$", page.read_text(encoding="utf-8"), re.M)[0])
        assert facts["state"]["augment"] == ["rotate(degrees=30.0)", "flip()"]
        shown = [picture["name"] for picture in facts["pictures"]]
        assert shown == names if names else len(shown) == 4
    assert "sample images" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--page", "page.svg"], "must end in .html"),
        (["--page", "nowhere/page.html"], "folder that exists"),
        (["--augment", "mixup", "--page", "p.html"], "it mixes several pictures"),
        (["--page", "p.html", "--draws", "3"], "no effect on --page"),
        (["--page", "p.html", "--out", "g.html"], "no effect on --page"),
        ([], "needs DATA"),
    ],
)
def test_a_page_that_cannot_be_is_refused(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["augment", *words]) != 0
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


class Odd:
    """Methods of which each holds one construct that the translator of arrays does not know."""

    def loop(self, x):
        while x < 3:
            x = x + 1
        return x

    def formatted(self, x):
        return f"{x:.3f}"

    def filtered(self, x):
        return [each for each in x if each]

    def foreign(self, x):
        return json.dumps(x)

    def given(self, x):
        return _keyword(x, lost=1)


def _keyword(x: Any, **more: Any) -> Any:
    return x, more


@pytest.mark.parametrize(
    ("method", "construct"),
    [("loop", "While"), ("formatted", "FormattedValue"), ("filtered", "each"), ("foreign", "json.dumps"), ("given", "_keyword")],
)
def test_what_the_translator_of_arrays_does_not_know_is_named(method: str, construct: str) -> None:
    with pytest.raises(Untranslatable, match=construct):
        array_method(Odd, method, ArrayLibrary())


def test_a_function_that_failed_once_fails_again() -> None:
    from descend.augment import RandAugment, TrivialAugment

    library = ArrayLibrary()
    for cls in (RandAugment, TrivialAugment):  # both call the same function, which has no translation
        with pytest.raises(Untranslatable, match="strength"):
            array_method(cls, "draw", library)


def test_a_transform_without_a_translation_is_refused_by_the_function_too(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="neighboring pixels"):
        lesson_page.write_page(tmp_path / "page.html", transforms=[build("blur", Augmentation)])
