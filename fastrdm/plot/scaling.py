"""Metric multidimensional scaling: points in a plane whose distances are as near as possible to those given."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_STEPS = 1000
_TOLERANCE = 1e-7


def scale(distances: Floats) -> tuple[Floats, float]:
    r"""Return positions (n, 2) of n points, and their stress.

    SMACOF (de Leeuw 1977) minimises :math:`\sigma = \sum_{i<j} (d_{ij} - \delta_{ij})^2` of distances δ (n, n), from
    the classical solution (Torgerson 1952), so that the result does not depend on random numbers. The stress is
    Kruskal's first, :math:`\sqrt{\sigma / \sum_{i<j} d_{ij}^2}`: 0.05 is good, above 0.2 the plane shows little of the
    distances. The first axis has the largest variance, and on each axis the farthest point is positive.
    """
    points = _classical(distances)
    stress = _raw_stress(points, distances)
    for _ in range(_MOST_STEPS):
        points = _transformed(points, distances)
        last, stress = stress, _raw_stress(points, distances)
        if last - stress <= _TOLERANCE * max(last, np.finfo(float).tiny):
            break
    points = _oriented(points)
    total = (_between(points) ** 2).sum() / 2
    return points, float(np.sqrt(stress / total)) if total else 0.0


def _classical(distances: Floats) -> Floats:
    squares = distances**2
    means = squares.mean(axis=0)
    products = -0.5 * (squares - means - means[:, None] + means.mean())
    values, vectors = np.linalg.eigh(products)
    # Two points, or points on a line, have one dimension.
    count = min(2, len(distances))
    points = np.zeros((len(distances), 2))
    points[:, :count] = vectors[:, ::-1][:, :count] * np.sqrt(np.maximum(values[::-1][:count], 0))
    return points


def _transformed(points: Floats, distances: Floats) -> Floats:
    """The Guttman transform."""
    between = _between(points)
    ratios = np.divide(distances, between, out=np.zeros_like(between), where=between > 0)
    weights = np.diag(ratios.sum(axis=1)) - ratios
    return np.asarray(weights @ points / len(points))


def _between(points: Floats) -> Floats:
    difference = points[:, None] - points
    return np.asarray(np.sqrt((difference**2).sum(axis=2)))


def _raw_stress(points: Floats, distances: Floats) -> float:
    return float(((_between(points) - distances) ** 2).sum() / 2)


def _oriented(points: Floats) -> Floats:
    points = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    turned = points @ axes.T
    farthest = turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])]
    return np.asarray(turned * np.where(farthest < 0, -1, 1))
