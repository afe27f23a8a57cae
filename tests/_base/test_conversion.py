"""Masked arrays, torch tensors, dicts and lists, on every way in."""

import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest

import fastrdm
from fastrdm._base import as_array, as_floats
from fastrdm.inference import subject_intervals
from fastrdm.studies import algonauts

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X = RNG.random((6, 20)).astype(np.float32)
RDMS = RNG.random((4, 15))
N_CHANNELS = np.eye(20)


def masked(array, *place):
    out = np.ma.masked_array(array, False)
    out[place] = np.ma.masked
    return out


def nothing_masked(array):
    return np.ma.masked_array(array, np.zeros(np.shape(array), bool))


def updated(block):
    accumulator = fastrdm.RdmAccumulator(6)
    accumulator.update(block)
    return accumulator.rdm()


# Functions of activations or of values over subjects, which may not have missing values.
WITHOUT_NAN = {
    "calc_rdm": (fastrdm.calc_rdm, X),
    "a list of layers": (lambda x: fastrdm.calc_rdm([X, x]), X),
    "a dict of layers": (lambda x: fastrdm.calc_rdm({"conv1": x})["conv1"], X),
    "a list of rows": (lambda x: fastrdm.calc_rdm(list(x)), X),
    "spearman": (lambda x: fastrdm.calc_rdm(x, "spearman"), X),
    "max_memory": (lambda x: fastrdm.calc_rdm(x, max_memory="1GB"), X),
    "precision": (lambda x: fastrdm.calc_rdm(X, "mahalanobis", precision=x), N_CHANNELS),
    "residuals": (lambda x: fastrdm.calc_rdm(X, "mahalanobis", residuals=x), RNG.random((50, 20))),
    "folds": (lambda x: fastrdm.calc_rdm(X, "crossnobis", folds=x), np.repeat([0, 1], 3)),
    "conditions": (
        lambda x: fastrdm.calc_rdm(X, "crossnobis", folds=[0, 0, 0, 1, 1, 1], conditions=x),
        np.tile([0, 1, 2], 2),
    ),
    "RdmAccumulator": (updated, X),
    "SparseProjection": (fastrdm.SparseProjection(4).layer(20).project, X),
    "rank": (fastrdm.rank, RDMS),
    "subject_test": (lambda v: fastrdm.subject_test(v).p, RDMS),
    "against": (lambda v: fastrdm.subject_test(RDMS, v).p, RDMS[0]),
    "compare_models": (lambda v: fastrdm.compare_models(v).p, RDMS),
    "max_statistic": (fastrdm.max_statistic, RDMS),
    "max_statistic of several": (lambda v: fastrdm.max_statistic([RDMS, v]), RDMS),
    "time_test": (lambda v: fastrdm.time_test(v).p, RDMS),
    "cluster_test": (lambda v: fastrdm.cluster_test(v).statistic, RDMS),
    "times": (lambda t: fastrdm.time_test(RDMS, times=t).times, np.arange(len(RDMS))),
    "subject_intervals": (subject_intervals, RDMS),
    "draws": (
        lambda d: fastrdm.bootstrap(RDMS, RDMS, "subjects", draws={"subjects": d}).evaluations,
        np.array([[0, 1, 2, 3], [0, 0, 2, 3]]),
    ),
}


@pytest.mark.parametrize("way", WITHOUT_NAN)
def test_masked_values_are_errors_unless_allowed(way):
    call, array = WITHOUT_NAN[way]
    place = (1,) * array.ndim
    message = r"^\S.* has shape \(.*\) and 1 masked value; masked values are not allowed here"
    with pytest.raises(ValueError, match=message):
        call(masked(array, *place))


@pytest.mark.parametrize("way", WITHOUT_NAN)
def test_a_masked_array_without_masked_values_is_ordinary(way):
    call, array = WITHOUT_NAN[way]
    np.testing.assert_array_equal(call(nothing_masked(array)), call(array))


