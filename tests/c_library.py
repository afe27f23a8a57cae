"""The library for C and C++, built and installed, with arrays for pointers."""

import ctypes
import fcntl
import shutil
import subprocess

import numpy as np
from conftest import ROOT

CMAKE, COMPILER = shutil.which("cmake"), shutil.which("c++") or shutil.which("g++")
# The order of the header's constants.
METHODS = ("correlation", "cosine", "sqeuclidean", "euclidean", "spearman")
SIMILARITIES = ("spearman", "corr", "cosine", "tau-a", "tau-b", "rho-a")
DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
OK, INVALID, CANCELLED, RANGE = 0, 1, 3, 4


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder):
    """Install the library in a folder; only the first run in a checkout compiles it.

    Less optimised, which halves the time and changes no result, and without any warning.
    """
    build = ROOT / "build" / "tested-library"
    build.mkdir(parents=True, exist_ok=True)
    options = ["-DFASTRDM_PYTHON=OFF", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_INSTALL_LIBDIR=lib"]
    less = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1", "-DFASTRDM_WERROR=ON"]
    # Tests of other files may run at the same time.
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(CMAKE, "-S", ROOT, "-B", build, *options, *less)
        run(CMAKE, "--build", build, "-j2")
        run(CMAKE, "--install", build, "--prefix", folder)


class CLibrary:
    """The C functions, with arrays for pointers."""

    def __init__(self, path):
        self.functions = ctypes.CDLL(str(path))
        for name in ("version", "last_error", "isa_name", "status_text", "context_isa"):
            self[name].restype = ctypes.c_char_p
        self["n_pairs"].restype = ctypes.c_int64

    def __getitem__(self, name):
        return getattr(self.functions, f"fastrdm_{name}")

    @property
    def error(self):
        return self["last_error"]().decode()

    def __call__(self, name, *arguments, context=None):
        """Call a function; integers are sizes, and ints in a tuple the header's constants."""
        given = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                given.append(argument.ctypes.data_as(ctypes.c_void_p))
            elif isinstance(argument, tuple):
                given.append(ctypes.c_int32(argument[0]))
            else:
                given.append(None if argument is None else ctypes.c_int64(argument))
        return self[name](context, *given)

    def calc_rdm(self, x, method, dtype=None, context=None):
        out = np.empty(len(x) * (len(x) - 1) // 2)
        kind = DTYPES[dtype or x.dtype.name]
        stride = x.strides[0] // x.itemsize
        method = METHODS.index(method)
        assert (
            self("calc_rdm", x, (kind,), *x.shape, stride, (method,), out, context=context) == OK
        ), self.error
        return out

    def context(self, n_threads=0, isa=None, cancel=None):
        made = ctypes.c_void_p()
        assert self["context_create"](ctypes.byref(made)) == OK
        assert self["context_set_threads"](made, n_threads) == OK
        assert self["context_set_isa"](made, isa) == OK
        if cancel:
            assert self["context_set_cancel"](made, cancel, None) == OK
        return made
