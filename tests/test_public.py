"""The public names, what importing them loads, and the old paths that still work."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import fastrdm

NAMES = [
    "ENCODING_PROTOCOLS",
    "PROTOCOLS",
    "Bootstrap",
    "ClusterTest",
    "CrossValidatedRdm",
    "FittedRdm",
    "FixedRdm",
    "Gram",
    "GramAccumulator",
    "Info",
    "InterpolatedRdm",
    "KernelInfo",
    "Latencies",
    "LoopScoring",
    "NoiseCeiling",
    "OnnxModel",
    "Preprocessing",
    "Protocol",
    "RdmAccumulator",
    "RdmVariancePartition",
    "Responses",
    "Score",
    "Scorer",
    "SelectedRdm",
    "SparseProjection",
    "Store",
    "StoredRdms",
    "SubjectCeiling",
    "Target",
    "TestResult",
    "TimeScore",
    "TimeTest",
    "TorchModel",
    "WeightedRdm",
    "angular_distance",
    "bootstrap",
    "bures_similarity",
    "calc_rdm",
    "calc_rdm_movie",
    "calc_rdm_searchlight",
    "cca",
    "check_study",
    "cka",
    "cluster_test",
    "compare",
    "compare_models",
    "condense",
    "correct",
    "cross_validate",
    "explainable_variance",
    "export_onnx",
    "gram",
    "info",
    "kernels",
    "latencies",
    "max_statistic",
    "ncsnr",
    "noise_ceiling",
    "open_studies",
    "partial_compare",
    "partition_rdm_variance",
    "partition_variance",
    "permutation_test",
    "procrustes",
    "rank",
    "read_rdms",
    "read_responses",
    "response_bootstrap",
    "response_test",
    "score_checkpoints",
    "score_features",
    "score_movie",
    "score_searchlight",
    "split_half_reliability",
    "square",
    "stack_trials",
    "subject_ceiling",
    "subject_test",
    "sweep",
    "time_test",
]
# Old documented paths, and the modules that they lead to.
PATHS = {
    "algonauts": "fastrdm.studies.algonauts",
    "checkpoints": "fastrdm.runtimes.checkpoints",
    "device": "fastrdm.runtimes.device",
    "stimuli": "fastrdm.images.preprocessing",
    "store": "fastrdm.scoring.store",
    "study": "fastrdm.studies.study",
    "weights": "fastrdm.networks.weights",
}
# Packages that `import fastrdm` must not load.
HEAVY = {
    "sqlite3", "multiprocessing", "numba", "scipy", "onnx", "onnxruntime", "torch", "pandas", "matplotlib", "rich",
    "ray", "h5py", "PIL",
}  # fmt: skip


def run(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert not result.returncode, result.stderr
    return result.stdout.split()


def test_these_are_the_public_names():
    assert sorted(fastrdm.__all__) == sorted(NAMES)
    for name in NAMES:
        value = getattr(fastrdm, name)
        assert not inspect.ismodule(value), f"{name} is a module"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'fastrdm' has no attribute 'nothing'"):
        _ = fastrdm.nothing


def test_importing_fastrdm_is_light():
    assert not HEAVY & set(run("import sys, fastrdm; print(*sys.modules)"))


def test_no_module_replaces_a_name():
    """Importing a module sets it as an attribute of its package, over a name that is there."""
    for module in pkgutil.walk_packages(fastrdm.__path__, "fastrdm."):
        if not module.name.startswith(("fastrdm._kernels.", "fastrdm.__main__")):
            importlib.import_module(module.name)
    for name in NAMES:
        assert not inspect.ismodule(getattr(fastrdm, name)), f"{name} is a module"


@pytest.mark.parametrize("name", PATHS)
def test_old_paths_lead_to_the_modules(name):
    code = (
        f"import sys, fastrdm.{name}\n"
        f'assert {PATHS[name]!r} not in sys.modules or {PATHS[name]!r}.startswith("fastrdm.i")\n'
        f"import importlib; new = importlib.import_module({PATHS[name]!r})\n"
        f'old = importlib.import_module("fastrdm.{name}")\n'
        'names = [n for n in vars(new) if not n.startswith("_")]\n'
        "print(len(names) > 3 and all(getattr(old, n) is getattr(new, n) for n in names))\n"
        f"print(getattr(fastrdm, {name!r}) is old)"
    )
    assert run(code) == ["True", "True"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "algonauts",
            ["REGIONS", "evaluate", "read_submission", "read_target", "write_submission"],
        ),
        ("checkpoints", ["Architecture", "import_arch", "open_checkpoint"]),
        ("device", ["DeviceModel"]),
        ("stimuli", ["Preprocessing"]),
        ("store", ["Store"]),
        ("study", ["Study", "find_data", "open_studies"]),
        ("weights", ["WeightsError", "load_state_dict", "load_weights"]),
    ],
)
def test_names_of_those_paths_can_be_imported(module, names):
    code = f"from fastrdm.{module} import {', '.join(names)}; print(1)"
    assert run(code) == ["1"]