def test_errors_count_masked_values():
    array = masked(X, 1)
    with pytest.raises(ValueError, match=r"activations has shape \(6, 20\) and 20 masked values"):
        fastrdm.calc_rdm(array)


def of_subjects(rdms, nan_policy):
    target = fastrdm.Target(rdms, ceiling=0.5, nan_policy=nan_policy)
    return target.score(RDMS).rho


def of_models(rdms, nan_policy):
    return fastrdm.Target(RDMS, ceiling=0.5, nan_policy=nan_policy).score(rdms).rho


def ceilings(rdms, nan_policy):
    ceiling = fastrdm.noise_ceiling(rdms, nan_policy=nan_policy)
    return [ceiling.lower_per_subject, ceiling.upper_per_subject]


WITH_POLICY = {
    "compare, first": lambda r, p: fastrdm.compare(r, RDMS, nan_policy=p),
    "compare, second": lambda r, p: fastrdm.compare(RDMS, r, nan_policy=p),
    "noise_ceiling": ceilings,
    "Target": of_subjects,
    "Target.score": of_models,
    "bootstrap, subjects": lambda r, p: (
        fastrdm.bootstrap(r, RDMS, n_draws=3, nan_policy=p).evaluations
    ),
    "bootstrap, models": lambda r, p: (
        fastrdm.bootstrap(RDMS, r, n_draws=3, nan_policy=p).evaluations
    ),
}


@pytest.mark.parametrize("way", WITH_POLICY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int8])
@pytest.mark.parametrize("nested", [False, True])
def test_masked_values_are_nan_under_the_policy(way, dtype, nested):
    call = WITH_POLICY[way]
    array = masked((RDMS * 100).astype(dtype), 1, 4)
    expected = np.array(array.data, np.float32 if dtype == np.float32 else np.float64)
    expected[1, 4] = np.nan
    given = list(array) if nested else array
    for policy in ("omit", "propagate"):
        np.testing.assert_array_equal(call(given, policy), call(expected, policy))
    with pytest.raises(ValueError, match=r"NaN at (RDM|subject|model) 1, pair 4$"):
        call(given, "raise")
    np.testing.assert_array_equal(
        call(nothing_masked(array.data), "raise"), call(array.data, "raise")
    )


def test_permutation_tests_name_the_masked_value():
    with pytest.raises(ValueError, match="NaN at model 2, pair 3$"):
        fastrdm.permutation_test(RDMS, masked(RDMS, 2, 3))
    with pytest.raises(ValueError, match="NaN at subject 2, pair 3$"):
        fastrdm.permutation_test(masked(RDMS, 2, 3), RDMS)


def test_condense_and_square_keep_masked_values_as_nan():
    squares = fastrdm.square(masked(np.arange(1, 7), 2))
    assert np.isnan(squares[0, 3]) and np.isnan(squares[3, 0]) and squares[0, 1] == 1
    both = masked(fastrdm.square(np.arange(1.0, 7)), [0, 3], [3, 0])
    np.testing.assert_array_equal(fastrdm.condense(both), [1, 2, np.nan, 4, 5, 6])
    diagonal = np.ma.masked_array(fastrdm.square(np.arange(1, 7)), np.eye(4))
    np.testing.assert_array_equal(fastrdm.condense(diagonal), np.arange(1.0, 7))


def test_masked_values_of_other_types():
    halves = masked(RDMS.astype(ml_dtypes.bfloat16), 1, 4)
    expected = halves.data.astype(np.float32)
    expected[1, 4] = np.nan
    np.testing.assert_array_equal(as_floats(halves, "x", masked_as_nan=True), expected)
    for array in (RDMS + 1j, RDMS.astype(str)):
        with pytest.raises(ValueError, match="rdms1 must hold real numbers"):
            fastrdm.compare(masked(array, 1, 4), RDMS, nan_policy="omit")


