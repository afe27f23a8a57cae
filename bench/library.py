"""The private names of fastrdm that benches need, wherever the installed revision keeps them.

`bench/compare.py` also runs these benches on older revisions, some of which had all modules in one folder.
"""

import importlib


def find(name, *modules):
    """Return the attribute `name` of the first of these modules that exists and has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"the installed fastrdm has no {name} in {' or '.join(modules)}")


def compiled_isas():
    """Instruction sets of the compiled kernels, the fastest first; none if these are not installed."""
    try:
        return find("isas", "fastrdm._kernels._core", "fastrdm._core")()
    except ImportError:
        return []


def sign_block():
    """Channels in a block of a sparse projection's signs."""
    return find("SIGN_BLOCK", "fastrdm._kernels")


def forget_kernels():
    """Choose the kernels again at their next use."""
    find("active", "fastrdm._kernels").cache_clear()


def draw_permutations(seed, n_permutations, n):
    """Permutations of `n` conditions, as `fastrdm.permutation_test` draws them."""
    return find("draw_permutations", "fastrdm.similarity", "fastrdm.draws")(seed, n_permutations, n)
