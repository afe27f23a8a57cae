"""Which of rsatoolbox's functions evaluations replace: (module, name) → function."""

from collections.abc import Callable
from typing import Any

from fastrdm.interop.rsatoolbox.bootstraps import (
    eval_bootstrap,
    eval_bootstrap_pattern,
    eval_bootstrap_rdm,
)
from fastrdm.interop.rsatoolbox.cross_validation import (
    FOLDS,
    bootstrap_crossval,
    eval_dual_bootstrap,
)
from fastrdm.interop.rsatoolbox.evaluation import eval_fixed
from fastrdm.interop.rsatoolbox.searchlights import (
    evaluate_models_searchlight,
    get_searchlight_RDMs,
)

EVALUATIONS: dict[tuple[str, str], Callable[..., Any]] = {
    **FOLDS,
    ("inference.evaluate", "bootstrap_crossval"): bootstrap_crossval,
    ("inference.evaluate", "eval_bootstrap"): eval_bootstrap,
    ("inference.evaluate", "eval_bootstrap_pattern"): eval_bootstrap_pattern,
    ("inference.evaluate", "eval_bootstrap_rdm"): eval_bootstrap_rdm,
    ("inference.evaluate", "eval_dual_bootstrap"): eval_dual_bootstrap,
    ("inference.evaluate", "eval_fixed"): eval_fixed,
    ("util.searchlight", "evaluate_models_searchlight"): evaluate_models_searchlight,
    ("util.searchlight", "get_searchlight_RDMs"): get_searchlight_RDMs,
}
