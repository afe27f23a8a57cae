"""rsatoolbox's evaluations of models: its own functions, and fastrdm's with the same signatures and random draws."""

import contextlib
import importlib
import io
import warnings

import numpy as np

from bench.peers.contenders import Contender

# RDMs of models and subjects → evaluations and noise ceilings of rsatoolbox's Result, in one row.


def _models(kind, rdms):
    from rsatoolbox import model
    from rsatoolbox.rdm import RDMs

    if kind == "fixed":
        return [model.ModelFixed(f"model {i}", row) for i, row in enumerate(rdms)]
    return [getattr(model, f"Model{kind}")(kind, RDMs(rdms))]


def evaluation(package, name, method, kind="fixed", **options):
    """Return a contender's `prepare`: the function `name` of rsatoolbox.inference or of fastrdm's twin of it."""

    def prepare(models, subjects):
        from rsatoolbox.rdm import RDMs

        evaluated, data = _models(kind, models), RDMs(subjects)
        function = getattr(importlib.import_module(package), name)

        def call():
            np.random.seed(0)  # noqa: NPY002
            # Its progress bars.
            with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = function(evaluated, data, method=method, **options)
            return np.concatenate([result.evaluations.ravel(), result.noise_ceiling.ravel()])

        return call

    return prepare


def cross_validation(package, method, kind):
    """Return a contender's `prepare`: fits and scores of a model in 2 × 3 folds."""

    def prepare(models, subjects):
        from rsatoolbox import inference
        from rsatoolbox.rdm import RDMs

        evaluated, data = _models(kind, models), RDMs(subjects)
        train, test, ceiling = inference.sets_k_fold(data, k_rdm=2, k_pattern=3, random=False)
        function = importlib.import_module(package).crossval

        def call():
            np.random.seed(0)  # noqa: NPY002
            result = function(evaluated, data, train, test, ceiling, method=method)
            return np.concatenate([result.evaluations.ravel(), result.noise_ceiling.ravel()])

        return call

    return prepare


# RDMs of models and of searchlights → the evaluations of all centres.


def searchlight_evaluation(package, method):
    """Return a contender's `prepare`: `eval_fixed` at each searchlight."""

    def prepare(models, centres):
        from rsatoolbox.inference import eval_fixed
        from rsatoolbox.rdm import RDMs

        evaluated, data = _models("fixed", models), RDMs(centres)
        function = importlib.import_module(package).evaluate_models_searchlight

        def call():
            with contextlib.redirect_stderr(io.StringIO()):
                results = function(data, evaluated, eval_fixed, method=method)
            return np.concatenate([result.evaluations.ravel() for result in results])

        return call

    return prepare


OURS = "fastrdm.interop.rsatoolbox"
INFERENCE = "rsatoolbox.inference"
SEARCHLIGHT = "rsatoolbox.util.searchlight"


def peer(prepare):
    """Return rsatoolbox as a contender, which is timed once."""
    return Contender("rsatoolbox", prepare, "rsatoolbox", takes_minutes=True)
