"""One region's subjects, standardised once; model RDMs in, scores out."""

import functools
import hashlib
import json
import math
import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrdm._base import (
    Labels,
    as_rdms,
    checked_triangle,
    list_names,
    n_conditions,
    new_file,
    rdm_labels,
    upper_triangle,
    warn_similarities,
)
from fastrdm._kernels import FLOAT64, Prepared, bound_of
from fastrdm.similarity.ceiling import Floats, NoiseCeiling, as_subjects, ceiling_of
from fastrdm.similarity.coefficients import get_method
from fastrdm.similarity.comparison import contiguous, warn_undefined
from fastrdm.similarity.protocol import Protocol, get_protocol
from fastrdm.similarity.sides import Side, check_policy

# A file of a target: this, the length of the header as eight hexadecimal digits, the header, and the arrays' bytes,
# each from a multiple of _ALIGNMENT on. The checksum that the header holds is of all that comes after it.
_MAGIC = b"fastrdm target\n"
_VERSION = 2
_ALIGNMENT = 64
# Square models are condensed this many numbers at a time.
_AT_ONCE = 1 << 22
# Ceilings of models that lack pairs that a target keeps, and as many models as a message names.
_KEPT = 256


@dataclass(frozen=True)
class Score:
    """Scores of models against one target.

    Attributes
    ----------
    rho : ndarray, shape (n_models, n_subjects)
        Similarity to each subject, averaged over time points where there are several.
    r2 : ndarray, shape (n_models,)
        Mean over subjects of `rho` squared.
    value : ndarray, shape (n_models,)
        What the protocol reports: `r2`, or the mean of `rho` where it does not square.
    std, sample_std : ndarray, shape (n_models,)
        Standard deviation over subjects of the protocol's per-subject values (`rho` squared or `rho`): of the subjects
        as a population (divided by their number), and as a sample (by one less; NaN for one subject).
    p : ndarray, shape (n_models,)
        Two-sided one-sample t-test of those values against 0, as `scipy.stats.ttest_1samp`; NaN for one subject.
        This is the challenge's own test. Squares are never negative, so for a squaring protocol it says little.
    percent_nc : ndarray, shape (n_models,)
        100 × `value` / `ceiling`.
    ceiling : ndarray, shape (n_models,)
        The noise ceiling over the pairs that the model has; NaN where it is not known.
    mean_rho : ndarray, shape (n_models,)
        Mean over subjects of `rho`: below 0, the model orders pairs oppositely to the brain, however high `r2` is.
    """

    rho: Floats
    r2: Floats
    value: Floats
    std: Floats
    sample_std: Floats
    p: Floats
    percent_nc: Floats
    ceiling: Floats
    mean_rho: Floats


