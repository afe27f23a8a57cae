"""Scores beside those that were published, with the differences."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.study.network_scores import NetworkScores

Key = tuple[str, str, str]

_QUANTITIES = ("evc", "it", "score")


@dataclass(frozen=True)
class Published:
    """The published table: percent of the noise ceiling by network, image set and layer.

    Attributes
    ----------
    values : mapping of (str, str, str) to (float, float, float)
        Network, image set and layer → EVC, IT, and their score.
    """

    values: Mapping[Key, tuple[float, float, float]]

    @classmethod
    def read(cls, path: str | Path) -> "Published":
        """Read a table with the columns of `replication_fmri.csv`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If a column is missing, or a value is no number.
        """
        path = Path(path)
        values = {}
        with path.open(newline="", encoding="utf-8") as file:
            try:
                for row in csv.DictReader(file):
                    key = (row["network"], row["image_set"], row["layer"])
                    evc, it, score = (float(row[f"{q}_percent_nc"]) for q in _QUANTITIES)
                    values[key] = (evc, it, score)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is no table of published scores: {error!r}") from None
        return cls(values)

    def best(self, network: str, sets: Sequence[str]) -> str:
        """The layer of a network with the best mean score over image sets; empty where one is unknown."""
        layers = dict.fromkeys(layer for name, _, layer in self.values if name == network)
        means = {
            layer: np.mean([self.values[network, each, layer][2] for each in sets])
            for layer in layers
            if all((network, each, layer) in self.values for each in sets)
        }
        return max(means, key=means.__getitem__, default="")


def rows(
    scores: Iterable[NetworkScores], published: Published | None, sets: Sequence[str]
) -> list[dict[str, Any]]:
    """One row for each network, image set and layer.

    Parameters
    ----------
    scores : iterable of NetworkScores
        Those with an error have one row, whose `note` it is.
    published : Published, optional
        What to compare with.
    sets : sequence of str
        The image sets that layers are chosen by.

    Returns
    -------
    list of dict
        Percent of the noise ceiling for EVC, IT and their score, with the published value and the
        difference to it, standard deviations of the score over subjects, p of the regions, and their
        mean similarities; None where something is not known.
    """
    table = []
    for each in scores:
        if each.error:
            table.append(_row(each.name, note=each.error))
            continue
        chosen = published.best(each.name, sets) if published else ""
        for study, layer in dict.fromkeys((r.set, r.layer) for r in each.results):
            score = each.score(study, layer)
            regions = {r.region: r for r in each.results if (r.set, r.layer) == (study, layer)}
            own = [regions[q].percent_nc if q in regions else None for q in _QUANTITIES[:2]]
            theirs = published.values.get((each.name, study, layer)) if published else None
            row = _row(
                each.name,
                image_set=study,
                layer=layer,
                best=layer == each.best,
                published_best=layer == chosen if chosen else None,
                score_std=score.std,
                score_sample_std=score.sample_std,
            )
            for i, (quantity, value) in enumerate(
                zip(_QUANTITIES, [*own, score.percent], strict=True)
            ):
                row[quantity] = value
                if theirs is not None and value is not None:
                    row[f"{quantity}_published"] = theirs[i]
                    row[f"{quantity}_difference"] = value - theirs[i]
            for quantity, region in regions.items():
                if f"{quantity}_p" in row:
                    row[f"{quantity}_p"] = region.p
                    row[f"{quantity}_rho"] = region.mean_rho
            table.append(row)
    return table


def markdown(table: Sequence[Mapping[str, Any]], header: Mapping[str, str]) -> str:
    """A table of rows in Markdown, under a header of key → heading; numbers with two places."""
    lines = [header.values(), ["---"] * len(header)]
    lines += [[cell(row[key], key) for key in header] for row in table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: Any, key: str) -> str:
    """A value for people: differences with their sign, p in powers of ten, ‡ at a mean ρ below 0, nothing for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if key.endswith("_p"):
        return f"{value:.1e}"
    if key.endswith("_rho"):
        return f"{value:+.3f}{' ‡' if value < 0 else ''}"
    return f"{value:+.2f}" if key.endswith("_difference") else f"{value:.2f}"


def _row(network: str, **known: Any) -> dict[str, Any]:
    columns = ["network", "image_set", "layer", "best", "published_best"]
    for quantity in _QUANTITIES:
        columns += [quantity, f"{quantity}_published", f"{quantity}_difference"]
    columns += ["score_std", "score_sample_std", "evc_p", "it_p", "evc_rho", "it_rho", "note"]
    return dict.fromkeys(columns) | {"network": network, **known}
