"""Scores compared with the published ones."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from models.study.network_scores import NetworkScores

Key = tuple[str, str, str]

_QUANTITIES = ("evc", "it", "score")


@dataclass(frozen=True)
class Published:
    """The published table: network, study and layer → EVC, IT and their score, in percent of the noise ceiling."""

    values: Mapping[Key, tuple[float, float, float]]

    PATH: ClassVar = "published/replication_fmri.csv"
    """The table in the folder of the challenge's data."""

    @classmethod
    def find(cls, root: str | Path, path: str | Path | None = None) -> "Published | None":
        """Read the table at `path`, or that in a data folder; return None if the folder has none."""
        if path is not None:
            return cls.read(path)
        path = Path(root) / cls.PATH
        return cls.read(path) if path.is_file() else None

    @classmethod
    def read(cls, path: str | Path) -> "Published":
        """Read a table with the columns of `replication_fmri.csv`; raise ValueError for any other file."""
        path = Path(path)
        values = {}
        with path.open(newline="", encoding="utf-8") as file:
            try:
                for row in csv.DictReader(file):
                    key = (row["network"], row["image_set"], row["layer"])
                    evc, it, score = (float(row[f"{q}_percent_nc"]) for q in _QUANTITIES)
                    values[key] = (evc, it, score)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is not a table of published scores: {error!r}") from None
        return cls(values)

    def best(self, network: str, studies: Sequence[str]) -> str:
        """Return a network's layer with the best mean score over studies; empty if no layer has all scores."""
        layers = dict.fromkeys(layer for name, _, layer in self.values if name == network)
        means = {
            layer: np.mean([self.values[network, study, layer][2] for study in studies])
            for layer in layers
            if all((network, study, layer) in self.values for study in studies)
        }
        return max(means, key=means.__getitem__, default="")


def rows(
    scores: Iterable[NetworkScores], published: Published | None, studies: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a table with a row for each network, study and layer.

    Scores with an error have one row, with the error as `note`. Values are EVC, IT and their score in percent of the
    noise ceiling, each with the published value and the difference; standard deviations of the score over subjects; p
    and mean similarity of each region. Unknown values are None. `studies` are those by which layers are chosen.
    """
    table = []
    for each in scores:
        if each.error:
            table.append(_row(each.name, note=each.error))
            continue
        chosen = published.best(each.name, studies) if published else ""
        for study, layer in dict.fromkeys((r.study, r.layer) for r in each.results):
            score = each.score(study, layer)
            row = _row(
                each.name,
                study=study,
                layer=layer,
                best=layer == each.best,
                published_best=layer == chosen if chosen else None,
                score=score.percent,
                score_std=score.std,
                score_sample_std=score.sample_std,
            )
            for r in each.results:
                if (r.study, r.layer) == (study, layer) and r.region in _QUANTITIES[:2]:
                    row |= {r.region: r.percent_nc, f"{r.region}_p": r.p}
                    row[f"{r.region}_rho"] = r.mean_rho
            reference = published.values.get((each.name, study, layer)) if published else None
            for quantity, value in zip(_QUANTITIES, reference or (), strict=False):
                if row[quantity] is not None:
                    row[f"{quantity}_published"] = value
                    row[f"{quantity}_difference"] = row[quantity] - value
            table.append(row)
    return table


def _row(network: str, **known: Any) -> dict[str, Any]:
    columns = ["network", "study", "layer", "best", "published_best"]
    for quantity in _QUANTITIES:
        columns += [quantity, f"{quantity}_published", f"{quantity}_difference"]
    columns += ["score_std", "score_sample_std", "evc_p", "it_p", "evc_rho", "it_rho", "note"]
    return dict.fromkeys(columns) | {"network": network, **known}
