"""The tables of a `study.toml` under targets: the files of each region become what scoring needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrdm._base import read_column, read_lines
from fastrdm.encoding import Responses
from fastrdm.images import name_in
from fastrdm.similarity import Target
from fastrdm.studies.chosen_measures import ROOTS, chosen_measures
from fastrdm.studies.condition_labels import check_order, in_order, order_of
from fastrdm.studies.rdm_files import StoredRdms
from fastrdm.studies.region_data import RegionData, grams_of_distances, grams_of_responses
from fastrdm.studies.response_fields import SCORE_OPTIONS, protocols_of
from fastrdm.studies.response_regions import ResponseFiles
from fastrdm.studies.response_targets import make_response_target
from fastrdm.studies.stimuli import StimulusNames
from fastrdm.studies.study import Report
from fastrdm.studies.targets import make_target, stored_rdms

#: The order of the condition labels in the files of the targets.
OF_TARGETS = "targets"


@dataclass(frozen=True)
class RegionReader:
    """Reads the regions of a study.

    `file` is the `study.toml`, and `fields` are its fields. `asked` are the measures that are asked for, None for the
    study's own.
    """

    file: Path
    fields: Mapping[str, Any]
    asked: Sequence[str] | None = None

    def order(self, names: StimulusNames) -> tuple[Path, ...]:
        """Return the stimuli in the order of the first region's labels."""
        region = next(iter(self.fields["targets"]))
        where = f'{self._where(region)}: order = "targets"'
        if "responses" in self.fields["targets"][region]:
            return names.choose(self._files(region).order(names), where)
        return names.choose(order_of(self._stored(region, None), names, where), where)

    def read(
        self,
        region: str,
        stimuli: Sequence[Path],
        names: StimulusNames,
        left_out: Callable[[], str],
        report: Report | None,
    ) -> RegionData:
        """Read a region; `left_out` may explain a wrong number of stimuli.

        With `report`, NaN and an invalid ceiling are reported, and the region is read as under "omit", and with a
        ceiling of 1.
        """
        if "responses" in self.fields["targets"][region]:
            return self._of_responses(region, stimuli, names, left_out, report)
        return self._of_rdms(region, stimuli, names, left_out, report)

    def _where(self, region: str) -> str:
        return f"{self.file}: targets.{region}"

    def _policy(self, region: str) -> str:
        own = self.fields["targets"][region].get("nan_policy")
        return str(own or self.fields.get("nan_policy", "raise"))

    def _measures(self, region: str) -> tuple[str, ...]:
        table = self.fields["targets"][region]
        return chosen_measures(table, self.fields.get("measures"), self.asked)

    # Responses

    def _files(self, region: str) -> ResponseFiles:
        table = self.fields["targets"][region]
        return ResponseFiles(region, table, self.file.parent, f"{self._where(region)}.")

    def _of_responses(
        self,
        region: str,
        stimuli: Sequence[Path],
        names: StimulusNames,
        left_out: Callable[[], str],
        report: Report | None,
    ) -> RegionData:
        table, where, policy = (
            self.fields["targets"][region],
            self._where(region),
            self._policy(region),
        )
        measures = self._measures(region)
        files = self._files(region)
        found = files.responses(stimuli, names, left_out)
        target = None
        if "rsa" in measures:
            folder = self.file.parent
            target = make_response_target(
                found, region, table, folder, where, policy, files.times, report
            )
        return RegionData(
            measures,
            files.source,
            found.measured.names,
            target,
            # NaN is either refused or omitted: there is nothing to which a unit could propagate it.
            Responses(
                found.measured, name=region, nan_policy="raise" if policy == "raise" else "omit"
            ),
            grams_of_responses(found.measured, where, required=_needs_grams(measures)),
            self._options(region, len(stimuli)),
            found.facts,
            protocols_of(table, f"{where}.")[1],
        )

    def _options(self, region: str, n_stimuli: int) -> dict[str, Any]:
        """Arguments of `Responses.score`; labels of conditions are columns of the file of the order."""
        table = self.fields["targets"][region]
        options = {name: table[name] for name in SCORE_OPTIONS if name in table}
        for name in ("folds", "groups", "strata"):
            if isinstance(column := options.get(name), str):
                options[name] = self._column(column, f"{self._where(region)}.{name}", n_stimuli)
        return options

    def _column(self, column: str, where: str, n_stimuli: int) -> list[str]:
        order = self.fields["order"]
        file = self.file.parent / order
        found = None
        if file.suffix.lower() == ".csv" and file.is_file():
            lines = read_lines(file, str(file))
            found = read_column(lines, column, str(file))
        if found is None:
            raise ValueError(
                f"{where} = {column!r} must be a column of the .csv file in order, with a label for each stimulus, but"
                f" order = {order!r} has none"
            )
        named = read_column(lines, "stimulus", str(file)) or []
        labels = [label.strip() for label, name in zip(found, named, strict=True) if name.strip()]
        if len(labels) != n_stimuli or not all(labels):
            raise ValueError(f"{where} = {column!r}: the column lacks a label for some stimuli")
        return labels

    # RDMs

    def _of_rdms(
        self,
        region: str,
        stimuli: Sequence[Path],
        names: StimulusNames,
        left_out: Callable[[], str],
        report: Report | None,
    ) -> RegionData:
        where, order = self._where(region), self.fields["order"]
        policy = self._policy(region)
        if report is None:
            stored = self._stored(region, len(stimuli))
        else:
            stored, policy = self._examined(region, len(stimuli), report)
        if stored.n_conditions != len(stimuli):
            raise ValueError(
                f"{where}.file: {stored.source} has {stored.n_conditions} conditions, but the study has"
                f" {len(stimuli)} stimuli{left_out()}"
            )
        if order == OF_TARGETS:
            own = order_of(stored, names, f'{where}: order = "targets"')
            wanted = [name_in(path, names.folder) for path in stimuli]
            stored = in_order(stored, own, wanted, where)
        else:
            check_order(stored, stimuli, names, where, order)
        target = self._target(region, stored, policy, report)
        measures = self._measures(region)
        grams: tuple[Any, ...] = ()
        if _needs_grams(measures) and self.fields["targets"][region].get("rdm") in ROOTS:
            grams = grams_of_distances(target, where)
        return RegionData(measures, stored.source, stored.names, target, grams=grams)

    def _target(
        self, region: str, stored: StoredRdms, policy: str, report: Report | None
    ) -> Target:
        fields, where = self.fields["targets"][region], self._where(region)
        try:
            return make_target(stored, region, fields, where, policy)
        except ValueError as error:
            if report is None:
                raise
            report(region, str(error))
        return make_target(stored, region, {**fields, "ceiling": 1.0}, where, policy)

    def _stored(
        self, region: str, n_conditions: int | None, nan_policy: str | None = None
    ) -> StoredRdms:
        fields, where = self.fields["targets"][region], self._where(region)
        policy = nan_policy or self._policy(region)
        return stored_rdms(fields, self.file.parent, where, policy, n_conditions)

    def _examined(self, region: str, n_conditions: int, report: Report) -> tuple[StoredRdms, str]:
        """Read the RDMs of a target, and return the policy for NaN; NaN is reported and kept."""
        policy = self._policy(region)
        try:
            return self._stored(region, n_conditions), policy
        except ValueError as error:
            try:
                stored = self._stored(region, n_conditions, "omit")
            except ValueError:
                raise error from None
            report(
                region,
                f'{self._where(region)}: {error}; nan_policy = "omit" leaves such pairs out, as this check does',
            )
            return stored, "omit"


def _needs_grams(measures: Sequence[str]) -> bool:
    return any(measure.startswith("cka") for measure in measures)
