"""Surfaces of triangles: the vertices within a distance along edges, and values back as GIFTI images."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import check_integer, require
from fastrdm.searchlight.masks import opened
from fastrdm.searchlight.neighbourhoods import Index, Neighbourhoods, check_positive, collected
from fastrdm.searchlight.volumes import placed_values

# Bytes of distances from some vertices to all.
_BLOCK = 32_000_000


def surface_neighbours(
    vertices: Any,
    faces: Any = None,
    *,
    radius: float | None = None,
    steps: int | None = None,
    mask: Any = None,
) -> Neighbourhoods:
    """Find the vertices of a surface near each vertex: within a distance along edges, or some edges away.

    The distance of two vertices is that of the shortest path along edges (Dijkstra), which is somewhat longer than the
    shortest path across faces.

    Parameters
    ----------
    vertices : array_like, shape (vertices, 3), GIFTI image, or path
        Coordinates, in mm as a rule. A GIFTI image or file has the faces too.
    faces : array_like of int, shape (faces, 3), optional
        The vertices of each triangle; needed with an array of vertices.
    radius : float, optional
        Largest distance, in the unit of the coordinates. Either `radius` or `steps` is needed.
    steps : int, optional
        Largest number of edges to the centre.
    mask : array_like of bool, shape (vertices,), optional
        Vertices that have data, for example those of the cortex. Channels are these vertices in order, and paths run
        through them alone.

    Returns
    -------
    Neighbourhoods
        Sequence of index arrays in order of channels, each with its centre; ``centres`` has all channels.

    Raises
    ------
    ValueError
        If arrays have other shapes, coordinates are NaN or infinite, faces name no vertex, the mask is empty or of
        another shape, both or none of `radius` and `steps` are given, or one is not above 0.
    MissingExtraError
        If a path is given, and nibabel is not installed.

    References
    ----------
    Oosterhof, Wiestler, Downing & Diedrichsen (2011), A comparison of volume-based and surface-based multi-voxel
    pattern analysis, NeuroImage 56(2).

    Examples
    --------
    >>> from fastrdm.searchlight import surface_neighbours
    >>> square = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    >>> list(surface_neighbours(square, [[0, 1, 2], [0, 2, 3]], radius=1))[1]
    array([0, 1, 2])
    """
    if (radius is None) == (steps is None):
        raise ValueError("pass either radius, a distance along edges, or steps, a number of edges")
    if steps is not None:
        check_integer(steps, "steps", 1)
    else:
        check_positive(radius, "radius", "the unit of the coordinates")
    points, triangles = _mesh(vertices, faces)
    chosen = _chosen(mask, len(points))
    matrix = _edges(points, triangles)[chosen][:, chosen]
    lists = _near(matrix, radius, steps)
    return collected(lists, np.arange(len(chosen)), len(chosen))


def _mesh(vertices: Any, faces: Any) -> tuple[NDArray[np.float64], Index]:
    image = vertices
    if isinstance(vertices, (str, os.PathLike)):
        opened(vertices)  # refuses what is missing or no image
        image = require("nibabel", "imaging", "to read surfaces").load(vertices)
    if hasattr(image, "agg_data"):
        if faces is not None:
            raise ValueError("faces are given, and vertices is a GIFTI image, which has faces")
        points, faces = (
            image.agg_data(f"NIFTI_INTENT_{kind}") for kind in ("POINTSET", "TRIANGLE")
        )
        if isinstance(points, tuple) or isinstance(faces, tuple):
            raise ValueError("vertices is a GIFTI image without one surface: coordinates and faces")
    elif hasattr(image, "dataobj"):
        raise ValueError("vertices is an image of a volume; expected a GIFTI image, or arrays")
    elif faces is None:
        raise ValueError(
            "faces are needed with an array of vertices: (faces, 3) indices of vertices"
        )
    else:
        points = vertices
    points, triangles = np.asarray(points, np.float64), np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"vertices have shape {points.shape}; expected (vertices, 3)")
    if not np.isfinite(points).all():
        raise ValueError("vertices have coordinates that are NaN or infinite")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        raise ValueError(
            f"faces have shape {triangles.shape} and type {triangles.dtype}; expected integers of shape (faces, 3)"
        )
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"faces have indices from {triangles.min()} to {triangles.max()}, and there are {len(points)} vertices"
        )
    return points, triangles.astype(np.intp)


def _chosen(mask: Any, n: int) -> Index:
    if mask is None:
        return np.arange(n)
    array = np.asarray(mask)
    if array.shape != (n,) or array.dtype.kind not in "biu":
        raise ValueError(
            f"mask has shape {array.shape} and type {array.dtype}; expected a bool for each of {n} vertices"
        )
    if not array.any():
        raise ValueError("mask is empty: no vertex is marked")
    return np.flatnonzero(array)


def _edges(points: NDArray[np.float64], triangles: Index) -> Any:
    """Return the lengths of edges, a sparse matrix (vertices, vertices)."""
    from scipy.sparse import csr_array

    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    # An edge of length 0 would be no edge.
    lengths = np.maximum(lengths, np.finfo(np.float64).tiny)
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    return csr_array((np.tile(lengths, 2), (rows, columns)), shape=(len(points), len(points)))


def _near(matrix: Any, radius: float | None, steps: int | None) -> list[Index]:
    """Return the vertices within the radius or steps of each."""
    from scipy.sparse.csgraph import dijkstra

    n = matrix.shape[0]
    limit = float(steps) if steps is not None else float(radius or 0) * (1 + 1e-9)
    block = max(1, _BLOCK // (8 * n))
    lists: list[Index] = []
    for first in range(0, n, block):
        sources = np.arange(first, min(n, first + block))
        distances = dijkstra(
            matrix, directed=False, indices=sources, limit=limit, unweighted=steps is not None
        )
        rows, columns = np.nonzero(np.isfinite(distances))
        lists += np.split(columns, np.searchsorted(rows, np.arange(1, len(sources))))
    return lists


def to_surface(
    values: Any,
    n_vertices: int,
    *,
    centres: Any = None,
    mask: Any = None,
    fill: float = np.nan,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Put values of places or channels back on a surface, as a GIFTI image.

    Parameters
    ----------
    values : array_like, shape (places,) or (places, maps)
        For example what `score_searchlight` returns: (places, models).
    n_vertices : int
        Number of vertices of the surface.
    centres : Neighbourhoods or array_like of int, optional
        The channel of each place. By default, each channel has a value.
    mask : array_like of bool, shape (vertices,), optional
        The mask with which `surface_neighbours` made the places.
    fill : float
        Value of vertices without a place.
    path : path-like, optional
        File to which the image is written also, for example ``lh.scores.func.gii``.

    Returns
    -------
    nibabel.gifti.GiftiImage
        One array (vertices,) of float32 for each map.

    Raises
    ------
    ValueError
        If the number of values is not that of places, the mask has another shape or is empty, or a centre is no
        channel.
    MissingExtraError
        If nibabel is not installed.
    """
    check_integer(n_vertices, "n_vertices", 1)
    chosen = _chosen(mask, n_vertices)
    placed = placed_values(values, centres, len(chosen), fill)
    nibabel = require("nibabel", "imaging", "to make images of surfaces")
    full = np.full((n_vertices, *placed.shape[1:]), fill, np.float32)
    full[chosen] = placed
    image = nibabel.gifti.GiftiImage()
    for values_of_map in full.reshape(n_vertices, -1).T:
        image.add_gifti_data_array(
            nibabel.gifti.GiftiDataArray(
                np.ascontiguousarray(values_of_map),
                intent="NIFTI_INTENT_SHAPE",
                datatype="NIFTI_TYPE_FLOAT32",
            )
        )
    if path is not None:
        nibabel.save(image, path)
    return image
