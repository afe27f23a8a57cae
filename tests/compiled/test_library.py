"""The library for C and C++: built, installed and called as its users do, with the answers of the Python package."""

import ctypes
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT

import fastrdm

if os.name != "posix":
    pytest.skip("loads the shared library by its POSIX name", allow_module_level=True)
from c_library import (
    CANCELLED,
    CMAKE,
    INVALID,
    METHODS,
    OK,
    RANGE,
    SIMILARITIES,
    run,
)


def layers(dtype):
    rng = np.random.default_rng(0)
    yield rng.standard_normal((30, 500)).astype(dtype)
    yield (rng.standard_normal((20, 300)) + 100).astype(dtype)
    yield (rng.standard_normal(300) + 1e-3 * rng.standard_normal((20, 300))).astype(dtype)
    yield rng.integers(0, 4, (20, 100)).astype(dtype)
    yield (rng.integers(0, 4, (20, 100)) + 1000).astype(dtype)
    yield np.maximum(rng.standard_normal((20, 300)), 0).astype(dtype)
    odd = rng.standard_normal((20, 300)).astype(dtype)
    odd[3], odd[4], odd[5] = odd[7], 0, 2.5
    odd[9] += 3000
    yield odd


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_rdms_are_those_of_the_python_package(library, dtype, method):
    for x in layers(dtype):
        expected = fastrdm.calc_rdm(x, method)
        found = library.calc_rdm(x, method)
        size = 1 if method in ("correlation", "cosine", "spearman") else np.nanmax(expected)
        within = 1e-12 if dtype == "float64" else 1e-6
        np.testing.assert_allclose(found, expected, rtol=0, atol=within * size)
        # The same ties.
        assert len(np.unique(found)) == len(np.unique(expected))


@pytest.mark.parametrize("method", METHODS)
def test_rdms_of_permuted_conditions_are_permuted_to_the_bit(library, method):
    for x in layers("float32"):
        order = np.random.default_rng(1).permutation(len(x))
        whole = np.zeros((len(x), len(x)))
        whole[np.triu_indices(len(x), 1)] = library.calc_rdm(x, method)
        whole += whole.T
        context = library.context(n_threads=3)
        permuted = library.calc_rdm(np.ascontiguousarray(x[order]), method, context=context)
        library["context_destroy"](context)
        expected = whole[np.ix_(order, order)][np.triu_indices(len(x), 1)]
        np.testing.assert_array_equal(permuted, expected)


def test_every_instruction_set_gives_the_rdm(library):
    x = np.random.default_rng(0).standard_normal((13, 1001)).astype(np.float32)
    expected = fastrdm.calc_rdm(x)
    names = []
    while (name := library["isa_name"](len(names))) is not None:
        names.append(name)
        context = library.context(isa=name)
        assert library["context_isa"](context) == name
        np.testing.assert_allclose(
            library.calc_rdm(x, "correlation", context=context), expected, atol=1e-6
        )
        library["context_destroy"](context)
    assert names[-1] == b"portable"