class Target:
    """Subject RDMs of one region, prepared for scoring any number of models.

    A target cannot be changed, so that threads may share one. It can be pickled; one that was loaded from a file
    travels as the file's path, and every process that opens it shares the file's pages.

    Parameters
    ----------
    subject_rdms : array_like
        (subjects, n, n) or (subjects, pairs), or with a time axis second, (subjects, times, n, n) or
        (subjects, times, pairs), or a dict of subjects. Masked values are NaN. Labels of conditions or pairs (of pandas
        and xarray objects) are kept, also in files and pickles, and models that carry labels must have the same.
    protocol : str or Protocol
        How scores are made: a name in `PROTOCOLS`, or a protocol of one's own.
    ceiling : float, optional
        Noise ceiling in the protocol's unit (a squared correlation where it squares), not in percent. By default the
        protocol's bound, computed from the subjects.
    name : str, optional
        What messages and tables call the target.
    nan_policy : str
        ``"raise"``: NaN in a subject or a model is an error. ``"omit"``: a model and a subject are compared on the
        pairs that neither has as NaN, ranked anew among those; other subjects and models do not matter.
        ``"propagate"``: similarities to a subject or of a model with NaN are NaN, and so are the means over subjects
        that they enter. The computed ceiling follows the same policy, as `noise_ceiling` says; under ``"omit"`` a model
        that lacks pairs that subjects have is a share of the ceiling computed over its own pairs. A given ceiling is of
        all pairs, so that such a model has NaN as its percentage.

    Raises
    ------
    AttributeError
        If an attribute is set afterwards.
    ValueError
        If the shape is none of those above, an entry is infinite, or NaN under ``"raise"``, an RDM is asymmetric, has
        no similarity to anything (constant, or with ``"omit"`` without a pair), labels of rows and columns or of
        subjects differ, the ceiling is not positive or above 1, there is one subject and no ceiling is given, or the
        policy is unknown.

    Warns
    -----
    RuntimeWarning
        If square matrices have the largest entry of each row on the diagonal, as similarities do.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> rng = np.random.default_rng(0)
    >>> target = fastrdm.Target(rng.random((15, 4005)))
    >>> score = target.score(rng.random((3, 4005)))
    >>> score.r2.shape, score.rho.shape
    ((3,), (3, 15))
    """

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
        check_policy(nan_policy)
        subjects, labels = as_subjects(subject_rdms, label, nan_policy=nan_policy)
        if labels is not None:
            labels = replace(labels, name=name or "the target")
        within = bound_of(as_rdms(subject_rdms, label).dtype)
        chosen = get_protocol(protocol)
        if ceiling is not None:
            _check_ceiling(ceiling, name, chosen)
        self._set(subjects.copy(), chosen, name, nan_policy, within, labels)
        if ceiling is None and self.n_subjects < 2:
            raise ValueError(
                f"{label} holds one subject, so no ceiling can be computed; pass ceiling="
            )
        self._check_subjects(label, subject_rdms)
        is_computed = ceiling is None
        self._set_ceiling(self._computed_ceiling() if ceiling is None else ceiling, is_computed)

    protocol: Protocol
    ceiling: float
    name: str | None
    nan_policy: str
    tie_bound: float
    labels: Labels | None

    def _set(
        self,
        subjects: Floats,
        protocol: Protocol,
        name: str | None,
        nan_policy: str,
        tie_bound: float,
        labels: Labels | None,
        prepared: Prepared | None = None,
        source: "_Source | None" = None,
    ) -> None:
        subjects.flags.writeable = False
        side = Side(
            get_method(protocol.method),
            subjects.reshape(-1, subjects.shape[2]),
            nan_policy,
            name or "the target",
            axes=("subject", "time") if subjects.shape[1] > 1 else ("subject",),
            lead=subjects.shape[:2] if subjects.shape[1] > 1 else subjects.shape[:1],
            prepared=prepared,
        )
        values = dict(
            _subjects=subjects,
            _side=side,
            labels=labels,
            _source=source,
            protocol=protocol,
            name=name,
            nan_policy=nan_policy,
            tie_bound=tie_bound,
            _ceilings_without={},
        )
        for key, value in values.items():
            object.__setattr__(self, key, value)
        if nan_policy != "raise":
            side.check()
        for rows in [group.whole for group in side.groups] if self._gaps else [side.whole]:
            rows.values.flags.writeable = rows.squares.flags.writeable = False

    def _set_ceiling(self, ceiling: float, is_computed: bool) -> None:
        object.__setattr__(self, "ceiling", float(ceiling))
        object.__setattr__(self, "_is_computed", is_computed)

    _subjects: Floats
    _side: Side
    _source: "_Source | None"
    _is_computed: bool
    _ceilings_without: dict[bytes, float]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Target cannot be changed, so {name} cannot be set; make another")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Target cannot be changed, so {name} cannot be deleted")

    def _check_subjects(self, label: str, given: Any) -> None:
        rdms, method = self._side.rdms, self._side.method
        empty = np.isnan(rdms).all(axis=1) & (self.nan_policy == "omit")
        for which, what in ((empty, "NaN throughout"), (method.without(rdms), method.undefined)):
            if which.any():
                subject, time = divmod(int(np.argmax(which)), self.n_times)
                shape = as_rdms(given, label).shape
                raise ValueError(
                    f"{label} with shape {shape} is {what} for subject {subject}, time {time}"
                )

    def _computed_ceiling(self) -> float:
        ceiling: float = getattr(self.noise_ceiling, self.protocol.bound)
        unknown = self.nan_policy == "propagate" and bool(np.isnan(self._subjects).any())
        if not (ceiling > 0 or unknown):
            raise ValueError(
                f"the {self.protocol.bound} noise ceiling of {self.name or 'the target'} is {ceiling:.4g}: its subjects"
                " do not agree, so nothing can be expressed as a share of it; pass ceiling="
            )
        return ceiling

    @property
    def subject_rdms(self) -> Floats:
        """The subjects' condensed RDMs, (subjects, times, pairs), read-only."""
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
        """Both bounds computed from the subjects, by the protocol's rule."""
        return self._noise_ceiling_of(self._subjects)

    def _noise_ceiling_of(self, subjects: Floats) -> NoiseCeiling:
        p = self.protocol
        ceiling, _ = ceiling_of(
            subjects,
            p.method,
            pool=p.pool,
            squared=p.squared,
            average_times=p.average_times,
            nan_policy=self.nan_policy,
            within=self.tie_bound,
        )
        return ceiling

    @functools.cached_property
    def _pairs(self) -> NDArray[np.bool_]:
        """Which pairs any subject has."""
        return np.asarray(~np.isnan(self._subjects).all(axis=(0, 1)))

    def _ceiling_without(self, missing: NDArray[np.bool_]) -> float:
        """The ceiling computed without some pairs; NaN where it is not positive."""
        key = np.packbits(missing).tobytes()
        if key not in self._ceilings_without:
            subjects = self._subjects.copy()
            subjects[:, :, missing] = np.nan
            ceiling: float = getattr(self._noise_ceiling_of(subjects), self.protocol.bound)
            if len(self._ceilings_without) == _KEPT:
                self._ceilings_without.clear()
            self._ceilings_without[key] = ceiling if ceiling > 0 else math.nan
        return self._ceilings_without[key]

    def _ceilings(self, models: Floats) -> Floats:
        """The ceiling over the pairs of each model, NaN where it is not known."""
        ceilings = np.full(len(models), self.ceiling)
        if self.nan_policy != "omit":
            return ceilings
        # A sum is NaN wherever a number is; it saves the mask in the usual case.
        with np.errstate(all="ignore"):
            suspects = np.flatnonzero(np.isnan(models.sum(axis=1)))
        for i in suspects:
            missing = np.isnan(models[i]) & self._pairs
            if not missing.any():
                continue
            ceilings[i] = self._ceiling_without(missing) if self._is_computed else math.nan
        return ceilings

    def _warn_unknown(self, unknown: NDArray[np.bool_]) -> None:
        which = np.flatnonzero(unknown).tolist()
        reason = (
            f"over those that are left the {self.protocol.bound} noise ceiling is not positive"
            if self._is_computed
            else "the ceiling was given for all pairs; leave ceiling= out to compute it over each model's own"
        )
        warnings.warn(
            f"percent_nc of {self.name or 'the target'} is NaN for models that lack pairs (rdms: model"
            f" {list_names(which, 5)}): {reason}",
            RuntimeWarning,
            stacklevel=3,
        )

    @functools.cached_property
    def sha256(self) -> str:
        """Of the subjects' RDMs, their shape and their order, in hexadecimal."""
        digest = hashlib.sha256(str(self._subjects.shape).encode())
        digest.update(np.ascontiguousarray(self._subjects, "<f8").data)
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
            in the target's order, or a dict of models, taken in its order. Masked values are NaN. However many, they
            are taken as they are, float32 as well, a block at a time.
        n_threads : int, optional
            Threads to use; the processors of this process by default.

        Returns
        -------
        Score
            Arrays with a leading axis of models. Those of a constant RDM are NaN. Neither the number of threads nor
            the other models change a bit of it.

        Warns
        -----
        RuntimeWarning
            One, naming the models that are constant (zero) where that makes a similarity NaN. Another, with
            ``nan_policy="omit"``, naming the models that lack pairs and have NaN as `percent_nc`: because the ceiling
            was given, which is of all pairs, or is not positive over theirs. One if square matrices have the largest
            entry of each row on the diagonal, as similarities do.

        Raises
        ------
        ValueError
            If a shape does not fit the target, an entry is infinite, or NaN under ``nan_policy="raise"`` (the message
            says where), an RDM is asymmetric, or labels of conditions or pairs differ from the target's.
        """
        models = self._as_models(rdms)
        side = Side(
            self._side.method, models, self.nan_policy, "rdms", axes=("model",), n_threads=n_threads
        )
        rho, undefined = self._side.method.similarity(side, self._side, n_threads)
        if undefined is not None:
            warn_undefined(self._side.method, undefined, side, self._side)
        score = _score(
            rho.reshape(len(models), self.n_subjects, self.n_times),
            squared=self.protocol.squared,
            ceiling=self._ceilings(models),
        )
        if not math.isnan(self.ceiling):
            unknown = np.isnan(score.ceiling) & ~np.isnan(score.value)
            if unknown.any():
                self._warn_unknown(unknown)
        return score

    def _as_models(self, rdms: Any) -> Floats:
        array = as_rdms(rdms, "rdms")
        n, pairs = self.n_conditions, self.n_pairs
        if array.ndim >= 2 and array.shape[-2:] == (n, n) and n == pairs and array.ndim == 2:
            raise ValueError(
                f"rdms with shape {array.shape} may be one square RDM or {n} condensed ones; pass 3 axes"
            )
        square = array.shape[-2:] == (n, n) and array.ndim in (2, 3)
        if square:
            array = _condense(array)
        elif array.ndim not in (1, 2) or array.shape[-1] != pairs:
            raise ValueError(
                f"rdms has shape {array.shape}; the target {self.name or ''} has {n} conditions, so expected"
                f" ({n}, {n}), ({pairs},), (models, {n}, {n}) or (models, {pairs})".replace(
                    "  ", " "
                )
            )
        labels = rdm_labels(rdms, "rdms", square=square)
        if labels is not None:
            labels.check(self.labels)
        return contiguous(array if array.ndim == 2 else array[None])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the target to a file that `load` maps, with the labels of its conditions or pairs.

        Parameters
        ----------
        path : path-like
            The file. It appears, or takes the place of what is there, when it is complete.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        path = Path(path)
        arrays: dict[str, NDArray[Any]] = {"subjects": self._subjects}
        if not self._gaps:
            whole = self._side.whole
            arrays |= {"values": whole.values, "squares": whole.squares}
        header, body = _pack(
            arrays,
            {
                "protocol": self.protocol.facts(),
                "ceiling": self.ceiling,
                "is_computed": self._is_computed,
                "tie_bound": self.tie_bound,
                "name": self.name,
                "nan_policy": self.nan_policy,
                "labels": None if self.labels is None else asdict(self.labels),
            },
        )
        with new_file(path) as file:
            for part in (header, *body):
                file.write(part)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Map a target that was saved: its arrays stay in the file, whose pages all processes share.

        Parameters
        ----------
        path : path-like
            The file. As long as the target is in use it must not be written to; `save` puts a new one in its place.

        Returns
        -------
        Target
            The same scores, bit for bit, as the one that was saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no target, damaged, truncated, or written by a later version of fastrdm; if its ceiling is above 1;
            or if an earlier version wrote it for ``net2brain`` with several time points, whose ceiling was not that
            of RDMs averaged over time.

        Notes
        -----
        Files of earlier versions do not say whether their ceiling was computed, so it counts as given.
        """
        source, facts, arrays = _read(Path(path))
        protocol = Protocol(**facts["protocol"])
        if (
            protocol.name == "net2brain"
            and facts["version"] < 2
            and arrays["subjects"].shape[1] > 1
        ):
            raise ValueError(
                f"{path} was saved by an earlier fastrdm, whose net2brain ceiling of several time points was not of"
                " RDMs averaged over time; make the target again from its subjects"
            )
        if not math.isnan(facts["ceiling"]):
            _check_ceiling(facts["ceiling"], f"{facts['name'] or 'the target'} in {path}", protocol)
        self = cls.__new__(cls)
        prepared = Prepared(arrays["values"], arrays["squares"]) if "values" in arrays else None
        self._set(
            arrays["subjects"],
            protocol,
            facts["name"],
            facts["nan_policy"],
            facts.get("tie_bound", FLOAT64),
            Labels.of(facts.get("labels")),
            prepared,
            source,
        )
        self._set_ceiling(facts["ceiling"], facts.get("is_computed", False))
        return self

    @property
    def _gaps(self) -> bool:
        return not self._side.is_whole

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is not None:
            return _load_unchanged, (type(self), self._source)
        state = (
            np.array(self._subjects),
            self.protocol,
            self.name,
            self.nan_policy,
            self.tie_bound,
            self.labels,
        )
        return _rebuild, (type(self), state, self.ceiling, self._is_computed)


