"""A study: stimuli, and the brains that saw them."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrdm.encoding import Responses
from fastrdm.rdm import Gram
from fastrdm.similarity import Target
from fastrdm.studies.response_facts import ResponseFacts

Region = TypeVar("Region")
# Takes the name of a region, or an empty string, and an error.
Report: TypeAlias = Callable[[str, str], None]


#: What a layer can be scored by, in the order of tables. "ridge" and "pls" need responses.
MEASURES = ("rsa", "cka", "cka-debiased", "ridge", "pls")


@dataclass(frozen=True)
class Study:
    """Stimuli, and the brains that saw them, with the same conditions in the same order.

    Attributes
    ----------
    name : str
        Name under which results are stored.
    stimuli : tuple of Path
        One image per condition, in the order of the targets' rows.
    targets : dict of str to Target
        By region, the subjects' RDMs, for "rsa". Regions that are scored by other measures alone may have none.
    description : str
        Free text.
    synthetic : bool
        Whether the brains are simulated; every output of such a study must say so.
    test_stimuli : tuple of Path
        Images without brain data, for a submission of the best layer's RDM; often none.
    truth : dict of str to str
        In a synthetic study, the layer from which each region was simulated.
    truth_network : str
        File name of the network with those layers.
    background : str or None
        The colour behind transparent pixels, as "#rrggbb"; None if images have none.
    folder : Path or None
        Folder to which the names of the stimuli are relative; None if unknown.
    order : str
        What the order of the stimuli comes from: "sorted", "natural", "targets" (the condition labels in the targets'
        files), or the file that lists them.
    unlisted : tuple of str
        Names of images in the folder that are not stimuli.
    sources : dict of str to str
        By region, the array and the file of the subjects' RDMs.
    subjects : dict of str to tuple of str
        By region, the names of the subjects, if the file has any.
    responses : dict of str to Responses
        By region, the subjects' responses, for "ridge" and "pls"; regions with RDMs alone have none.
    grams : dict of str to tuple of Gram
        By region, the Gram matrix of each subject, for "cka": of the responses averaged over repeats, or, from RDMs of
        distances that are not squared, centred products as an array (conditions, conditions). For other regions, "cka"
        takes the RDMs as squared distances.
    measures : dict of str to tuple of str
        By region, the measures that it is scored by, of `MEASURES`: "rsa" for a region without them that has a target,
        "ridge" for one that has responses alone.
    options : dict of str to dict
        By region, keyword arguments of `Responses.score`, such as folds, alphas and n_components; often none.
    facts : dict of str to ResponseFacts
        By region, what was understood of the files of its responses.
    conventions : dict of str to str
        By region, the name in `ENCODING_PROTOCOLS` of how "ridge" and "pls" are scored; others are scored by the median
        over units of r.
    """

    name: str
    stimuli: tuple[Path, ...]
    targets: dict[str, Target]
    description: str = ""
    synthetic: bool = False
    test_stimuli: tuple[Path, ...] = ()
    truth: dict[str, str] = field(default_factory=dict)
    truth_network: str = ""
    background: str | None = None
    folder: Path | None = None
    order: str = ""
    unlisted: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    responses: dict[str, Responses] = field(default_factory=dict)
    grams: dict[str, tuple[Gram | NDArray[np.float64], ...]] = field(default_factory=dict)
    measures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, ResponseFacts] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Give each region its measures."""
        measures = {
            region: self.measures.get(region, ("rsa",) if region in self.targets else ("ridge",))
            for region in {**self.measures, **self.targets, **self.responses}
        }
        object.__setattr__(self, "measures", measures)

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, with targets or with responses."""
        return tuple(self.measures)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stimuli: their paths relative to `folder`, or to the folder that holds them all."""
        folder = self.folder
        if folder is None:
            folder = Path(os.path.commonpath([path.absolute().parent for path in self.stimuli]))
        return tuple(Path(os.path.relpath(path, folder)).as_posix() for path in self.stimuli)


def collect_regions(
    read: Mapping[str, Callable[[], Region]], report: Report | None = None
) -> dict[str, Region]:
    """Read each region; with `report`, errors are passed to it, and these regions left out."""
    regions = {}
    for name, region in read.items():
        try:
            regions[name] = region()
        except (ValueError, OSError) as error:
            if report is None:
                raise
            report(name, str(error))
    return regions


def synthetic_notice(studies: Iterable[Study]) -> str:
    """A notice that names the studies with simulated brain data; empty if there are none."""
    names = ", ".join(study.name for study in studies if study.synthetic)
    return f"SYNTHETIC DATA ({names}): simulated subjects, no brains" if names else ""
