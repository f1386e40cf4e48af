"""Geometry beyond the affine: perspective, elastic bending, quarter turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le, Lt

from descend.augment.array_types import Floats
from descend.augment.channel import normal
from descend.augment.factors import Draws
from descend.augment.matrices import turning
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique


@technique("quarter_turn", source="Cohen & Welling 2016, arXiv:1602.07576 (the group p4)")
class QuarterTurn(Augmentation):
    """Turn the picture by 0, 90, 180 or 270 degrees, each as likely; pixels are copied.

        (x', y') = middle + turn(90 k) ((x, y) - middle)        k uniform over 0, 1, 2, 3

    For pictures without an up: microscopy, satellites. A picture that is not square keeps its size, and what the turn leaves
    empty is mirrored.
    """

    stage = "geometry"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the turn, exact to the bit; noted in degrees counter-clockwise."""
        quarters = np.floor(4 * stream.uniform()[0]).astype(np.int64)
        cos, sin = np.array([1.0, 0.0, -1.0, 0.0])[quarters], np.array([0.0, 1.0, 0.0, -1.0])[quarters]
        return draws.warp(turning(cos, sin, draws.canvas)).note(stream.name, degrees=90 * quarters)


@technique("perspective", source="Hartley & Zisserman 2004, section 4.1 (four-point homography)")
class Perspective(Augmentation):
    """See the picture from a tilted camera: each corner moves inwards by up to ``distortion`` of half a side, uniform.

        (x, y) is read at (X / Z, Y / Z),  (X, Y, Z) = H (x, y, 1)        H: 3 x 3, takes the corners to the moved ones

    The view shows only stored pixels, enlarged where the camera comes closer.
    """

    stage = "geometry"
    neutral: ClassVar = {"distortion": 0.0}

    distortion: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.6)] = 0.3
    p: Probability = 0.5

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the homography that takes the output's corners to the moved corners; noted as (x, y) of the four."""
        h, w = draws.canvas
        u = stream.uniform(8)
        corners = np.array([(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)])
        inwards = np.sign(np.array([w / 2, h / 2]) - corners) * np.array([w / 2, h / 2]) * self.distortion
        moved = corners + u.T.reshape(-1, 4, 2) * inwards
        return draws.warp(homography(corners, moved)).note(stream.name, corners=moved)


def homography(start: Floats, end: Floats) -> Floats:
    """Solve for the matrices (B, 3, 3) that take four points ``start`` (4, 2) to ``end`` (B, 4, 2)."""
    n = len(end)
    system, right = np.zeros((n, 8, 8)), end.reshape(n, 8)
    for k, (x, y) in enumerate(start):
        system[:, 2 * k, :3] = system[:, 2 * k + 1, 3:6] = (x, y, 1.0)
        system[:, 2 * k : 2 * k + 2, 6] = -x * end[:, k]
        system[:, 2 * k : 2 * k + 2, 7] = -y * end[:, k]
    solved = np.linalg.solve(system, right[..., None])[..., 0]
    matrix = np.concatenate([solved, np.ones((n, 1))], 1).reshape(n, 3, 3)
    matrix[(end == start).all((1, 2))] = np.eye(3)
    return matrix.astype(np.float64)


@technique("elastic", source="Ronneberger et al. 2015, arXiv:1505.04597, section 3.1; Simard et al. 2003")
class Elastic(Augmentation):
    """Bend the picture smoothly: a coarse grid of random shifts, interpolated by a cubic B-spline (Rueckert et al. 1999).

        (x, y) is read at (x, y) + sum over i, j of B(u - i) B(v - j) s_ij        u, v: (x, y) in cells,  s_ij ~ N(0, strength^2)

    For handwriting and tissue; it dislikes rigid objects. ``strength``: standard deviation of a control point's shift as
    a share of the shorter side. ``n_cells``: cells of the grid along each side; more cells bend more locally. Differs from the
    paper: the grid follows the output, after every other geometry, so it shares their one resampling.
    """

    stage = "geometry"
    neutral: ClassVar = {"strength": 0.0}

    strength: Annotated[float, Ge(0), Le(0.5), Search(0.0, 0.1)] = 0.03
    n_cells: Annotated[int, Ge(1), Le(32), Search(2, 8)] = 3
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the control points."""
        side = self.n_cells + 3  # a cubic B-spline over n cells has n + 3 control points
        shifts = normal(stream.uniform(4 * side * side)).T.reshape(-1, 2, side, side) * self.strength
        return replace(draws, bends=(*draws.bends, shifts)).note(stream.name, shifts=shifts)
