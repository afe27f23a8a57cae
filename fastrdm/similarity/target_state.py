"""The state of a target: its attributes, RDMs prepared for comparisons, and their way to files and pickles."""

import functools
import hashlib
import math
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import Labels, n_conditions
from fastrdm._kernels import Prepared
from fastrdm.similarity.ceiling import NoiseCeiling, TargetCeiling, TimeNoiseCeiling
from fastrdm.similarity.coefficients import Rows
from fastrdm.similarity.numerics import Floats, blocks_of, is_large
from fastrdm.similarity.protocol import Protocol
from fastrdm.similarity.sides import Side
from fastrdm.similarity.table import get_similarity
from fastrdm.similarity.target_contents import checked_facts, checked_prepared
from fastrdm.similarity.target_file import TargetFile, read_target_file, write_target_file


class TargetState:
    """What a `Target` holds; it cannot be changed."""

    protocol: Protocol
    ceiling: float
    is_computed: bool
    tie_bound: float
    name: str | None
    nan_policy: str
    labels: Labels | None
    over_time: str
    times: Floats | None
    _subjects: Rows
    _side: Side
    _file: TargetFile | None
    _ceiling: TargetCeiling

    def _set(
        self,
        subjects: Rows,
        prepared: Prepared | None = None,
        file: TargetFile | None = None,
        **facts: Any,
    ) -> None:
        self.__dict__.update(facts)
        if self.times is not None:
            self.times.flags.writeable = False
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
        names = (
            *("protocol", "ceiling", "is_computed", "tie_bound", "name", "nan_policy", "labels"),
            *("over_time", "times"),
        )
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

    def _mean_ceiling(self) -> float:
        """The computed ceiling of scores averaged over time; NaN if it is not positive but that of a time point is."""
        bound: float = getattr(self.noise_ceiling, self.protocol.bound)
        if self.over_time == "each" and not bound > 0 and (self.ceilings > 0).any():
            return math.nan
        return self._ceiling.bound(self.noise_ceiling, self._label)

    @functools.cached_property
    def noise_ceiling(self) -> NoiseCeiling:
        """Both bounds, computed from the subjects as the protocol says."""
        return self._ceiling.compute(whole=self._whole)

    @functools.cached_property
    def noise_ceilings(self) -> TimeNoiseCeiling:
        """Both bounds of each time point, computed from the subjects."""
        return self._ceiling.compute_each(whole=self._whole)

    @functools.cached_property
    def ceilings(self) -> Floats:
        """The ceiling of each time point, (times,), for scores of each time point; NaN where it is not positive.

        A ceiling that was passed to a target that averages over time holds for its average only.
        """
        if not self._is_each_computed:
            return np.full(self.n_times, self.ceiling)
        if self.n_subjects < 2:
            return np.full(self.n_times, math.nan)
        bounds = getattr(self.noise_ceilings, self.protocol.bound)
        return np.where(bounds > 0, bounds, math.nan)

    @property
    def _is_each_computed(self) -> bool:
        return self.is_computed or self.over_time == "mean"

    @property
    def _whole(self) -> Prepared | None:
        """The RDMs that models are compared with, if the ceiling is computed from them."""
        side, averages = self._side, self.protocol.average_times
        is_one = self.n_times == 1 and is_large(self._subjects)
        return side.whole if is_one and side.is_whole and not (side.grows or averages) else None

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the subjects' RDMs, their shape and their order."""
        digest = hashlib.sha256(str(self._subjects.shape).encode())
        rows = self._subjects.reshape(-1)
        for block in blocks_of(len(rows), 1):
            digest.update(np.ascontiguousarray(rows[block], "<f8").data)
        return digest.hexdigest()

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
        labels = None
        if self.labels is not None:
            labels = {name: getattr(self.labels, name) for name in ("what", "values", "name")}
        facts = self._facts() | {"protocol": self.protocol.facts(), "labels": labels}
        facts["times"] = None if self.times is None else self.times.tolist()
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
        attributes = checked_facts(Path(path), facts, arrays["subjects"].shape)
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


def _load_unchanged(kind: type[TargetState], file: TargetFile) -> TargetState:
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