def test_rows_may_be_apart_and_bfloat16(library):
    x = np.random.default_rng(0).standard_normal((9, 80)).astype(np.float32)
    expected = fastrdm.calc_rdm(x[:, :50])
    np.testing.assert_array_equal(library.calc_rdm(x[:, :50], "correlation"), expected)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    found = library.calc_rdm(bits, "correlation", dtype="bfloat16")
    np.testing.assert_allclose(found, fastrdm.calc_rdm(widened), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_distances_beyond_the_range_of_squares(library, scale):
    x = np.random.default_rng(0).standard_normal((8, 40)) * scale
    np.testing.assert_allclose(
        library.calc_rdm(x, "euclidean"), fastrdm.calc_rdm(x, "euclidean"), rtol=1e-12
    )
    out = np.empty(28)
    assert library("calc_rdm", x, (1,), 8, 40, 40, (2,), out) == RANGE
    assert "range of float64" in library.error


def test_gram_and_ranks(library):
    x = np.random.default_rng(0).standard_normal((7, 300)).astype(np.float32)
    products, ranks = np.empty((7, 7)), np.empty((7, 300))
    assert library("gram", x, (0,), 7, 300, 300, products) == OK
    wide = x.astype(float)
    np.testing.assert_allclose(products, wide @ wide.T, atol=1e-3)
    np.testing.assert_array_equal(products, products.T)
    rounded = np.round(wide, 1)
    assert library("rank", rounded, 7, 300, ranks) == OK
    np.testing.assert_array_equal(ranks, fastrdm.rank(rounded))


@pytest.fixture(scope="module")
def rdms():
    rng = np.random.default_rng(0)
    subjects = rng.random((5, 190)) + rng.random(190)
    models = rng.random((3, 190))
    models[1] = np.round(models[1], 1)
    return models, subjects


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_similarities_are_those_of_compare(library, rdms, similarity):
    models, subjects = rdms
    models = np.concatenate([models, np.full((1, 190), 2.0), np.zeros((1, 190))])
    out = np.empty((5, 5))
    place = (SIMILARITIES.index(similarity),)
    assert library("compare", models, 5, subjects, 5, 190, place, out) == OK
    np.testing.assert_allclose(out, fastrdm.compare(models, subjects, similarity), atol=1e-14)
    assert library("compare", subjects, 5, models, 5, 190, place, out) == OK
    np.testing.assert_allclose(out, fastrdm.compare(subjects, models, similarity), atol=1e-14)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("pool", ["raw", "rank"])
def test_noise_ceilings_are_those_of_the_python_package(library, rdms, similarity, pool):
    subjects = np.round(rdms[1], 2)
    lower, upper = np.empty(5), np.empty(5)
    place = (SIMILARITIES.index(similarity),)
    status = library("noise_ceiling", subjects, 5, 20, place, (int(pool == "rank"),), lower, upper)
    if pool == "rank" and similarity not in ("spearman", "rho-a"):
        assert status == INVALID and "pool must be" in library.error
        return
    assert status == OK
    expected = fastrdm.noise_ceiling(subjects, similarity, pool=pool, squared=False)
    np.testing.assert_allclose(lower, expected.lower_per_subject, atol=1e-14)
    np.testing.assert_allclose(upper, expected.upper_per_subject, atol=1e-14)


def test_resampled_similarities(library, rdms):
    models, subjects = rdms
    rng = np.random.default_rng(2)
    draws = rng.integers(0, 20, (6, 20))
    counts = np.stack([np.bincount(draw, minlength=20) for draw in draws]).astype(np.int32)
    out = np.empty((6, 3, 5))
    assert library("resampled_similarities", models, 3, subjects, 5, 20, counts, 6, (0,), out) == OK
    first, second = np.triu_indices(20, 1)
    for draw, found in zip(counts, out, strict=True):
        kept = np.repeat(np.arange(190), draw[first] * draw[second])
        for i, j in np.ndindex(found.shape):
            expected = scipy.stats.spearmanr(models[i, kept], subjects[j, kept]).statistic
            assert found[i, j] == pytest.approx(expected, abs=1e-12)
    counts[2, 3] = -1
    status = library("resampled_similarities", models, 3, subjects, 5, 20, counts, 6, (0,), out)
    assert status == INVALID and library.error == "counts must be from 0 to 65535, got -1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: None}, "activations is null"),
        ({1: (9,)}, "dtype must be FASTRDM_FLOAT32"),
        ({2: 1}, "n_conditions must be from 2 to"),
        ({3: 0}, "n_channels must be from 1 to"),
        ({4: 5}, "stride must be from 6 to"),
        ({5: (7,)}, "method must be one of"),
        ({6: None}, "rdm is null"),
        ({0: np.full((4, 6), np.nan)}, "NaN or infinity in condition 0, channel 0"),
    ],
)
def test_misuse_is_one_sentence(library, change, words):
    arguments = [np.ones((4, 6)), (1,), 4, 6, 6, (0,), np.full(6, -1.0)]
    out = arguments[6]
    for place, value in change.items():
        arguments[place] = value
    assert library("calc_rdm", *arguments) == INVALID
    assert words in library.error and "\n" not in library.error
    assert (out == -1).all()
    assert library["status_text"](INVALID) == b"invalid argument"


