"""Conventions of scoring in the field, as named presets; similarities to subjects → scores."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from fastrdm._base import choose
from fastrdm.similarity.numerics import Floats
from fastrdm.tensors import in_kind

AnyScore = TypeVar("AnyScore", bound="Score")


@dataclass(frozen=True)
class Protocol:
    """Convention for scoring a model RDM against subjects.

    Attributes
    ----------
    name : str
        Name of the convention.
    method : str
        Similarity of RDMs, as in `compare`.
    squared : bool
        Whether a subject's value is the squared similarity. Similarities at several time points are averaged within
        the subject before.
    pool : str
        How the ceiling pools subjects: ``"raw"`` or ``"rank"``, as in `noise_ceiling`.
    bound : str
        The bound that scores are divided by: ``"lower"`` or ``"upper"``.
    source : str
        Reference for the convention.
    average_times : bool
        Whether the ceiling is computed from RDMs averaged over time, as in `noise_ceiling`. Scores always use
        similarities averaged over time.
    """

    name: str
    method: str
    squared: bool
    pool: str
    bound: str
    source: str
    average_times: bool = False

    def facts(self) -> dict[str, Any]:
        """Return the fields as plain values; `average_times` only if it is set, as in older files."""
        facts = asdict(self)
        if not self.average_times:
            del facts["average_times"]
        return facts


#: Protocols of the challenge and of other programs, by name: how similarities become scores. The names are
#: "algonauts2019", "rsatoolbox", "net2brain" and "brainscore".
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        p.name: p
        for p in (
            Protocol(
                "algonauts2019",
                "spearman",
                squared=True,
                pool="raw",
                bound="upper",
                source="Cichy et al. 2019, arXiv:1905.05675, and the challenge's scorer",
            ),
            Protocol(
                "rsatoolbox",
                "spearman",
                squared=False,
                pool="rank",
                bound="lower",
                source="rsatoolbox 0.3, rsatoolbox.inference.boot_noise_ceiling; it reports both bounds and divides"
                " by neither, the percentage here is of the lower one",
            ),
            Protocol(
                "net2brain",
                "spearman",
                squared=True,
                pool="raw",
                bound="lower",
                source="Bersch et al. 2022, arXiv:2208.09677, and Net2Brain's evaluations/rsa.py and noiseceiling.py:"
                " over time, the ceiling is of RDMs averaged over time, the score the mean of the correlations",
                average_times=True,
            ),
            Protocol(
                "brainscore",
                "spearman",
                squared=False,
                pool="raw",
                bound="upper",
                source="Schrimpf et al. 2020, Neuron 108(3), and Brain-Score's RSABenchmark and metrics/rsa_ceiling;"
                " other benchmarks of Brain-Score score otherwise: Bracci2019 divides by the lower bound, Coggan2024"
                " takes Pearson's r and reports (r / lower bound)², other neural benchmarks r² / ceiling",
            ),
        )
    }
)


def get_protocol(protocol: str | Protocol) -> Protocol:
    """Return the preset of this name, or the protocol itself; ValueError for an unknown name."""
    if isinstance(protocol, Protocol):
        return protocol
    return choose(protocol, PROTOCOLS, "protocol")


@dataclass(frozen=True)
class Score:
    """Scores of models against one target.

    Attributes
    ----------
    rho : ndarray, shape (n_models, n_subjects)
        Similarity to each subject, averaged over time points if there are several.
    r2 : ndarray, shape (n_models,)
        Mean over subjects of `rho` squared.
    value : ndarray, shape (n_models,)
        The protocol's score: `r2`, or the mean of `rho` if the protocol does not square.
    std, sample_std : ndarray, shape (n_models,)
        Standard deviation over subjects of the protocol's per-subject values (`rho` squared or `rho`): of the
        population (divided by the number of subjects n), and of the sample (divided by n − 1; NaN for one subject).
    p : ndarray, shape (n_models,)
        Two-sided one-sample t-test of those values against 0, as `scipy.stats.ttest_1samp`; NaN for one subject.
        This is the challenge's test. Squares are never negative, so it says little if the protocol squares.
    percent_nc : ndarray, shape (n_models,)
        100 × `value` / `ceiling`.
    ceiling : ndarray, shape (n_models,)
        Noise ceiling over the pairs that the model has; NaN if unknown.
    mean_rho : ndarray, shape (n_models,)
        Mean over subjects of `rho`. If it is below 0, the model orders pairs in the opposite way to the brain, however
        high `r2` is.
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


def scores_in_kind(score: AnyScore, like: Any) -> AnyScore:
    """Return scores whose arrays are of the kind of `like`."""
    if like is None:
        return score
    arrays = {name: value for name, value in vars(score).items() if isinstance(value, np.ndarray)}
    return replace(score, **{name: in_kind(value, like) for name, value in arrays.items()})


def score_similarities(similarities: Floats, *, squared: bool, ceiling: Floats) -> Score:
    """Return the scores of similarities (models, subjects, times), given a ceiling for each model."""
    # Imported here because it takes longer than the rest of the package.
    from scipy.special import stdtr

    n = similarities.shape[1]
    # For so few numbers, array methods take longer than the arithmetic.
    rho = similarities[:, :, 0]
    if similarities.shape[2] > 1:
        rho = np.add.reduce(similarities, axis=2) / similarities.shape[2]
    squares = rho * rho
    r2, mean_rho = np.add.reduce(squares, axis=1) / n, np.add.reduce(rho, axis=1) / n
    values, value = (squares, r2) if squared else (rho, mean_rho)
    deviations = values - value[:, None]
    spread = np.einsum("ij,ij->i", deviations, deviations)
    sample_std = np.sqrt(spread / (n - 1)) if n > 1 else np.full(len(rho), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = value * math.sqrt(n) / sample_std
    return Score(
        rho=rho,
        r2=r2,
        value=value,
        std=np.sqrt(spread / n),
        sample_std=sample_std,
        p=np.asarray(2 * stdtr(n - 1, -np.abs(t))),
        percent_nc=value * (100 / ceiling),
        ceiling=ceiling,
        mean_rho=mean_rho,
    )