def test_masked_p_values_are_not_counted_as_tests():
    found = fastrdm.correct(masked(np.array([0.01, 0.5, 0.02]), 1), "bonferroni")
    np.testing.assert_array_equal(found, [0.02, np.nan, 0.04])


def test_the_constant_masked_within_a_list():
    rdm = [0.1, np.ma.masked, 0.3]
    found = fastrdm.compare([rdm], [[1, 2, 3]], nan_policy="omit")
    np.testing.assert_allclose(found, [[1.0]])
    with pytest.raises(ValueError, match=r"activations\[1\]\[0\] has shape \(\) and 1 masked"):
        fastrdm.calc_rdm([[1.0, 2.0], [np.ma.masked, 4.0]])


def test_submissions_refuse_masked_values(tmp_path):
    rdm = fastrdm.square(RDMS[0])
    diagonal = np.ma.masked_array(rdm, np.eye(6))
    np.testing.assert_array_equal(algonauts.subject_rdms(diagonal, "EVC_RDMs")[0], RDMS[0])
    with pytest.raises(
        ValueError, match="EVC_RDMs has 2 values.*NaN at subject 0, row 1, column 2"
    ):
        algonauts.write_submission(tmp_path, masked(rdm, [1, 2], [2, 1]))


def test_out_may_not_be_masked():
    with pytest.raises(ValueError, match="out must be a float64 array.*got MaskedArray"):
        fastrdm.calc_rdm(X, out=np.ma.zeros(15))


TENSORS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e5m2": torch.float8_e5m2,
    "int16": torch.int16,
}


@pytest.mark.parametrize("dtype", TENSORS)
@pytest.mark.parametrize("way", WITHOUT_NAN)
def test_tensors_give_the_results_of_their_values(way, dtype):
    call, array = WITHOUT_NAN[way]
    if dtype in ("int16", "float8_e5m2", "bfloat16") and way == "draws":
        dtype = "int16"
    if array.dtype.kind == "i":
        tensor = torch.tensor(array)
        expected = call(array)
    else:
        tensor = torch.tensor(array * 8).to(TENSORS[dtype])
        exact = {"bfloat16": torch.float32, "float8_e5m2": torch.float32}.get(dtype)
        expected = call((tensor.to(exact) if exact else tensor).numpy())
    np.testing.assert_array_equal(call(tensor), expected)
    if tensor.is_floating_point():
        np.testing.assert_array_equal(call(tensor.clone().requires_grad_()), expected)


@pytest.mark.parametrize("way", WITH_POLICY)
def test_tensors_that_require_a_gradient_are_accepted_as_rdms(way):
    tensor = torch.tensor(RDMS, requires_grad=True)
    call = WITH_POLICY[way]
    np.testing.assert_array_equal(call(tensor, "raise"), call(RDMS, "raise"))
    np.testing.assert_array_equal(call(list(tensor), "raise"), call(RDMS, "raise"))


def test_tensors_within_lists_and_dicts():
    first, second = torch.tensor(X, requires_grad=True), torch.tensor(X[:, :7]).bfloat16()
    expected = fastrdm.calc_rdm([X, second.float().numpy()])
    np.testing.assert_array_equal(fastrdm.calc_rdm([first, second]), expected)
    np.testing.assert_array_equal(fastrdm.calc_rdm((first, second)), expected)
    named = fastrdm.calc_rdm({"a": first, "b": second})
    np.testing.assert_array_equal(list(named.values()), expected)
    rows = [list(row) for row in first]
    np.testing.assert_array_equal(fastrdm.calc_rdm(rows), expected[0])


def test_every_bfloat16_is_widened_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    tensor = torch.tensor(bits).view(torch.bfloat16)
    np.testing.assert_array_equal(as_floats(tensor, "x"), tensor.float().numpy())


