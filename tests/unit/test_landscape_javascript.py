"""Formulas in JavaScript: every rule, surface and schedule as translated, run in Node, against the Python that it came from."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.cli.surface import _parser, main
from descend.errors import DescendError, KnobError
from descend.landscape import Course, Ravine, Saddle, Surface, playground
from descend.landscape.javascript import Library, Untranslatable, translated
from descend.landscape.racing import race, tune
from descend.optim import Rule
from descend.optim.ops import add_scaled
from descend.schedule import Schedule
from descend.stats import proportion
from descend.technique import build, registered, spec

NODE = shutil.which("node")
RULES = [cls for cls in registered(Rule) if cls.name not in playground.left_out()]
SETTINGS = [  # besides the defaults: what switches another part of a formula on
    "momentum(form='lr_inside', weight_decay=0.1)",
    "nesterov(form='lookahead', weight_decay=0.1)",
    "adagrad(start=0.1, lr_decay=0.1)",
    "rmsprop(centered=True, momentum=0.9)",
    "rmsprop(eps_place='inside')",
    "adam(debias=False, weight_decay=0.2)",
    "signsgd(momentum=0.0)",
    "schedule_free_adamw(form='package')",
    "sam(adaptive=True, inner=sgd)",
    "lookahead(inner=momentum(lr=0.05), k=3)",
    "swa(inner=sgd, begin=3, every=2)",
    "ema(inner=lookahead(inner=schedule_free_sgd))",
    "sam(inner=lars)",
    "adamw(weight_decay=0.5)",
]
FILES = ("numbers.js", "spec.js", "walk.js", "race.js", "state.js")


def node(body: str, given: Any = None) -> Any:
    """Run ``body``, which sees the page's scripts and GIVEN, in Node; return what ``answer`` was called with."""
    if NODE is None:
        pytest.skip("node is not installed")
    facts = {"state": {}, "rates": list(playground.RATES), "most_steps": 2000, "most_seeds": 200, "n_colors": 7}
    parts = [playground.translation(), f"const FACTS = {json.dumps(facts)};"]
    parts += [playground.asset(name) for name in FILES]
    plain = "(k, v) => ArrayBuffer.isView(v) ? [...v] : typeof v === 'number' && !Number.isFinite(v) ? String(v) : v"
    parts += [f"const GIVEN = {json.dumps(given)}; const answer = (x) => console.log(JSON.stringify(x, {plain}));", body]
    done = subprocess.run([NODE, "-"], input="\n".join(parts), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


WALK = """
answer(GIVEN.map(([surface, rule, schedule, steps, start, noise]) => walk({
  surface: built(SURFACES, parsed(surface)), schedule: schedule && built(SCHEDULES, parsed(schedule)), steps, start,
  noise: noise && ((seed, t) => noise[t - 1]),
}, parsed(rule), 0)));
"""


def agree(jobs: list[tuple[str, str, str | None, float]], n_steps: int, run: Callable[[str, Any], Any] = node) -> None:
    """Hold the walks of the page to those of Python. jobs: surface, rule, schedule, noise; run: what runs its scripts."""
    from descend.landscape.course import _noises

    pushes = _noises((0,), n_steps, 2)[:, 0]
    courses = [
        Course(
            surface=build(surface, Surface),
            n_steps=n_steps,
            noise=noise,
            schedule=None if decay is None else build(decay, Schedule),
        )
        for surface, _, decay, noise in jobs
    ]
    given = [
        [surface, rule, decay, n_steps, list(course.surface.start()), (pushes * noise).tolist() if noise else None]
        for (surface, rule, decay, noise), course in zip(jobs, courses, strict=True)
    ]
    for job, course, walk in zip(jobs, courses, run(WALK, given), strict=True):
        trace = course.walk(job[1])
        points = np.array(walk["points"], float).reshape(-1, 2)
        np.testing.assert_allclose(points, trace.points[:, 0], rtol=1e-12, atol=1e-300, err_msg=str(job))
        np.testing.assert_allclose(np.array(walk["losses"], float), trace.losses[:, 0], rtol=1e-11, atol=1e-28, err_msg=str(job))


def rule_jobs() -> list[tuple[str, str, str | None, float]]:
    """Return a walk of every rule, with its defaults and with other settings, without noise and with it."""
    texts = [*(spec(cls()) for cls in RULES), *SETTINGS]
    return [(surface, text, None, noise) for text in texts for surface, noise in (("bowl", 0.0), ("saddle", 0.3))]


def test_every_rule_walks_in_the_page_as_in_python() -> None:
    agree(rule_jobs(), 25)


def test_every_surface_is_the_same_in_the_page() -> None:
    surfaces = [*(spec(cls()) for cls in registered(Surface)), "ravine(condition=7, angle=30)", "plateau(width=2.5)"]
    surfaces += ["local_minimum(ridge=-0.2)", "saddle(sharpness=2.0)", "rastrigin(ruggedness=1.5)"]
    agree([(surface, "sgd(lr=0.001)", None, 0.1) for surface in surfaces], 25)
    facts = node(
        "answer(GIVEN.map((text) => { const s = built(SURFACES, parsed(text));"
        " return [s.start(), s.minimum(), s.target(), s.window(), s.facts.trap, s.escaped ? s.escaped(s.minimum()) : true]; }))",
        surfaces,
    )
    for text, (start, minimum, target, window, trap, escaped) in zip(surfaces, facts, strict=True):
        surface = build(text, Surface)
        assert (target, window, trap, escaped) == (surface.target(), list(surface.window()), surface.trap(), True)
        np.testing.assert_allclose([start, minimum], [surface.start(), surface.minimum()], rtol=1e-15)


def test_schedules_scale_the_rate_in_the_page_too() -> None:
    names = ["cosine", "step", "multi_step", "exponential", "inverse_time", "linear", "polynomial", "wsd", "warmup"]
    names += ["cosine_restarts(stretch=2.0)", "one_cycle", "inverse_sqrt", "wsd(form='sqrt')"]
    agree([("bowl", rule, name, 0.0) for name in names for rule in ("sgd", "lookahead(inner=nesterov(form='lookahead'))")], 20)


def test_tuning_and_counting_are_those_of_the_race() -> None:
    course = Course(surface=Saddle(), n_steps=60)
    texts = ["sgd", "momentum", "adam", "lookahead(inner=sgd)"]
    body = """
    const given = { surface: parsed("saddle"), steps: 60, noise: 0, spread: 0, start: null, target: null, schedule: null };
    const course = courseOf(given);
    answer(GIVEN.map((text) => {
      const rule = tuned(course, parsed(text));
      return [rateOf(rule), outcome(course, walk(course, rule, 0))];
    }));
    """
    for text, (lr, counted) in zip(texts, node(body, texts), strict=True):
        expected = race(course, [text], n_seeds=1)[0]
        assert (lr, float(counted["steps"])) == (expected.rule.lr, expected.steps[0])
        assert (counted["escaped"], counted["diverged"]) == (bool(expected.n_escaped), bool(expected.n_diverged))
        assert counted["final"] == pytest.approx(expected.final[0], rel=1e-9, abs=1e-25)
    assert tune(course, build("sgd", Rule)).lr == 1.0


def test_shares_have_wilsons_interval() -> None:
    for k, n, found in node("answer([[0, 10], [3, 40], [100, 100]].map(([k, n]) => [k, n, share(k, n)]))"):
        expected = proportion(k, n)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_noise_of_the_page_is_standard_normal_and_independent() -> None:
    from scipy.stats import kstest

    drawn = np.array(node("answer(Array.from({length: 40 * 100}, (_, i) => normals(i % 40, Math.floor(i / 40), 0)))"))
    for column in (drawn[:, 0], drawn[:, 1]):
        assert kstest(column, "norm").pvalue > 1e-3
    by_seed = drawn[:, 0].reshape(100, 40)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06
    assert abs(np.corrcoef(by_seed[1:].ravel(), by_seed[:-1].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(by_seed[:, 1:].ravel(), by_seed[:, :-1].ravel())[0, 1]) < 0.06


def test_spec_text_survives_the_page() -> None:
    texts = [
        "momentum(lr=0.1, form='lr_inside')",
        "lookahead(inner=sgd(lr=1e-06), k=3)",
        "multi_step(milestones=[0.2, 0.5])",
        "adamw()",
    ]
    for text, again in zip(texts, node("answer(GIVEN.map((text) => specText(parsed(text))))", texts), strict=True):
        family = Schedule if text.startswith("multi") else Rule
        assert str(build(again, family)) == str(build(text, family))


def test_the_state_survives_the_hash() -> None:
    given = {
        "surface": "saddle(sharpness=0.5)",
        "rules": ["sgd(lr=1.0)", "sam(inner=sgd(lr=0.1), rho=0.2)"],
        "schedule": "cosine",
        "steps": 77,
        "noise": 0.01,
        "spread": 0,
        "seeds": 50,
        "start": [-1.5, 1e-6],
        "target": None,
    }
    first, again, command = node(
        "const s = read(GIVEN); Object.assign(FACTS.state, GIVEN, {steps: 5});answer([s, fromHash(toHash(s)), command(s)])", given
    )
    assert again == first | {"rules": again["rules"]}
    assert [rule["name"] for rule in again["rules"]] == ["sgd", "sam"]
    assert command == (
        'descend surface "saddle(sharpness=0.5)" --optimizers "sgd(lr=1)" "sam(inner=sgd(lr=0.1), rho=0.2)" --steps 77'
        " --noise 0.01 --seeds 50 --start -1.5 1e-06 --schedule cosine"
    )


STATE = {
    "surface": "saddle",
    "rules": ["sgd"],
    "schedule": None,
    "steps": 9,
    "noise": 0,
    "spread": 0,
    "seeds": 9,
    "start": None,
    "target": None,
}


def test_a_hash_that_means_nothing_is_an_error() -> None:
    hashes = [
        "surface=cliff",
        "surface=constructor",
        "rules=sgd(lr=-1)",
        "rules=sgd(speed=1)",
        "steps=1e9",
        "steps=1.5",
        "noise=x",
        "start=1",
        "rules=muon",
        "schedule=watch",
        "target=-1",
        "rules=momentum(form='x')",
    ]
    body = """
    FACTS.state = GIVEN[0];
    answer(GIVEN[1].map((hash) => { try { fromHash(hash); return ""; } catch (error) { return error.message; } }));
    """
    assert [hash for hash, said in zip(hashes, node(body, [STATE, hashes]), strict=True) if not said] == []


def test_what_the_page_offers_to_try_can_be_read() -> None:
    page = playground.asset("playground.html")
    hashes = re.findall(r'href="(#[^"]+)"', page)
    body = "FACTS.state = GIVEN[0]; answer(GIVEN[1].map((hash) => command(fromHash(hash))));"
    for said in node(body, [STATE, hashes]):
        words = shlex.split(said)
        rules = words[words.index("--optimizers") + 1 :]
        assert [build(text, Rule) for text in itertools.takewhile(lambda word: not word.startswith("--"), rules)]
        assert build(words[2], Surface)
    assert len(hashes) >= 8


class Odd:
    """Methods of which each holds one construct that the translator does not know."""

    @staticmethod
    def loop(p, g):
        while p < g:
            p = p + g
        return p

    @staticmethod
    def shape(p, g):
        return p.reshape(-1) + g

    @staticmethod
    def product(p, g):
        return p @ g

    @staticmethod
    def foreign(p, g):
        return json.dumps(p) + g

    @staticmethod
    def chained(p, g):
        return add_scaled(p, g, 1.0) if 0 < p < 1 else g

    @staticmethod
    def named(p, g):
        return add_scaled(p, b=g, k=1.0)

    @staticmethod
    def outside(p, g):
        return p + NODE + g

    @staticmethod
    def default(p, g=1.0):
        return p + g


@pytest.mark.parametrize(
    ("method", "construct"),
    [
        ("loop", "While: while p < g"),
        ("shape", r"Call: p\.reshape"),
        ("product", "BinOp: p @ g"),
        ("foreign", r"Call: json\.dumps"),
        ("chained", "Compare: 0 < p < 1"),
        ("named", "Call: add_scaled"),
        ("default", "arguments: p, g=1.0"),
        ("missing", "NoneType"),
    ],
)
def test_what_is_not_known_is_named(method: str, construct: str) -> None:
    with pytest.raises(Untranslatable, match=rf"(Odd\.)?{method}.*{construct}"):
        translated(Odd, [method], "scalar", Library())


def test_rules_that_look_at_matrices_are_left_out_and_named() -> None:
    assert sorted(playground.left_out()) == ["adafactor", "muon"]
    assert "p.shape" in playground.left_out()["muon"]


@pytest.mark.parametrize(
    ("course", "rules", "said"),
    [
        (Course(surface=Ravine(n_dims=3)), ["sgd"], "2 dimensions"),
        (Course(surface=Saddle(), n_steps=5000), ["sgd"], "2000 or fewer"),
        (Course(surface=Saddle()), ["sgd"] * 8, "7 optimizers"),
        (Course(surface=Saddle()), ["ema(inner=muon)"], "translation to JavaScript, got 'muon'"),
        (Course(surface=Saddle(), schedule=build("then(warmup(), cosine())", Schedule)), ["sgd"], "progress alone"),
    ],
)
def test_what_a_page_cannot_show_is_refused(course: Course, rules: list[str], said: str) -> None:
    with pytest.raises(KnobError, match=said):
        playground.check(course, [build(rule, Rule) for rule in rules])
    assert math.isfinite(course.goal)


def test_the_command_writes_a_page_of_its_race(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert (
        main(
            [
                "--optimizers",
                "sgd",
                "lookahead(inner=sgd(lr=0.1))",
                "--noise",
                "0.1",
                "--seeds",
                "3",
                "--steps",
                "9",
                "--start",
                "1",
                "2",
                "--schedule",
                "cosine",
                "--json",
                "--page",
                str(page),
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    facts = json.loads(out)
    text = page.read_text(encoding="utf-8")
    state = json.loads(re.findall(r"^const FACTS = (.*);$", text, re.M)[0])["state"]
    assert state["rules"] == [
        f"sgd(lr={facts['optimizers'][0]['optimizer'].split('=')[1][:-1]})",
        "lookahead(inner=sgd())",
    ]  # 0.1 is its default
    assert (state["surface"], state["steps"], state["noise"], state["seeds"]) == ("saddle()", 9, 0.1, 3)
    assert (state["start"], state["schedule"]) == ([1.0, 2.0], "cosine()")
    assert not re.search(r"(src|href)=.?(https?:)?//|@import|url\(|fetch\(|XMLHttp", text)
    assert "adafactor, muon" in text
    assert str(page) in err


def test_the_scripts_of_the_page_are_javascript(tmp_path: Path) -> None:
    script = tmp_path / "page.js"
    script.write_text(playground.script({"state": {}}), encoding="utf-8")
    if NODE is None:
        pytest.skip("node is not installed")
    assert subprocess.run([NODE, "--check", str(script)], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--page", "page.svg"], "must end in .html"),
        (["--page", "nowhere/page.html"], "folder that exists"),
        (["ravine(n_dims=3)", "--page", "p.html"], "2 dimensions"),
        (["--noise", "1", "--seeds", "500", "--page", "p.html"], "200 or fewer"),
        (["--noise", "1000", "--page", "p.html"], "100 or less"),
        (["--optimizers", "muon", "--page", "p.html"], "Muon.direction"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_the_work(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DescendError, match=said):
        main(words)
    assert "walking" not in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_saddle_is_the_surface_where_none_is_named() -> None:
    assert _parser().parse_args(["--page", "page.html"]).surface == "saddle"