def _rebuild(
    kind: type[Target],
    state: tuple[Floats, Protocol, str | None, str, float, Labels | None],
    ceiling: float,
    is_computed: bool,
) -> Target:
    target = kind.__new__(kind)
    target._set(*state)
    target._set_ceiling(ceiling, is_computed)
    return target


def _check_ceiling(ceiling: float, name: str | None, protocol: Protocol) -> None:
    named = f"the ceiling of {name or 'the target'}"
    if not (np.isfinite(ceiling) and ceiling > 0):
        raise ValueError(f"{named} must be a positive number, got {ceiling}")
    if ceiling > 1:
        kind = "squared correlation" if protocol.squared else "correlation"
        percent = f"; it looks like percent, so pass {ceiling / 100:g}" if ceiling <= 100 else ""
        raise ValueError(f"{named} is {ceiling:g}, but a {kind} is at most 1{percent}")


@dataclass(frozen=True)
class _Source:
    """A file, and the checksum of what was in it."""

    path: str
    checksum: int


def _load_unchanged(kind: type[Target], source: _Source) -> Target:
    try:
        target = kind.load(source.path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{source.path} is gone: the pickled target was loaded from it, and holds but its path"
        ) from None
    if target._source != source:
        raise ValueError(
            f"{source.path} holds another target than the pickled one, which was loaded from it"
        )
    return target


