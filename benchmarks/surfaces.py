"""The numbers of docs/surfaces: what each optimizer does on the test surfaces, counted over seeds.

    python benchmarks/surfaces.py            all of it, about two minutes; writes benchmarks/results/surfaces.json
    python docs/surfaces/build.py            then fills the tables of the pages and draws their pictures

Each function is one page; each of its lists is one table, whose keys are its headings. Intervals are 95 %: Wilson's for shares,
Student's for means, and for medians of steps the one that Wilson's implies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from descend import rng, stats
from descend.landscape import (
    Beale,
    Bowl,
    Course,
    LocalMinimum,
    Plateau,
    Rastrigin,
    Ravine,
    Rosenbrock,
    Saddle,
    Surface,
    Trace,
    critical_points,
    tune,
)  # fmt: skip
from descend.landscape.racing import TUNING_SEEDS
from descend.optim import Adam, Rule
from descend.optim.chain import chain_of
from descend.schedule import Schedule
from descend.stats import mean, proportion
from descend.technique import build, spec
from harness import interval, save

N = 200
SEEDS = range(N)
Table = list[dict[str, Any]]


def share(hits: Any) -> dict[str, Any]:
    hits = np.asarray(hits, bool)
    found = proportion(int(hits.sum()), hits.size)
    return {"share": found.mean, "low": found.low, "high": found.high, "k": int(hits.sum()), "n": hits.size}


def median(steps: Any) -> dict[str, Any]:
    steps = np.asarray(steps).tolist()
    found = stats.median(steps) if len(steps) > 1 else None  # one walk where nothing is random is a fact
    numbers = (found.mean, found.low, found.high) if found else steps * 3
    return dict(zip(("median", "low", "high"), (n if math.isfinite(n) else None for n in numbers), strict=True))


def tuned(course: Course, text: str) -> Rule:
    return tune(course, build(text, Rule))


def named(rule: Rule) -> str:
    return f"{rule.name}, lr {rule.lr:g}"


def first_escape(trace: Trace) -> np.ndarray:
    out = trace.surface.escaped(trace.points)
    return np.where(out.any(0), out.argmax(0), np.inf)


def turns(points: np.ndarray) -> np.ndarray:
    """Return the number of sign changes of the last coordinate of every walk, rounding apart: (N,)."""
    signs = np.sign(np.where(np.abs(points[..., -1]) > 1e-9, points[..., -1], 0))
    return (signs[1:] * signs[:-1] < 0).sum(0)


# ---------------------------------------------------------------------------------------------------------- the pages


def zigzag() -> dict[str, Table]:
    paths: Table = []
    for text in ("sgd(lr=0.19)", "sgd(lr=0.1)", "momentum(lr=0.02)"):
        trace = Course(surface=Ravine(), n_steps=1000).walk(text)
        steps = trace.steps_to(1e-3)[0]
        paths.append({"optimizer": text, "steps to 0.001": steps, "crossings of the floor": int(turns(trace.points[:61])[0])})
    conditions: Table = []
    for condition in (10.0, 100.0, 1000.0):
        surface = Ravine(condition=condition)
        course = Course(surface=surface, n_steps=4000, target=1e-6 * float(surface.loss(surface.start())))
        row: dict[str, Any] = {"condition number": condition}
        for text in ("sgd", "momentum", "nesterov"):
            rule = tuned(course, text)
            row[f"{text}: steps to a millionth"] = course.walk(rule).steps_to(course.goal)[0]
            row[f"{text}: rate"] = rule.lr
        row["momentum saves, times"] = row["sgd: steps to a millionth"] / row["momentum: steps to a millionth"]
        conditions.append(row)
    turned: Table = []
    for text in ("sgd", "momentum", "adagrad", "rmsprop", "adam"):
        row = {"optimizer": text}
        for angle in (0.0, 30.0):
            course = Course(surface=Ravine(angle=angle), n_steps=400, spread=0.1)
            row[f"steps to 0.001, turned by {angle:g}°"] = median(course.walk(tuned(course, text), SEEDS).steps_to(course.goal))
        turned.append(row)
    return {"paths": paths, "conditions": conditions, "turned": turned}


LEAVERS = (
    "sgd(lr=0.1)", "momentum(lr=0.1)", "momentum(lr=0.01)", "nesterov(lr=0.1)", "adagrad(lr=0.01)", "rmsprop(lr=0.01)",
    "adam(lr=0.01)", "lion(lr=0.01)",
)  # fmt: skip


def saddles() -> dict[str, Table]:
    leaving: Table = []
    for text in LEAVERS:
        row: dict[str, Any] = {"optimizer": text}
        for sharpness in (0.05, 0.5, 2.0):
            trace = Course(surface=Saddle(sharpness=sharpness), n_steps=3000).walk(text)
            row[f"steps to leave, sharpness {sharpness:g}"] = first_escape(trace)[0]
        on_the_line = Course(surface=Saddle(), n_steps=3000, start=(-1.5, 0.0)).walk(text)
        row["leaves from the ridge line itself"] = "yes" if on_the_line.escaped()[0] else "never"
        leaving.append(row)
    noisy: Table = []
    for noise in (1e-6, 1e-4, 1e-2, 1e-1):
        row = {"gradient noise": noise}
        for sharpness in (0.05, 0.5, 2.0):
            course = Course(surface=Saddle(sharpness=sharpness), n_steps=200, start=(-1.5, 0.0), noise=noise)
            row[f"left within 200 steps, sharpness {sharpness:g}"] = share(course.walk("sgd(lr=0.1)", SEEDS).escaped())
        noisy.append(row)
    dimensions: Table = []
    for n_dims in (1, 2, 3, 4, 5, 6, 8):
        batches = [critical_points(n_dims, 60_000, seed=seed) for seed in range(10)]
        row = {"dimensions": n_dims, "saddles among critical points": interval(mean([batch.saddles for batch in batches]))}
        row["minima among critical points"] = interval(mean([batch.share(0) for batch in batches]))
        row["saddles if signs were coins"] = 1 - 2 ** (1 - n_dims)
        dimensions.append(row)
    return {"leaving": leaving, "noisy": noisy, "dimensions": dimensions}


def noise() -> dict[str, Table]:
    floor: Table = []
    for level in (0.1, 0.3, 1.0):
        for lr in (0.02, 0.1):
            surface = Ravine(condition=4.0)
            losses = Course(surface=surface, n_steps=2000, noise=level).walk(f"sgd(lr={lr})", SEEDS).losses[1000:].mean(0)
            theory = sum(lr * level**2 / (2 * (2 - lr * h)) for h in surface.curvatures())
            floor.append(
                {
                    "gradient noise": level,
                    "rate": lr,
                    "mean loss it settles at": interval(mean(losses.tolist())),
                    "theory": theory,
                }
            )
    decay: Table = []
    for condition in (4.0, 100.0):
        surface = Ravine(condition=condition)
        for text in ("sgd(lr=0.1)", "momentum(lr=0.01)", "adam(lr=0.1)"):
            row: dict[str, Any] = {"surface": spec(surface, defaults=True), "optimizer": text}
            for schedule in ("constant", "cosine", "inverse_time"):
                course = Course(surface=surface, n_steps=300, noise=0.3, schedule=build(schedule, Schedule))
                row[f"final loss, {schedule}"] = interval(mean(course.walk(text, SEEDS).losses[-1].tolist()))
            decay.append(row)
    race: Table = []
    for level in (0.0, 0.1, 0.3):
        row = {"gradient noise": level}
        for text in ("sgd", "momentum", "adam"):
            course = Course(surface=Ravine(), n_steps=300, noise=level, spread=0.1, target=0.01)
            rule = tuned(course, text)
            row[f"{text}: steps to 0.01"] = median(course.walk(rule, SEEDS).steps_to(course.goal))
            row[f"{text}: rate"] = rule.lr
        race.append(row)
    return {"floor": floor, "decay": decay, "race": race}


def traps() -> dict[str, Table]:
    local: Table = []
    for momentum in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99):
        row: dict[str, Any] = {"momentum": momentum}
        for ridge in (-0.7, -0.5, -0.3):
            course = Course(surface=LocalMinimum(ridge=ridge), n_steps=1000, spread=0.1)
            row[f"left, ridge at {ridge:g}"] = share(course.walk(f"momentum(lr=0.01, momentum={momentum})", SEEDS).escaped())
        local.append(row)
    sgd: Table = []
    for lr in (0.01, 0.05, 0.1, 0.15, 0.2):
        row = {"rate of sgd": lr}
        for ridge in (-0.7, -0.5, -0.3):
            row[f"left, ridge at {ridge:g}"] = share(
                Course(surface=LocalMinimum(ridge=ridge), n_steps=1000, spread=0.1).walk(f"sgd(lr={lr})", SEEDS).escaped()
            )
        sgd.append(row)
    friction: Table = []
    for rho in (0.0, 0.5, 0.8, 0.9, 0.95):
        text = f"momentum(lr=0.05, momentum={rho})"
        path = Course(surface=Plateau(width=1000.0), n_steps=1000).walk(text).points[:, 0, 0]
        foot = int(np.argmax(path > -1e-9)) if (path > -1e-9).any() else len(path) - 1
        pace = path[foot] - path[foot - 1]
        soon, late = (Course(surface=Plateau(), n_steps=n, spread=0.1).walk(text, SEEDS).escaped() for n in (100, 1000))
        friction.append({
            "momentum": rho, "speed at the foot, per step": pace, "coasted": path[-1] - path[foot],
            "speed · ρ / (1 - ρ)": pace * rho / (1 - rho), "in the well, 6 away, after 100 steps": share(soon),
            "after 1,000 steps": share(late),
        })  # fmt: skip
    return {"local": local, "sgd": sgd, "friction": friction, "dents": dents()}


def overshoot(trace: Trace) -> np.ndarray:
    """Return how far beyond the minimum, seen from its start, each walk ever was: (N,), in units of the distance to it."""
    minimum = np.array(trace.surface.minimum())
    way = minimum - trace.points[0]
    length = np.linalg.norm(way, axis=-1)
    along = ((trace.points - minimum) * (way / length[:, None])).sum(-1)
    return np.maximum(along.max(0), 0) / length


def nesterov() -> dict[str, Table]:
    table: Table = []
    for momentum, lr in ((0.9, 0.02), (0.9, 0.05), (0.95, 0.02), (0.99, 0.02)):
        row: dict[str, Any] = {"momentum": momentum, "rate": lr}
        for name in ("momentum", "nesterov"):
            course = Course(surface=Ravine(), n_steps=2000, spread=0.1)
            trace = course.walk(f"{name}(lr={lr}, momentum={momentum})", SEEDS)
            row[f"{name}: steps to 0.001"] = median(trace.steps_to(1e-3))
            row[f"{name}: beyond the minimum"] = interval(mean(overshoot(trace).tolist()))
        table.append(row)
    tuning: Table = []
    surfaces: Sequence[tuple[Surface, int]] = ((Ravine(), 400), (Rosenbrock(), 2000), (Beale(), 400))
    for surface, n_steps in surfaces:
        row = {"surface": str(surface)}
        course = Course(surface=surface, n_steps=n_steps, spread=0.05)
        for name in ("momentum", "nesterov"):
            rule = tuned(course, name)
            row[f"{name}: rate"], row[f"{name}: steps to 0.001"] = rule.lr, median(course.walk(rule, SEEDS).steps_to(1e-3))
        tuning.append(row)
    return {"same": table, "tuned": tuning}


def adagrad() -> dict[str, Table]:
    bowl: Table = []
    for text in ("sgd", "adagrad", "rmsprop", "adam"):
        course = Course(surface=Bowl(), n_steps=200, spread=0.1)
        rule = tuned(course, text)
        bowl.append({"optimizer": named(rule), "steps to 0.001": median(course.walk(rule, SEEDS).steps_to(1e-3))})
    steps: Table = []
    surface = Plateau()
    walks = {
        text: Course(surface=surface, n_steps=1000).walk(text).points[:, 0, 0] for text in ("adagrad(lr=0.1)", "rmsprop(lr=0.1)")
    }
    for t in (1, 3, 10, 30, 100, 300, 1000):
        row: dict[str, Any] = {"step": t}
        for text, x in walks.items():
            name = text.split("(")[0]
            slope = surface.gradient([x[t - 1], 0.0])[0]
            row[f"{name}: x"], row[f"{name}: step per unit of gradient"] = x[t], abs((x[t] - x[t - 1]) / slope) if slope else None
        steps.append(row)
    stuck: Table = []
    for text in ("adagrad", "rmsprop", "adam", "momentum", "sgd"):
        row = {"optimizer": text}
        from_bowl = tuned(Course(surface=Bowl(), n_steps=200, spread=0.1), text)
        here = Course(surface=surface, n_steps=1000, spread=0.1)
        own = tuned(here, text)
        for words, rule in (("rate from the bowl", from_bowl), ("rate tuned here", own)):
            trace = here.walk(rule, SEEDS)
            row[words] = rule.lr
            row[f"in the well, {words}"] = share(trace.escaped())
            row[f"passed through it, {words}"] = share(np.isfinite(trace.steps_to(here.goal)))
        stuck.append(row)
    return {"bowl": bowl, "steps": steps, "stuck": stuck}


def winding(points: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return length of way over straight distance of every walk (T + 1, N, D) up to its step ``stop``: (N,)."""
    ratios = []
    for walker, last in enumerate(stop):
        path = points[: int(last) + 1, walker]
        ratios.append(np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / np.linalg.norm(path[-1] - path[0]))
    return np.array(ratios)


