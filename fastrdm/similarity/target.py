"""Subjects of one region, prepared once; model RDMs in, scores out."""

import functools
import hashlib
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import Labels, n_conditions
from fastrdm._kernels import Prepared
from fastrdm.similarity.ceiling import NoiseCeiling, TargetCeiling, check_ceiling
from fastrdm.similarity.coefficients import Rows
from fastrdm.similarity.comparison import warn_undefined
from fastrdm.similarity.numerics import blocks_of, is_large, release
from fastrdm.similarity.protocol import Protocol, Score, get_protocol, score_similarities
from fastrdm.similarity.shapes import as_models, as_subjects
from fastrdm.similarity.sides import Side, compare_sides
from fastrdm.similarity.table import get_similarity
from fastrdm.similarity.target_contents import checked_facts, checked_prepared
from fastrdm.similarity.target_file import TargetFile, read_target_file, write_target_file


class Target:
    """Subject RDMs of one region, prepared for scoring any number of models.

    A target is immutable, so threads may share it. It can be pickled. A target that was loaded from a file is pickled
    as the path of the file, and all processes that open it share the pages of the file.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs), or a dict of subjects. Masked values are NaN. Labels of conditions or pairs (of pandas
        and xarray objects) are kept, also in files and pickles; labelled models must have the same labels.
    protocol : str or Protocol
        How scores are computed: a name in `PROTOCOLS`, or your own protocol.
    ceiling : float, optional
        Noise ceiling in the protocol's unit (a squared correlation if it squares), not in percent. By default the
        protocol's bound, computed from the subjects.
    name : str, optional
        Name of the target in messages and tables.
    nan_policy : str
        ``"raise"``: NaN in a subject or a model is an error. ``"omit"``: a model and a subject are compared, and
        ranked, on the pairs that are NaN in neither; other subjects and models have no influence. ``"propagate"``:
        similarities to a subject or of a model with NaN are NaN, and so are the means over these subjects. The
        computed ceiling follows the same policy, see `noise_ceiling`. Under ``"omit"``, the score of a model that lacks
        pairs that subjects have is divided by the ceiling over the model's pairs. If the ceiling was passed, which
        holds for all pairs, the percentage of such a model is NaN.

    Raises
    ------
    AttributeError
        If an attribute is set afterwards.
    ValueError
        If the shape is none of those above, an entry is infinite, or NaN under ``"raise"``, an RDM is asymmetric or has
        no similarity to anything (constant, or with ``"omit"`` without a pair), labels of rows and columns or of
        subjects differ, the ceiling is not positive or above 1, there is one subject and no ceiling, or the policy is
        unknown.

    Warns
    -----
    RuntimeWarning
        If square matrices look like similarities: the largest entry of each row is on the diagonal.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> target = fastrdm.Target(rng.random((15, 4005)))
    >>> score = target.score(rng.random((3, 4005)))
    >>> score.r2.shape, score.rho.shape
    ((3,), (3, 15))
    """

    protocol: Protocol
    ceiling: float
    is_computed: bool
    tie_bound: float
    name: str | None
    nan_policy: str
    labels: Labels | None
    _subjects: Rows
    _side: Side
    _file: TargetFile | None
    _ceiling: TargetCeiling

    def __init__(
        self,
        subject_rdms: ArrayLike,
        protocol: str | Protocol = "algonauts2019",
        ceiling: float | None = None,
        name: str | None = None,
        *,
        nan_policy: str = "raise",
    ) -> None:
        label = f"subject_rdms of {name}" if name else "subject_rdms"
        given = as_subjects(subject_rdms, label, nan_policy=nan_policy)
        labels = given.labels and replace(given.labels, name=name or "the target")
        chosen = get_protocol(protocol)
        if ceiling is not None:
            check_ceiling(ceiling, name or "the target", chosen)
        # Large RDMs are copied last, when the memory of all else is free again.
        copied_last = is_large(given.rdms) or given.is_own
        self._set(
            given.rdms.view() if copied_last else given.rdms.copy(),
            protocol=chosen,
            is_computed=ceiling is None,
            name=name,
            nan_policy=nan_policy,
            tie_bound=given.tie_bound,
            labels=labels,
        )
        if ceiling is None and self.n_subjects < 2:
            raise ValueError(
                f"{label} holds one subject, so no ceiling can be computed; set ceiling"
            )
        self._check_subjects(label, given.shape)
        if ceiling is None:
            ceiling = self._ceiling.bound(self.noise_ceiling, self._label)
        self.__dict__.update(ceiling=float(ceiling))
        self._prepare()
        if copied_last and not given.is_own:
            self._keep(_copy(given.rdms))

    def _set(
        self,
        subjects: Rows,
        prepared: Prepared | None = None,
        file: TargetFile | None = None,
        **facts: Any,
    ) -> None:
        self.__dict__.update(facts)
        several = subjects.shape[1] > 1
        side = Side(
            get_similarity(self.protocol.method),
            subjects.reshape(-1, subjects.shape[2]),
            self.nan_policy,
            self._label,
            axes=("subject", "time") if several else ("subject",),
            lead=subjects.shape[: 2 if several else 1],
            prepared=prepared,
        )
        ceiling = TargetCeiling(subjects, self.protocol, self.nan_policy, self.tie_bound)
        self.__dict__.update(_side=side, _file=file, _ceiling=ceiling)
        self._keep(subjects)
        if self.nan_policy != "raise":
            side.check()

    def _prepare(self) -> None:
        """Prepare the RDMs, unless this is done for each comparison; after the ceiling, which needs memory."""
        side = self._side
        if side.grows:
            return
        for rows in [side.whole] if side.is_whole else [group.whole for group in side.groups]:
            rows.values.flags.writeable = rows.squares.flags.writeable = False

    def _keep(self, subjects: Rows) -> None:
        """Take the subjects' RDMs, or a copy of them."""
        subjects.flags.writeable = False
        self._side.rdms = subjects.reshape(-1, subjects.shape[2])
        self._ceiling.subjects = subjects
        self.__dict__.update(_subjects=subjects)

    def _facts(self) -> dict[str, Any]:
        """Return the attributes that files and pickles contain."""
        names = ("protocol", "ceiling", "is_computed", "tie_bound", "name", "nan_policy", "labels")
        return {name: getattr(self, name) for name in names}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Target cannot be changed, so {name} cannot be set; make another")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Target cannot be changed, so {name} cannot be deleted")

    def _check_subjects(self, label: str, shape: tuple[int, ...]) -> None:
        rdms, method = self._side.rdms, self._side.method
        empty = np.isnan(rdms).all(axis=1) & (self.nan_policy == "omit")
        for which, reason in (
            (empty, "NaN throughout"),
            (method.undefined_rdms(rdms), method.undefined),
        ):
            if which.any():
                subject, time = divmod(int(np.argmax(which)), self.n_times)
                raise ValueError(
                    f"{label} with shape {shape} is {reason} for subject {subject}, time {time}"
                )

    @property
    def _label(self) -> str:
        return self.name or "the target"

    @property
    def subject_rdms(self) -> Rows:
        """The subjects' condensed RDMs, (subjects, times, pairs), read-only; large ones of float32 in float32."""
        return self._subjects

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self._subjects)

    @property
    def n_times(self) -> int:
        """Number of time points, 1 without a time axis."""
        return int(self._subjects.shape[1])

    @property
    def n_pairs(self) -> int:
        """Length of a condensed RDM."""
        return int(self._subjects.shape[2])

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return n_conditions(self.n_pairs)

    @functools.cached_property
    def noise_ceiling(self) -> NoiseCeiling:
        """Both bounds, computed from the subjects as the protocol says."""
        whole = self._side.whole if self._shares_ranks else None
        return self._ceiling.compute(whole=whole)

    @property
    def _shares_ranks(self) -> bool:
        """Whether the ceiling is computed from the RDMs that models are compared with."""
        side, averages = self._side, self.protocol.average_times
        is_one = self.n_times == 1 and is_large(self._subjects)
        return is_one and side.is_whole and not (side.grows or averages)

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the subjects' RDMs, their shape and their order."""
        digest = hashlib.sha256(str(self._subjects.shape).encode())
        rows = self._subjects.reshape(-1)
        for block in blocks_of(len(rows), 1):
            digest.update(np.ascontiguousarray(rows[block], "<f8").data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        times = f", {self.n_times} times" if self.n_times > 1 else ""
        return (
            f"Target({self.name or 'unnamed'}: {self.n_subjects} subjects{times}, {self.n_conditions} conditions,"
            f" {self.protocol.name}, ceiling {self.ceiling:.4f})"
        )

    def score(self, rdms: ArrayLike, *, n_threads: int | None = None) -> Score:
        """Score model RDMs.

        Parameters
        ----------
        rdms : array_like
            One model, (pairs,) or (n, n), or several, (models, pairs) or (models, n, n), over the target's conditions
            in the target's order, or a dict of models, taken in its order. Masked values are NaN. Arrays of any size,
            also of float32, are read in blocks, without a copy.
        n_threads : int, optional
            Number of threads; by default the number of processors available to the process.

        Returns
        -------
        Score
            Arrays with a leading axis of models; NaN for constant RDMs. Neither the number of threads nor the other
            models change a bit.

        Warns
        -----
        RuntimeWarning
            One, naming the constant (zero) models that make similarities NaN. With ``nan_policy="omit"`` another,
            naming the models whose `percent_nc` is NaN because they lack pairs, and the ceiling was given, which holds
            for all pairs, or is not positive over their pairs. One if square matrices look like similarities: the
            largest entry of each row is on the diagonal.

        Raises
        ------
        ValueError
            If a shape does not fit the target, an entry is infinite, or NaN under ``nan_policy="raise"`` (the message
            names the first), an RDM is asymmetric, or labels of conditions or pairs differ from the target's labels.
        """
        models = as_models(rdms, self.n_pairs, self._label, self.labels)
        side = Side(
            self._side.method, models, self.nan_policy, "rdms", axes=("model",), n_threads=n_threads
        )
        rho, undefined = compare_sides(side, self._side)
        if undefined.any():
            warn_undefined(undefined, side, self._side)
        score = score_similarities(
            rho.reshape(len(models), self.n_subjects, self.n_times),
            squared=self.protocol.squared,
            ceiling=self._ceiling.of_models(models, self.ceiling, self.is_computed),
        )
        if not math.isnan(self.ceiling):
            unknown = np.isnan(score.ceiling) & ~np.isnan(score.value)
            if unknown.any():
                self._ceiling.warn_unknown(unknown, self._label, self.is_computed)
        return score

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the target, with the labels of its conditions or pairs, to a file that `load` maps.

        Parameters
        ----------
        path : path-like
            The file. It appears, or replaces an existing file, when it is complete.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {"subjects": self._subjects}
        if self._side.is_whole and not self._side.grows:
            whole = self._side.whole
            arrays |= {"values": whole.values, "squares": whole.squares}
        labels = None if self.labels is None else asdict(self.labels)
        facts = self._facts() | {"protocol": self.protocol.facts(), "labels": labels}
        write_target_file(Path(path), arrays, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Map a saved target: its arrays stay in the file, and all processes share the pages.

        Parameters
        ----------
        path : path-like
            The file. Do not write to it while the target is in use; `save` replaces the file instead of writing to it.

        Returns
        -------
        Target
            Its scores are the saved target's, bit for bit.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If it is not a target, damaged, truncated, or written by a later version of fastrdm; if an array has another
            type, shape or place than the format says, or contents that no target has; if its ceiling is above 1; or if
            an earlier version wrote it for ``net2brain`` with several time points, with a ceiling that was not that of
            RDMs averaged over time.

        Notes
        -----
        Files of version 1 of the format do not record whether the ceiling was computed; it counts as given.
        """
        file, facts, arrays = read_target_file(Path(path))
        attributes = checked_facts(Path(path), facts, arrays["subjects"].shape[2])
        if (
            attributes["protocol"].name == "net2brain"
            and facts["version"] < 2
            and arrays["subjects"].shape[1] > 1
        ):
            raise ValueError(
                f"{path} was saved by an earlier fastrdm, whose net2brain ceiling of several time points was not of"
                " RDMs averaged over time; make the target again from its subjects"
            )
        method = get_similarity(attributes["protocol"].method)
        prepared = checked_prepared(Path(path), arrays, method, attributes["nan_policy"])
        target = cls._make(arrays["subjects"], prepared, file, **attributes)
        target._check_subjects(f"subjects in {path}", arrays["subjects"].shape)
        return target

    @classmethod
    def _make(cls, *arrays: Any, **facts: Any) -> Self:
        self = cls.__new__(cls)
        self._set(*arrays, **facts)
        self._prepare()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None:
            return _load_unchanged, (type(self), self._file)
        return functools.partial(type(self)._make, **self._facts()), (np.array(self._subjects),)


def _copy(rdms: Rows) -> Rows:
    """Copy RDMs (subjects, times, pairs) one by one, and release pages of a mapped file."""
    out = np.empty_like(rdms, subok=False)
    for row, to in zip(rdms, out, strict=True):
        to[:] = row
        release(rdms)
    return out


def _load_unchanged(kind: type[Target], file: TargetFile) -> Target:
    try:
        target = kind.load(file.path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{file.path} does not exist: the pickled target was loaded from it and holds only its path"
        ) from None
    if target._file != file:
        raise ValueError(
            f"{file.path} holds another target than the pickled one, which was loaded from it"
        )
    return target