def _pack(
    arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
) -> tuple[bytes, list[bytes | memoryview]]:
    body: list[bytes | memoryview] = []
    entries, checksum, offset = {}, 0, 0
    for name, array in arrays.items():
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        padding = bytes(-array.nbytes % _ALIGNMENT)
        entries[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
        for part in (array.reshape(-1).view(np.uint8).data, padding):
            body.append(part)
            checksum = zlib.crc32(part, checksum)
            offset += len(part)
    facts = {"arrays": entries, "size": offset, "checksum": checksum, **facts}
    text = json.dumps({"version": _VERSION, **facts}).encode()
    before = len(_MAGIC) + 17
    text += b" " * (-(before + len(text)) % _ALIGNMENT)
    return _MAGIC + b"%08x%08x\n" % (len(text), zlib.crc32(text)) + text, body


def _read(path: Path) -> tuple[_Source, dict[str, Any], dict[str, NDArray[Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 17)
        if not head.startswith(_MAGIC):
            raise ValueError(f"{path} is no target that fastrdm saved")
        try:
            size, checksum = (int(head[len(_MAGIC) + at :][:8], 16) for at in (0, 8))
        except ValueError:
            raise ValueError(f"{path} is damaged, or not all of it is there") from None
        text = file.read(size)
    if len(text) != size or zlib.crc32(text) != checksum:
        raise ValueError(f"{path} is damaged, or not all of it is there")
    facts = json.loads(text)
    if facts["version"] > _VERSION:
        raise ValueError(
            f"{path} was saved by a later fastrdm, in version {facts['version']} of the format; this one reads up to"
            f" {_VERSION}"
        )
    begin = len(head) + size
    if path.stat().st_size != begin + facts["size"]:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes instead of {begin + facts['size']}: it is damaged, or not all of"
            " it is there"
        )
    mapped = np.memmap(path, np.uint8, "r", begin)
    if zlib.crc32(mapped.data) != facts["checksum"]:
        raise ValueError(f"{path} is damaged: its numbers are not those that were saved")
    arrays = {}
    for name, entry in facts["arrays"].items():
        kind, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        count = int(np.prod(shape))
        part = mapped[entry["offset"] : entry["offset"] + count * kind.itemsize]
        arrays[name] = np.asarray(part.view(kind).reshape(shape))
    return _Source(str(path.resolve()), facts["checksum"]), facts, arrays


def _condense(rdms: NDArray[Any]) -> NDArray[Any]:
    """As `condense`, which needs memory for several copies, some RDMs at a time."""
    n = rdms.shape[-1]
    if rdms.size <= _AT_ONCE or rdms.ndim == 2:
        return checked_triangle(rdms, "rdms")
    out = np.empty((len(rdms), n * (n - 1) // 2), rdms.dtype)
    step = max(1, _AT_ONCE // n**2)
    for start in range(0, len(rdms), step):
        out[start : start + step] = upper_triangle(rdms[start : start + step], "rdms")
    warn_similarities(rdms, "rdms")
    return out


def _score(similarities: Floats, *, squared: bool, ceiling: Floats) -> Score:
    n = similarities.shape[1]
    # Of these few numbers, methods of arrays take longer than the arithmetic.
    rho = similarities[:, :, 0]
    if similarities.shape[2] > 1:
        rho = np.add.reduce(similarities, axis=2) / similarities.shape[2]
    squares = rho * rho
    r2, mean_rho = np.add.reduce(squares, axis=1) / n, np.add.reduce(rho, axis=1) / n
    values, value = (squares, r2) if squared else (rho, mean_rho)
    deviations = values - value[:, None]
    spread = np.einsum("ij,ij->i", deviations, deviations)
    sample_std = np.sqrt(spread / (n - 1)) if n > 1 else np.full(len(rho), np.nan)
    return Score(
        rho=rho,
        r2=r2,
        value=value,
        std=np.sqrt(spread / n),
        sample_std=sample_std,
        p=_t_test(value, sample_std, n),
        percent_nc=value * (100 / ceiling),
        ceiling=ceiling,
        mean_rho=mean_rho,
    )


def _t_test(mean: Floats, sample_std: Floats, n: int) -> Floats:
    """Two-sided p of the one-sample t-test against 0."""
    # Imported here: it takes longer than the rest of the package.
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean * math.sqrt(n) / sample_std
    p: NDArray[np.float64] = 2 * stdtr(n - 1, -np.abs(t))
    return p
