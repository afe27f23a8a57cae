"""Packages import only packages below them, by the names in `__all__`; heavy packages are imported when used."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastrdm"

# A package may import packages with smaller numbers.
LEVELS = {
    "_base": 1,
    "_kernels": 1,
    "numba": 2,
    "tensors": 2,
    "images": 3,
    "rdm": 3,
    "responses": 3,
    "similarity": 4,
    "networks": 4,
    "encoding": 4,
    "inference": 5,
    "fitting": 5,
    "studies": 5,
    "runtimes": 5,
    "searchlight": 5,
    "scoring": 6,
    "live": 7,
    "plot": 7,
    "report": 8,
    "interop": 8,
    "cli": 9,
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
# Packages that a module may import at its top, apart from the standard library.
LIGHT = {"numpy", "fastrdm"}
JITTED = (Path("_kernels/numba"), Path("numba"))


def parse(path):
    return ast.parse((PACKAGE / path).read_text())


def offered(package):
    """The names in a package's `__all__`."""
    for node in parse(f"{package}/__init__.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


OFFERED = {package: offered(package) for package in LEVELS}


def package_of(path):
    return path.parts[0] if len(path.parts) > 1 else None


def problems(path, tree):
    """Yield a sentence for each forbidden import of a file."""
    package = package_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "fastrdm":
                    yield f"import {alias.name}: names are imported from packages"
                if alias.name.partition(".")[0] in {"models", "bench"}:
                    yield f"import {alias.name}: not part of the library"
        elif isinstance(node, ast.ImportFrom):
            yield from problems_of(node, package, path, tree)


def problems_of(node, importer, path, tree):
    names = [alias.name for alias in node.names]
    root, _, rest = (node.module or "").partition(".")
    package, _, module = rest.partition(".")
    if node.level:
        yield f"{ast.unparse(node)}: imports are absolute"
    elif root in {"models", "bench"}:
        yield f"{ast.unparse(node)}: not part of the library"
    elif root == "fastrdm" and not package:
        for alias in node.names:
            if not below(alias.name, importer):
                yield f"from fastrdm import {alias.name}: not a package below {importer}"
            for name in attributes(tree, alias.asname or alias.name) - OFFERED.get(
                alias.name, set()
            ):
                yield f"{alias.name}.{name}: not in __all__ of {alias.name}"
    elif root == "fastrdm" and package != importer:
        if (importer, package, module.partition(".")[0]) == ("numba", "_kernels", "numba"):
            pass  # jitted parts of kernels, for jitted code: what they are called by is compiled with them
        elif not below(package, importer):
            yield f"{ast.unparse(node)}: {package} is not below {importer}"
        elif module:
            yield f"{ast.unparse(node)}: a module of another package"
        elif unknown := set(names) - OFFERED[package]:
            yield f"{ast.unparse(node)}: not in __all__ of {package}: {', '.join(sorted(unknown))}"
    elif root == "fastrdm" and not module and path.name != "__init__.py":
        for name in names:
            if not is_module(importer, name):
                yield f"from {node.module} import {name}: import it from the module that defines it"


def below(package, importer):
    return package in LEVELS and (importer is None or LEVELS[package] < LEVELS[importer])


def is_module(package, name):
    folder = PACKAGE / package
    return (
        (folder / f"{name}.py").exists()
        or (folder / f"{name}.pyi").exists()
        or (folder / name).is_dir()
    )


def attributes(tree, name):
    """Attributes used of a package that is imported as a whole."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_import_only_offered_names_of_lower_packages(path):
    assert list(problems(path, parse(path))) == []


@pytest.mark.parametrize(
    ("path", "line", "words"),
    [
        ("rdm/x.py", "import fastrdm", "names are imported"),
        ("rdm/x.py", "from fastrdm import calc_rdm", "not a package below"),
        ("rdm/x.py", "from fastrdm.similarity import compare", "similarity is not below rdm"),
        ("rdm/x.py", "from fastrdm.images import Preprocessing", "images is not below rdm"),
        ("rdm/x.py", "from fastrdm._base.forms import square", "a module of another package"),
        ("rdm/x.py", "from fastrdm._base import nothing", "not in __all__ of _base: nothing"),
        (
            "rdm/x.py",
            "from fastrdm import _kernels; _kernels.nothing",
            "not in __all__ of _kernels",
        ),
        ("rdm/x.py", "from fastrdm.rdm import calc_rdm", "from the module that defines it"),
        ("rdm/x.py", "from .calc import calc_rdm", "imports are absolute"),
        ("rdm/x.py", "def f():\n    import models.networks", "not part of the library"),
        ("__init__.py", "from fastrdm.rdm.calc import calc_rdm", "a module of another package"),
    ],
)
def test_forbidden_imports_are_found(path, line, words):
    (problem,) = problems(Path(path), ast.parse(line))
    assert words in problem


def test_every_folder_has_a_level():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == LEVELS.keys()


@pytest.mark.parametrize("package", LEVELS)
def test_modules_of_a_package_have_no_import_cycle(package):
    imports = {}
    for path in FILES:
        if package_of(path) != package or path.name == "__init__.py":
            continue
        wanted = set()
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module == f"fastrdm.{package}":
                    wanted |= {alias.name for alias in node.names}
                elif node.module.startswith(f"fastrdm.{package}."):
                    wanted.add(node.module.removeprefix(f"fastrdm.{package}."))
        imports[".".join(path.with_suffix("").parts[1:])] = wanted
    while free := {name for name, wanted in imports.items() if not wanted & imports.keys()}:
        imports = {name: wanted for name, wanted in imports.items() if name not in free}
    assert not imports, f"these import each other: {', '.join(sorted(imports))}"


@pytest.mark.parametrize("package", LEVELS)
def test_offered_names_are_not_names_of_modules(package):
    """Importing a module would replace the name."""
    names = {name for name in OFFERED[package] if is_module(package, name)}
    whole = {
        alias.name
        for node in ast.walk(parse(f"{package}/__init__.py"))
        if isinstance(node, ast.ImportFrom) and node.module == f"fastrdm.{package}"
        for alias in node.names
    }
    assert names <= whole


@pytest.mark.parametrize("path", FILES, ids=str)
def test_heavy_packages_are_imported_only_when_used(path):
    allowed = (
        LIGHT
        | sys.stdlib_module_names
        | ({"numba"} if any(map(path.is_relative_to, JITTED)) else set())
    )
    found = set()
    for node in parse(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    assert found <= allowed - {"sqlite3"}


def test_names_of_classes_are_unique():
    places = {}
    for folder in ("fastrdm", "models", "bench"):
        for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE.parent)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}
