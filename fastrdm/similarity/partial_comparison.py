"""Partial and semi-partial correlation of RDMs: what a model shares with subjects beyond control RDMs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import check_choice, list_names, names_of, warn_caller, with_names
from fastrdm.similarity.numerics import Floats, in_range
from fastrdm.similarity.parts import rdm_vectors, take_subjects
from fastrdm.similarity.target import Target

Mask = NDArray[np.bool_]

METHODS = ("spearman", "corr", "pearson")
# What is left of an RDM that the controls explain, beside rounding.
_NOTHING = 1e-9


def partial_compare(
    rdms: Any,
    target: Target | ArrayLike,
    controls: Any,
    method: str = "spearman",
    *,
    kind: str = "partial",
    nan_policy: str | None = None,
) -> Floats:
    r"""Correlate model RDMs with subjects' RDMs after control RDMs are removed by regression.

    With residuals :math:`e_x, e_y` of the least-squares regressions of a model x and a subject y on the controls and a
    constant,

    ================ ==================================================================================
    ``partial``      :math:`r(e_x, e_y)`
    ``semi-partial`` :math:`r(e_x, y)`: the controls are removed from the model alone. Its square is what the
                     model adds to the R² of the controls
    ================ ==================================================================================

    For ``spearman``, x, y and the controls are ranks.

    Parameters
    ----------
    rdms : array_like or dict
        Models, (models, pairs) or (models, n, n), or one.
    target : Target or array_like
        Subjects, as in `bootstrap`, or one condensed RDM, (pairs,). With a time axis, correlations are averaged over
        time.
    controls : array_like or dict
        RDMs to control for, in the same forms as `rdms`, with at least one RDM.
    method : {"spearman", "corr"}
        Ranks or the RDMs as they are; alias ``"pearson"``.
    kind : {"partial", "semi-partial"}
        What the controls are removed from.
    nan_policy : str, optional
        As in `compare`; by default the target's policy, else ``"raise"``. With ``"omit"``, a model, a subject and the
        controls are ranked and compared on the pairs that all of them have.

    Returns
    -------
    ndarray of float64, shape (models, subjects)
        Between −1 and 1. NaN if the controls explain a model or a subject fully, also because too few pairs are left.
        A DataFrame or DataArray for labelled pandas or xarray objects, as from `compare`.

    Raises
    ------
    ValueError
        If shapes or labels do not fit, an RDM is constant, a value is infinite, or NaN under ``"raise"``, or an option
        is unknown.

    Warns
    -----
    RuntimeWarning
        One, naming the models whose correlations are NaN because the controls explain the model or the subject.

    References
    ----------
    Cohen, Cohen, West & Aiken (2003), Applied multiple regression, 3.3; Kim (2015), Commun. Stat. Appl. Methods 22(6).

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> pixels, subjects = rng.random(190), rng.random((4, 190))
    >>> fastrdm.partial_compare(pixels + rng.random((2, 190)), pixels + subjects, pixels).round(2).shape
    (2, 4)
    """
    check_choice(method, METHODS, "method")
    check_choice(kind, ("partial", "semi-partial"), "kind")
    data = take_subjects(target, nan_policy=nan_policy)
    models, fixed = data.take_models(rdms), data.take_models(controls, "controls")
    rows = data.subjects.reshape(-1, data.subjects.shape[2])
    out = np.full((len(models), len(rows)), np.nan)
    explained = np.zeros(out.shape, bool)
    if data.nan_policy != "propagate" or not np.isnan(fixed).any():
        lacking = ~np.isnan(fixed).any(axis=0)
        for some, present in _groups(models, data.nan_policy):
            for others, found in _groups(rows, data.nan_policy):
                left = present & found & lacking
                if np.count_nonzero(left) > 1:
                    here = np.ix_(some, others)
                    three = models[some][:, left], rows[others][:, left], fixed[:, left]
                    out[here] = _correlate(*three, method, kind)
                    explained[here] = np.isnan(out[here])
    if explained.any():
        which = np.flatnonzero(explained.any(axis=1))
        names = names_of(rdms)
        listed = list_names([names[i] if names else i for i in which], 5)
        warn_caller(
            f"partial correlations are NaN where the controls explain a model or a subject fully (rdms: {listed})"
        )
    means = out.reshape(len(models), *data.subjects.shape[:2]).mean(axis=2)
    table: Floats = with_names(means, rdms, target, "rdm", "subject")
    return table


def _groups(rows: Floats, nan_policy: str) -> Iterator[tuple[NDArray[np.intp], Mask]]:
    """Yield the rows that have the same pairs, and these pairs."""
    missing = np.isnan(rows)
    if not missing.any():
        yield np.arange(len(rows)), ~missing[0]
        return
    if nan_policy == "propagate":
        yield np.flatnonzero(~missing.any(axis=1)), np.ones(rows.shape[1], bool)
        return
    masks, which = np.unique(missing, axis=0, return_inverse=True)
    for k, mask in enumerate(masks):
        yield np.flatnonzero(which.ravel() == k), ~mask


def _correlate(models: Floats, rows: Floats, controls: Floats, method: str, kind: str) -> Floats:
    x, y, z = (_vectors(part, method) for part in (models, rows, controls))
    basis = orthonormal(z)
    x = residuals(x, basis)
    if kind == "partial":
        y = residuals(y, basis)
    sizes = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(x @ y.T / np.where(sizes > 0, sizes, np.nan), -1, 1))


def _vectors(rdms: Floats, method: str) -> Floats:
    """Return centred RDMs or ranks of length 1; zero for constant ones."""
    vectors = rdm_vectors(in_range(rdms)[0], method)
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(size > 0, size, 1))


def orthonormal(vectors: Floats) -> Floats:
    """Return an orthonormal basis (rank, pairs) of the span of vectors (n, pairs)."""
    _, sizes, basis = np.linalg.svd(vectors, full_matrices=False)
    return np.asarray(basis[sizes > _NOTHING * sizes.max(initial=0)])


def residuals(vectors: Floats, basis: Floats) -> Floats:
    """Return what is left of vectors of length 1 without their part in a basis; zero if that is rounding."""
    left = vectors - vectors @ basis.T @ basis
    # Once more, for what rounding left of a part much larger than the residual.
    left -= left @ basis.T @ basis
    left[np.linalg.norm(left, axis=1) <= _NOTHING] = 0
    return np.asarray(left)
