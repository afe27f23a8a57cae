"""Read files that Atheris makes, guided by the code that they reach: `python tests/campaigns/atheris_readers.py NAME`.

NAME is one of `reader_seeds.READERS`; further arguments are libFuzzer's, such as -max_total_time=600. The corpus begins
with the seed of the reader. `pip install atheris` is needed.
"""

import gc
import sys
import tempfile
import types
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from fuzz_readers import outcome_of  # noqa: E402
from reader_seeds import READERS  # noqa: E402


def instrument():
    """Instrument the functions of fastrdm; Atheris's import hook misses those of an editable installation."""
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType):
            module = str(function.__module__)
            # numba compiles no instrumented functions.
            if module.startswith("fastrdm.") and not module.startswith("fastrdm._kernels."):
                atheris.instrument_func(function)


def main():
    reader = READERS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        place, corpus = Path(folder, "files"), Path(folder, "corpus")
        place.mkdir()
        corpus.mkdir()
        path = place / reader.name
        reader.beside(place)
        reader.write(path)
        # Modules are imported when they are used.
        outcome_of(reader, path)
        instrument()
        (corpus / "seed").write_bytes(path.read_bytes())

        def read(content):
            path.write_bytes(content)
            outcome, text = outcome_of(reader, path)
            if outcome not in ("read", "refused"):
                raise AssertionError(f"{outcome}: {text}")

        atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