def test_rdms_with_nan_and_unknown_names_are_refused(library, rdms):
    models, subjects = rdms
    out = np.empty((3, 5))
    lacking = subjects.copy()
    lacking[2, 7] = np.nan
    assert library("compare", models, 3, lacking, 5, 190, (0,), out) == INVALID
    assert library.error == "brains has NaN or infinity in row 2, column 7"
    assert library("compare", models, 3, subjects, 5, 190, (6,), out) == INVALID
    assert "similarity must be one of" in library.error
    assert library("compare", models, 3, subjects, 5, 190, (0,), out) == OK and not library.error
    context = library.context()
    assert library["context_set_isa"](context, b"mmx") == INVALID
    assert library.error == "no such instruction set on this processor: mmx"
    assert library["context_set_threads"](context, -1) == INVALID
    library["context_destroy"](context)
    library["context_destroy"](None)


def test_a_call_can_be_cancelled(library):
    asked = threading.Event()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    def cancel(user):
        asked.set()
        return 1

    context = library.context(n_threads=1, cancel=cancel)
    statuses = set()
    for n in (700, 1400, 2800, 5600):  # a call that ends within 100 ms is not asked
        x = np.random.default_rng(0).standard_normal((n, 6000))
        out = np.empty(n * (n - 1) // 2)
        statuses.add(library("calc_rdm", x, (1,), n, 6000, 6000, (4,), out, context=context))
        if asked.is_set():
            break
    assert CANCELLED in statuses and "cancelled" in library.error
    library["context_destroy"](context)


def test_only_the_functions_of_the_header_are_visible(prefix):
    if not shutil.which("nm"):
        pytest.skip("needs nm")
    header = (prefix / "include/fastrdm/fastrdm.h").read_text()
    (path,) = prefix.glob("lib/libfastrdm.so.1")
    lines = run("nm", "-D", "--defined-only", path).splitlines()
    symbols = {line.split()[2].partition("@")[0] for line in lines if " A " not in line}
    declared = {
        part.partition("(")[0].split()[-1].lstrip("*")
        for part in header.split("FASTRDM_API ")[1:]
        if "(" in part and not part.startswith("__")
    }
    assert symbols == declared
    assert "Python.h" not in header and not list(prefix.rglob("*python*"))


@pytest.mark.parametrize("example", ["c", "cpp"])
def test_the_example_is_built_with_find_package_and_runs(prefix, tmp_path, example):
    run(
        *(CMAKE, "-S", ROOT / "examples" / example, "-B", tmp_path),
        *(f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Debug"),
    )
    run(CMAKE, "--build", tmp_path)
    output = run(tmp_path / "score")
    assert "refused: n_conditions must be from 2 to" in output
    assert "noise ceiling" in output
    assert {"c": "best neighbourhood: channels from", "cpp": "crossnobis"}[example] in output


def test_the_header_is_c99_and_pkg_config_finds_the_library(prefix, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    flags = [f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib", "-lfastrdm"]
    if shutil.which("pkg-config"):
        found = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "fastrdm"],
            env={**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")},
            capture_output=True,
            text=True,
        )
        assert "-lfastrdm" in found.stdout
    program = ROOT / "examples" / "c" / "score.c"
    strict = ["-std=c99", "-pedantic", "-Wall", "-Werror"]
    run(compiler, *strict, program, *flags, "-o", tmp_path / "score")
    assert run(tmp_path / "score").startswith("subject 0: ")


def test_another_version_is_not_found(prefix, tmp_path):
    source = tmp_path / "CMakeLists.txt"
    source.write_text(
        "cmake_minimum_required(VERSION 3.18...4.0)\nproject(x LANGUAGES CXX)\n"
        "find_package(fastrdm 99 CONFIG REQUIRED)\n"
    )
    done = subprocess.run(
        [CMAKE, "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "compatible with requested" in done.stderr
