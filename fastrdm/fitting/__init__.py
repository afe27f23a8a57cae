"""Models of RDMs with parameters: fitted on some subjects, conditions or studies, judged on others.

In come RDMs of a network's layers and a target; out go weights, predicted RDMs, and scores on data that had no part in
the fit.

Read `models` first: one layer, the best layer, two neighbouring layers mixed, and a non-negative sum of all layers.
They are an `rdm_model`, which has the fit; what comes out is a `fitted` model. A fit needs products of layers alone
(`training`), and `nonnegative` solves many fits at once. `cross_validation` divides conditions and subjects into
`folds`; its result is `cross_validated`. `layer_rdms` reads the arguments.
"""

from fastrdm.fitting.cross_validated import CrossValidatedRdm
from fastrdm.fitting.cross_validation import cross_validate
from fastrdm.fitting.fitted import FittedRdm
from fastrdm.fitting.models import FixedRdm, InterpolatedRdm, SelectedRdm, WeightedRdm

__all__ = [
    "CrossValidatedRdm",
    "FittedRdm",
    "FixedRdm",
    "InterpolatedRdm",
    "SelectedRdm",
    "WeightedRdm",
    "cross_validate",
]
