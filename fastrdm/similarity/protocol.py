"""Conventions of scoring in the field, as named presets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from fastrdm._base import choose


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
