"""A study: stimuli, and the brains that saw them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fastrdm.similarity import Target


@dataclass(frozen=True)
class Study:
    """Stimuli and targets with the same conditions in the same order.

    Attributes
    ----------
    name : str
        Name under which results are stored.
    stimuli : tuple of Path
        One image per condition, in the order of the targets' rows.
    targets : dict of str to Target
        By region.
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


def synthetic_notice(studies: Iterable[Study]) -> str:
    """A notice that names the studies with simulated brain data; empty if there are none."""
    names = ", ".join(study.name for study in studies if study.synthetic)
    return f"SYNTHETIC DATA ({names}): simulated subjects, no brains" if names else ""
