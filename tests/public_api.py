"""The public names with their signatures, one a line, and those of C; `python tests/public_api.py` renews the listing.

A change of a line that is there breaks somebody's program: see docs/stability.md before you renew it.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTING = ROOT / "tests" / "public_api.txt"
HEADER = ROOT / "fastrdm" / "_kernels" / "cpp" / "include" / "fastrdm" / "fastrdm.h"


def names():
    """Yield module and name of everything on the page of the API."""
    module, page = "fastrdm", (ROOT / "docs" / "api.md").read_text()
    for line in page.splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif (found := re.fullmatch(r" {3}([\w.]+)", line)) and not line.strip().startswith(":"):
            yield module, found[1]


def lines():
    """Return a line for each function, for each member of a class, and for all of the C header."""
    python = (line for module, name in set(names()) for line in _lines(module, name))
    return sorted([*python, *_of_header()])


def _of_header():
    """The functions of the C header with their parameters, and its constants."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    for constant in re.findall(r"#define (FASTRDM_\w+ \d+) *$", text, re.MULTILINE):
        yield f"C {constant}"
    for function in re.findall(r"^FASTRDM_API ([^;]+);", text, re.MULTILINE):
        yield "C " + " ".join(function.split())


def _lines(module, name):
    thing, full = importlib.import_module(module), f"{module}.{name}"
    for part in name.split("."):
        thing = getattr(thing, part)
    if inspect.isclass(thing):
        yield f"class {full}{_signature(thing)}"
        for member in sorted(m for m in dir(thing) if not m.startswith("_")):
            # Of a base class in another library.
            owner = next((c for c in thing.__mro__ if member in vars(c)), thing)
            if not owner.__module__.startswith("fastrdm"):
                continue
            value = inspect.getattr_static(thing, member)
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            yield f"{full}.{member}{_signature(value) if inspect.isfunction(value) else ''}"
    else:
        yield f"{full}{_signature(thing) if callable(thing) else ''}"


def _signature(function):
    """Names, kinds and defaults of parameters; types are the business of mypy."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [
        p.replace(
            annotation=p.empty, default=p.empty if p.default is p.empty else _Default(p.default)
        )
        for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


class _Default:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        # Without addresses of objects.
        return re.sub(r" at 0x\w+", "", repr(self.value))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    LISTING.write_text("\n".join(lines()) + "\n")
    print(f"wrote {LISTING}")
