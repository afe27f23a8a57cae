"""Files that `score` writes beside its table: checked before work, so that nothing computed is lost."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from fastrdm._base import check_writable_file, one_line
from fastrdm.cli.printing import complain
from fastrdm.scoring import CheckpointScores, Result, csv_cells
from fastrdm.studies import Study, synthetic_notice

_CSV_ENDINGS = ("", ".csv", ".txt")


class ResultsCsv:
    """A file of results, a row for each layer and region; a column for each label and for each subject's rho.

    With several networks, it has columns of their settings too.

    The file is made, or an older one replaced, when the first results come.
    """

    def __init__(
        self,
        path: str | Path,
        labels: Sequence[str],
        studies: Sequence[Study],
        raw_cells: bool = False,
    ) -> None:
        self.path, self._raw_cells = Path(path), raw_cells
        if self.path.suffix.lower() not in _CSV_ENDINGS:
            raise ValueError(f"--csv: {path} does not end in .csv")
        check_writable_file(path, "--csv")
        n = max(map(_most_subjects, studies))
        fields = [field.name for field in dataclasses.fields(Result) if field.name != "rho"]
        self._columns = [*fields, *(f"rho_{i}" for i in range(n)), *labels]
        self._file: IO[str] | None = None

    def write(self, scored: CheckpointScores) -> None:
        """Add the results of a checkpoint."""
        if self._file is None and scored.settings:
            self._columns += scored.settings
        file = self._open()
        writer = csv.writer(file)
        for result in scored.results:
            row: dict[str, Any] = dataclasses.asdict(result)
            subjects = {f"rho_{i}": value for i, value in enumerate(row.pop("rho"))}
            values = row | subjects | dict(scored.settings) | dict(scored.labels)
            cells = [values.get(name, "") for name in self._columns]
            writer.writerow(csv_cells(cells, self._raw_cells))
        file.flush()

    def _open(self) -> IO[str]:
        if self._file is None:
            self._file = self.path.open("w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow(csv_cells(self._columns, self._raw_cells))
        return self._file

    def close(self) -> None:
        """Close the file; without results it has only the header."""
        self._open().close()


def ceilings_of(studies: Sequence[Study]) -> dict[tuple[str, str], tuple[float, float]]:
    """Lower and upper bound of the noise ceiling of each study and region with RDMs, for figures.

    Regions whose ceiling is given, and not computed, have none.
    """
    return {
        (study.name, region): (target.noise_ceiling.lower, target.noise_ceiling.upper)
        for study in studies
        for region, target in study.targets.items()
        if target.is_computed and target.n_subjects > 1
    }


def _most_subjects(study: Study) -> int:
    """The number of subjects of the region that has most."""
    of_targets = (target.n_subjects for target in study.targets.values())
    of_responses = (int(responses.n_subjects) for responses in study.responses.values())
    return max([*of_targets, *of_responses, *map(len, study.grams.values())])


class ScoreFiles:
    """The CSV file and the figure of `score`; a file that cannot be written is reported and stops nothing."""

    def __init__(
        self,
        csv_path: str | None,
        figure: str | None,
        labels: Sequence[str],
        studies: Sequence[Study],
        raw_cells: bool = False,
    ) -> None:
        if csv_path and figure and Path(csv_path).resolve() == Path(figure).resolve():
            raise ValueError(f"--csv and --figure are the same file, {figure}")
        self._csv = ResultsCsv(csv_path, labels, studies, raw_cells) if csv_path else None
        self._figure, self._notice = figure, synthetic_notice(studies)
        self._studies = studies
        self._results: list[Result] = []
        self.failed = False
        if figure:
            from fastrdm.plot import check_figure

            check_figure(figure, "--figure")
            check_writable_file(figure, "--figure")

    def add(self, scored: CheckpointScores) -> None:
        """Add the results of a checkpoint."""
        if self._figure:
            self._results += scored.results
        try:
            if self._csv and scored.results:
                self._csv.write(scored)
        except OSError as error:
            self._report(self._csv and self._csv.path, error)
            self._csv = None

    def finish(self) -> None:
        """Close the CSV file and draw the figure."""
        if self._csv:
            try:
                self._csv.close()
            except OSError as error:
                self._report(self._csv.path, error)
        if self._figure and self._results:
            from fastrdm.plot import plot_scores

            # matplotlib's errors have many types.
            try:
                path = plot_scores(
                    self._results, self._figure, self._notice, ceilings=ceilings_of(self._studies)
                )
                complain(f"wrote {path}")
            except Exception as error:
                self._report(self._figure, error)

    def _report(self, path: object, error: Exception) -> None:
        self.failed = True
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        )
        complain(f"fastrdm: error: {path} cannot be written: {reason}")