def rmsprop() -> dict[str, Table]:
    table: Table = []
    cases: Sequence[tuple[Surface, int]] = (
        (Ravine(), 400),
        (Ravine(angle=30.0), 400),
        (Rosenbrock(), 3000),
        (Beale(), 400),
        (Bowl(), 400),
    )
    for surface, n_steps in cases:
        course = Course(surface=surface, n_steps=n_steps, spread=0.05)
        for name in ("momentum", "rmsprop", "adam"):
            rule = tuned(course, name)
            trace = course.walk(rule, SEEDS)
            steps = trace.steps_to(1e-3)
            fit = np.isfinite(trace.losses).all(0)
            ends = np.minimum(steps, n_steps)[fit]
            table.append({
                "surface": str(surface), "optimizer": named(rule), "steps to 0.001": median(steps),
                "way over straight distance": interval(mean(winding(trace.points[:, fit], ends).tolist())),
                "beyond the minimum": interval(mean(overshoot_until(trace, fit, ends).tolist())),
            })  # fmt: skip
    return {"paths": table}


def overshoot_until(trace: Trace, fit: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return ``overshoot`` of the walks in ``fit``, all steps after ``ends`` left out."""
    points = trace.points[:, fit].copy()
    for walker, last in enumerate(ends):
        points[int(last) :, walker] = points[int(last), walker]
    return overshoot(Trace(trace.surface, trace.rule, (), points, trace.losses))


def adam() -> dict[str, Table]:
    first: Table = []
    for debias in (True, False):
        trace = Course(surface=Bowl(), n_steps=60).walk(f"adam(lr=0.01, debias={debias})")
        lengths = np.abs(np.diff(trace.points[:, 0, 0])) / 0.01
        row: dict[str, Any] = {"debias": debias} | {f"step {t}, in rates": lengths[t - 1] for t in (1, 2, 5, 10, 30)}
        row["longest of 60, in rates"] = lengths.max()
        first.append(row)
    unbiased: Table = []
    n = 100_000
    rule = Adam()
    chain, p = chain_of(rule), np.zeros(n)
    slots = chain.start(p)
    for t in range(1, 1001):
        g = 0.5 + ndtri(rng.uniform(0, "benchmark/adam", ids=np.arange(n), epoch=t))[:, 0]
        p, slots = chain.move(p, g, slots, chain.scalars(t))
        if t in (1, 2, 5, 10, 100, 1000):
            m, v = slots
            m_hat, v_hat = m / (1 - rule.beta1**t), v / (1 - rule.beta2**t)
            unbiased.append({
                "step": t, "mean of m": float(m.mean()), "mean of m_hat (true 0.5)": interval(mean(m_hat.tolist())),
                "mean of v": float(v.mean()), "mean of v_hat (true 1.25)": interval(mean(v_hat.tolist())),
            })  # fmt: skip
    return {"first": first, "unbiased": unbiased}


def dents() -> Table:
    table: Table = []
    for text in ("sgd", "momentum", "rmsprop", "adam"):
        row: dict[str, Any] = {"optimizer": text}
        for level in (0.0, 10.0):
            course = Course(surface=Rastrigin(), n_steps=500, spread=0.5, noise=level)
            rule = tuned(course, text)
            row[f"deepest dent found, noise {level:g}"] = share(np.isfinite(course.walk(rule, SEEDS).steps_to(course.goal)))
        table.append(row)
    return table


PAGES = (zigzag, saddles, noise, traps, nesterov, adagrad, rmsprop, adam)


def plain(value: Any) -> Any:
    """Return ``value`` as JSON holds it: no NumPy, None for what is never or not finite."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def main() -> None:
    result = {page.__name__: plain(page()) for page in PAGES}
    save("surfaces", "what each optimizer does on the test surfaces", result, n_seeds=N, tuning_walks=len(TUNING_SEEDS))


if __name__ == "__main__":
    main()
