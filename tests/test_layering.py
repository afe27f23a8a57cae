"""Imports run downward only, and heavy packages stay inside the functions that need them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastrdm"

# Each module may import those of the lines below its own.
LAYERS = [
    {"__init__", "__main__"},
    {"cli"},
    {"cli_score"},
    {"cli_tables"},
    {"sweep_cli"},
    {"_arguments"},
    {"report", "plot", "sample", "progress"},
    {"sweeps", "few"},
    {"sweep_groups"},
    {"local_engine"},
    {"ray_engine"},
    {"manifest", "engines"},
    {"accelerators"},
    {"worker"},
    {"store"},
    {"store_schema"},
    {"records"},
    {"scoring", "info"},
    {"environment"},
    {"checkpoints", "study"},
    {"architectures"},
    {"algonauts", "export", "onnx_model"},
    {"probe"},
    {"foreign_run"},
    {"target", "stimuli_cache", "device", "foreign", "pretrained"},
    {"device_memory"},
    {"rdm_graph"},
    {"graph_folding"},
    {"graph_nodes"},
    {"inference"},
    {"bootstrapping", "mantel"},
    {"bootstrap_result"},
    {"resampling", "significance"},
    {"results", "corrections"},
    {
        "ceiling",
        "protocol",
        "stimuli",
        "providers",
        "layers",
        "extraction",
        "footprint",
        "swapping",
    },
    {"provider_table"},
    {"provider_sources"},
    {"graph"},
    {"weights"},
    {"compare"},
    {"coefficients"},
    {"sides"},
    {"rdm"},
    {"methods", "sums"},
    {"folds", "tiles"},
    {"sources", "measures", "projection"},
    {"numbers"},
    {"whitening"},
    {"products", "forms", "images", "pooling"},
    {"_kernels"},
    {"draws", "labels", "scales", "ties"},
    {"_arrays", "_drawings", "openvino_session"},
    {"_numba"},
    {"_numba_resampling"},
    {"_numba_concordance"},
    {"_numba_ranks"},
    {"_core", "given", "_numba_products", "_extras", "_files"},
]
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
MODULES = sorted(PACKAGE.glob("*.py"))
LIGHT = {"numpy", "fastrdm"}


def imports(path, top_level_only):
    """Modules imported by a file, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                f"fastrdm.{a.name}" if node.module == "fastrdm" else node.module for a in node.names
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_imports_run_downward(path):
    for module in imports(path, top_level_only=False):
        root, _, name = module.partition(".")
        if root == "fastrdm" and name.split(".")[0] in LEVEL:
            assert LEVEL[name.split(".")[0]] > LEVEL[path.stem], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_heavy_packages_are_imported_where_they_are_used(path):
    import sys

    allowed = (
        LIGHT | sys.stdlib_module_names | ({"numba"} if path.stem.startswith("_numba") else set())
    )
    found = {module.partition(".")[0] for module in imports(path, top_level_only=True)}
    assert found <= allowed


def test_the_library_never_imports_the_papers_side():
    assert not any(
        module.partition(".")[0] == "models" for p in MODULES for module in imports(p, False)
    )