def test_bfloat16_without_ml_dtypes(monkeypatch):
    tensor = torch.tensor(X).bfloat16()
    expected = fastrdm.calc_rdm(tensor)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert as_array(tensor, "x").dtype == np.float32
    np.testing.assert_array_equal(fastrdm.calc_rdm(tensor), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cpu_tensors_are_not_copied(dtype):
    tensor = torch.zeros(6, 20, dtype=dtype, requires_grad=True)
    array = as_array(tensor.T, "x")
    assert array.shape == (20, 6)
    with torch.no_grad():
        tensor[0, 1] = 3
    assert array[1, 0] == 3
    if dtype is torch.bfloat16:
        assert array.dtype == ml_dtypes.bfloat16


def test_views_of_tensors():
    tensor = torch.tensor(X).T
    np.testing.assert_array_equal(fastrdm.calc_rdm(tensor), fastrdm.calc_rdm(X.T))
    turned = torch.tensor(X + 1j * X[::-1]).conj().imag
    np.testing.assert_array_equal(as_floats(turned, "x"), -X[::-1])
    parameter = torch.nn.Parameter(torch.tensor(X))
    np.testing.assert_array_equal(fastrdm.calc_rdm(parameter), fastrdm.calc_rdm(X))


def nested_tensor():
    return torch.nested.nested_tensor([torch.ones(3), torch.ones(4)])


def quantised_tensor():
    return torch.quantize_per_tensor(torch.tensor(X), 0.1, 0, torch.qint8)


REFUSED = {
    "sparse tensor with shape \\(6, 20\\); pass its to_dense\\(\\)": lambda: torch.tensor(
        X
    ).to_sparse(),
    "sparse tensor with shape \\(6, 20\\)": lambda: torch.tensor(X).to_sparse_csr(),
    "complex tensor with shape \\(6, 20\\)": lambda: torch.tensor(X).to(torch.complex64),
    "quantised tensor with shape \\(6, 20\\)": quantised_tensor,
    "meta tensor with shape \\(6, 20\\)": lambda: torch.tensor(X).to("meta"),
    "masked tensor with shape \\(6, 20\\)": lambda: torch.masked.masked_tensor(
        torch.tensor(X), torch.tensor(X > 0.5)
    ),
    "nested tensor": nested_tensor,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("message", REFUSED)
def test_tensors_without_real_numbers_are_refused(message):
    tensor = REFUSED[message]()
    for call, name in (
        (fastrdm.calc_rdm, "activations"),
        (lambda x: fastrdm.calc_rdm([X, x]), r"activations\[1\]"),
        (lambda x: fastrdm.calc_rdm({"fc": x}), r"activations\['fc'\]"),
        (lambda x: fastrdm.compare(x, x), "rdms1"),
        (fastrdm.Target, "subject_rdms"),
        (fastrdm.subject_test, "values"),
    ):
        with pytest.raises(ValueError, match=f"^{name} is a {message}"):
            call(tensor)


def test_objects_that_are_not_arrays_are_errors():
    class OnDevice:
        ndim = 2

        def __array__(self, dtype=None, copy=None):
            raise TypeError("implicit conversion is not allowed; use .get()")

    message = "activations cannot be read as an array: implicit conversion"
    with pytest.raises(ValueError, match=message):
        fastrdm.calc_rdm(OnDevice())


def test_fastrdm_does_not_import_torch_pandas_or_xarray():
    code = (
        "import sys, numpy, fastrdm; fastrdm.calc_rdm(numpy.random.rand(4, 9));"
        "fastrdm.calc_rdm({'a': [[1, 2, 4], [3, 5, 4]]});"
        "print([m for m in ('torch', 'pandas', 'xarray') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


LAYERS = {"conv1": X, "fc": X[:, :7].astype(np.float64), 3: X.reshape(6, 5, 4)}


@pytest.mark.parametrize("method", ["correlation", "euclidean", "spearman"])
def test_a_dict_of_layers_gives_a_dict_of_rdms(method):
    rdms = fastrdm.calc_rdm(LAYERS, method)
    assert type(rdms) is dict and list(rdms) == ["conv1", "fc", 3]
    expected = fastrdm.calc_rdm(list(LAYERS.values()), method)
    np.testing.assert_array_equal(list(rdms.values()), expected)


def test_the_dict_of_rdms_has_views_of_out():
    out = np.zeros((3, 15))
    rdms = fastrdm.calc_rdm(LAYERS, out=out)
    assert all(rdm.base is out for rdm in rdms.values())
    np.testing.assert_array_equal(out, list(fastrdm.calc_rdm(LAYERS).values()))
    with pytest.raises(ValueError, match=r"out must be a float64 array of shape \(3, 15\)"):
        fastrdm.calc_rdm(LAYERS, out=np.zeros(15))


def test_errors_and_warnings_name_the_layer():
    bad = X.copy()
    bad[2, 3] = np.nan
    with pytest.raises(
        ValueError, match=r"activations\['fc'\] has a value.*condition 2, channel 3"
    ):
        fastrdm.calc_rdm({"conv1": X, "fc": bad})
    with pytest.raises(ValueError, match=r"activations\['fc'\] has 5 .* activations\['conv1'\] 6"):
        fastrdm.calc_rdm({"conv1": X, "fc": X[:5]})
    with pytest.raises(ValueError, match=r"activations\['fc'\] have shape \(20,\)"):
        fastrdm.calc_rdm({"conv1": X, "fc": X[0]})
    constant = X.copy()
    constant[4] = 1
    with pytest.warns(RuntimeWarning, match=r"^activations\['fc'\]: .*NaN: 4$"):
        fastrdm.calc_rdm({"conv1": X, "fc": constant})
    with pytest.raises(ValueError, match="activations is an empty dict"):
        fastrdm.calc_rdm({})


@pytest.mark.parametrize("option", ["precision", "residuals"])
def test_options_of_the_layers_of_a_dict(option):
    rng = np.random.default_rng(1)
    values = [rng.random((40, 20)), rng.random((40, 7))]
    if option == "precision":
        values = [np.linalg.inv(np.cov(v.T)) for v in values]
    layers = {"a": X, "b": X[:, :7]}
    expected = fastrdm.calc_rdm([X, X[:, :7]], "mahalanobis", **{option: values})
    for given in (values, {"b": values[1], "a": values[0]}):
        found = fastrdm.calc_rdm(layers, "mahalanobis", **{option: given})
        np.testing.assert_array_equal(list(found.values()), expected)
    with pytest.raises(ValueError, match=rf"{option} is a dict of \['a'\].*\['a', 'b'\]"):
        fastrdm.calc_rdm(layers, "mahalanobis", **{option: {"a": values[0]}})
    with pytest.raises(ValueError, match=f"{option} is a dict of .*, not an array"):
        fastrdm.calc_rdm(X, "mahalanobis", **{option: {"a": values[0]}})
    with pytest.raises(ValueError, match=rf"{option}\['b'\] ha.*activations\['b'\]"):
        fastrdm.calc_rdm(layers, "mahalanobis", **{option: {"a": values[0], "b": values[0]}})


def test_files_of_named_arrays_are_dicts(tmp_path):
    np.savez(tmp_path / "layers.npz", conv1=X, fc=X[:, :7])
    with np.load(tmp_path / "layers.npz") as layers:
        rdms = fastrdm.calc_rdm(layers)
    np.testing.assert_array_equal(rdms["fc"], fastrdm.calc_rdm(X[:, :7]))


def test_a_dict_of_rdms_is_a_stack_in_its_order():
    named = dict(zip("dbca", RDMS, strict=True))
    np.testing.assert_array_equal(fastrdm.compare(named, RDMS[:2]), fastrdm.compare(RDMS, RDMS[:2]))
    target = fastrdm.Target(named, ceiling=1)
    np.testing.assert_array_equal(target.subject_rdms[:, 0], RDMS)
    np.testing.assert_array_equal(target.score(named).rho, target.score(RDMS).rho)
    squares = {name: fastrdm.square(rdm) for name, rdm in named.items()}
    np.testing.assert_array_equal(target.score(squares).rho, target.score(RDMS).rho)
    assert fastrdm.noise_ceiling(named).lower == fastrdm.noise_ceiling(RDMS).lower
    result = fastrdm.bootstrap(RDMS, named, n_draws=3)
    assert result.names == ("d", "b", "c", "a")
    assert fastrdm.permutation_test(RDMS, named, n_permutations=3).names == ("d", "b", "c", "a")
    assert fastrdm.bootstrap(RDMS, named, n_draws=3, names=list("wxyz")).names == tuple("wxyz")


def test_invalid_dicts_of_rdms_are_errors():
    with pytest.raises(
        ValueError, match=r"rdms1\['b'\] has shape \(10,\) and rdms1\['a'\] \(15,\)"
    ):
        fastrdm.compare({"a": RDMS[0], "b": RDMS[0, :10]}, RDMS)
    with pytest.raises(ValueError, match="rdms2 is an empty dict"):
        fastrdm.compare(RDMS, {})
    for call, name in (
        (fastrdm.rank, "rdms"),
        (fastrdm.square, "rdms"),
        (fastrdm.condense, "rdms"),
        (updated, "activations"),
        (fastrdm.subject_test, "values"),
    ):
        with pytest.raises(ValueError, match=f"{name} is a dict of 1, not an array"):
            call({"a": RDMS[0]})


PARTS = {
    "feature maps": [np.random.default_rng(i).random((64, 7, 7)) for i in range(118)],
    "batches": [np.random.default_rng(i).random((32, 50)) for i in range(10)],
    "images": [np.random.default_rng(i).random((3, 8, 8)) for i in range(30)],
    "large batches": [np.random.default_rng(i).random((256, 5)) for i in range(8)],
    "many of more": [np.random.default_rng(i).random((70, 5)) for i in range(70)],
    "tensors": list(torch.rand(9, 12, 5)),
    "nested lists": np.random.default_rng(0).random((8, 5, 6)).tolist(),
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("container", [list, tuple])
def test_a_list_that_looks_like_batches_or_conditions_warns(kind, container):
    parts = PARTS[kind]
    shape = str(tuple(np.shape(np.asarray(parts[0])))).replace("(", r"\(").replace(")", r"\)")
    message = (
        rf"^activations is a list of {len(parts)} arrays with shape {shape}, taken for {len(parts)}"
        r" layers.*np\.concatenate\(activations\).*np\.stack\(activations\).*dict"
    )
    with pytest.warns(RuntimeWarning, match=message) as caught:
        rdms = fastrdm.calc_rdm(container(parts))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert len(rdms) == len(parts)


def test_ordinary_stacks_do_not_warn():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastrdm.calc_rdm([rng.random((32, 50)) for _ in range(7)])
        fastrdm.calc_rdm([rng.random((118, 50)) for _ in range(24)])
        fastrdm.calc_rdm([rng.random((32, 50 + i % 2)) for i in range(12)])
        fastrdm.calc_rdm({i: rng.random((32, 50)) for i in range(12)})
        fastrdm.calc_rdm([rng.random(50) for _ in range(32)])
        fastrdm.calc_rdm(rng.random((32, 4, 4)))


def test_errors_about_lists_of_batches_suggest_concatenation():
    with pytest.raises(ValueError, match="22 conditions.*batches.*np.concatenate"):
        fastrdm.calc_rdm([X[:, :5], *[np.ones((22, 5))] * 2])
    with pytest.raises(ValueError, match=r"activations\[0\] have shape \(1, 20\).*np.concatenate"):
        fastrdm.calc_rdm([X[:1]] * 30)
