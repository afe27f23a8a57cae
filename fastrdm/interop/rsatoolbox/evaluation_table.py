"""rsatoolbox's functions of inference that have a twin here: (its module, name) → the module here."""

EVALUATIONS: dict[tuple[str, str], str] = {
    ("inference.evaluate", "bootstrap_crossval"): "cross_validation",
    ("inference.evaluate", "crossval"): "cross_validation",
    ("inference.evaluate", "eval_bootstrap"): "bootstraps",
    ("inference.evaluate", "eval_bootstrap_pattern"): "bootstraps",
    ("inference.evaluate", "eval_bootstrap_rdm"): "bootstraps",
    ("inference.evaluate", "eval_dual_bootstrap"): "cross_validation",
    ("inference.evaluate", "eval_fixed"): "evaluation",
    ("inference.noise_ceiling", "boot_noise_ceiling"): "noise_ceilings",
    ("inference.noise_ceiling", "cv_noise_ceiling"): "noise_ceilings",
    ("util.searchlight", "evaluate_models_searchlight"): "searchlights",
    ("util.searchlight", "get_searchlight_RDMs"): "searchlights",
}
