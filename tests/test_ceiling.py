import numpy as np
import pytest
import reference

from fastrdm import compare, noise_ceiling, square


def subjects(n=6, times=1, pairs=45, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, times, pairs)) + rng.random((1, times, pairs))


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool", ["raw", "rank"])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_equals_the_oracle(kernels, method, pool, squared, times):
    rdms = subjects(times=times)
    ceiling = noise_ceiling(rdms, method, pool=pool, squared=squared)
    expected = reference.noise_ceiling(rdms, method, pool, squared)
    np.testing.assert_allclose([ceiling.lower, ceiling.upper], expected, atol=1e-12)
    assert ceiling.lower_per_subject.shape == ceiling.upper_per_subject.shape == (6,)


@pytest.mark.parametrize("method", reference.METHODS)
@pytest.mark.parametrize("pool", ["raw", "rank"])
def test_omit_equals_the_oracle(kernels, method, pool):
    rdms = subjects(times=2)
    rdms[1, 0, 3:7] = rdms[2:4, 1, 9] = rdms[:, 1, 40] = np.nan
    ceiling = noise_ceiling(rdms, method, pool=pool, nan_policy="omit")
    expected = reference.noise_ceiling(rdms, method, pool)
    np.testing.assert_allclose([ceiling.lower, ceiling.upper], expected, atol=1e-12)


@pytest.mark.parametrize("method", reference.METHODS)
def test_propagate_leaves_subjects_with_nan_out(kernels, method):
    rdms = subjects()
    rdms[2, 0, 7] = np.nan
    rest = [0, 1, 3, 4, 5]
    ceiling = noise_ceiling(rdms, method, nan_policy="propagate")
    others = noise_ceiling(rdms[rest], method)
    for bound in ("lower_per_subject", "upper_per_subject"):
        values = getattr(ceiling, bound)
        assert np.isnan(values[2])
        np.testing.assert_allclose(values[rest], getattr(others, bound), atol=1e-14)
    assert np.isnan(ceiling.lower) and np.isnan(ceiling.upper)


def test_a_subject_that_is_nan_throughout_is_left_out_by_omit():
    rdms = subjects()
    rdms[2] = np.nan
    rest = [0, 1, 3, 4, 5]
    values = noise_ceiling(rdms, nan_policy="omit").upper_per_subject
    assert np.isnan(values[2])
    np.testing.assert_allclose(values[rest], noise_ceiling(rdms[rest]).upper_per_subject)


def test_every_form_of_subject_rdms_gives_the_same():
    rdms = subjects()
    forms = [rdms, rdms[:, 0], square(rdms), square(rdms[:, 0])]
    assert len({noise_ceiling(form).upper for form in forms}) == 1


def test_a_constant_subject_is_named(kernels):
    rdms = subjects(times=2)
    rdms[3, 1] = 0.5
    with pytest.warns(
        RuntimeWarning, match="1 subjects are NaN.*constant; the first is subject 3, time 1"
    ):
        ceiling = noise_ceiling(rdms)
    np.testing.assert_array_equal(np.isnan(ceiling.upper_per_subject), np.arange(6) == 3)


def test_bounds_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        noise_ceiling(subjects()).lower_per_subject[0] = 1


def test_threads_change_nothing(kernels):
    one, other = (noise_ceiling(subjects(15, 2), n_threads=n) for n in (1, 5))
    np.testing.assert_array_equal(one.lower_per_subject, other.lower_per_subject)
    np.testing.assert_array_equal(one.upper_per_subject, other.upper_per_subject)


def test_upper_bound_is_over_the_lower():
    ceiling = noise_ceiling(subjects(12, pairs=190), squared=False)
    assert ceiling.lower < ceiling.upper


def test_no_model_beats_the_upper_bound_of_pooled_cosines():
    rdms = subjects(8)
    upper = noise_ceiling(rdms, "cosine", pool="rank", squared=False).upper
    models = np.random.default_rng(1).random((200, 45))
    assert compare(models, rdms[:, 0], "cosine").mean(axis=1).max() <= upper


@pytest.mark.parametrize(
    "key, set_name, constant",
    [
        ("EVC_RDMs", "92", 0.1589),
        ("IT_RDMs", "92", 0.3075),
        ("EVC_RDMs", "118", 0.1048),
        ("IT_RDMs", "118", 0.0728),
    ],
)
def test_published_constants_of_the_challenge(kernels, challenge, key, set_name, constant):
    import h5py

    path = challenge / "Training_Data" / f"{set_name}_Image_Set" / "target_fmri.mat"
    with h5py.File(path) as file:
        rdms = np.transpose(file[key])
    assert round(noise_ceiling(rdms).upper, 4) == constant


@pytest.mark.parametrize(
    "rdms, message",
    [
        (np.zeros(45), r"shape \(45,\); expected \(subjects, n, n\)"),
        (np.zeros((2, 2, 2, 5, 5)), "expected"),
        (1 - np.eye(6), r"looks like one square RDM.*rdm\[None\]"),
        (np.zeros((3, 44)), "44 pairs"),
        (np.ones((1, 45)), "at least two subjects"),
        (np.zeros((0, 45)), "none of them empty"),
        (np.triu(np.ones((3, 6, 6))), "not symmetric"),
        (np.full((3, 45), np.nan), "NaN at subject 0, pair 0"),
    ],
)
def test_bad_subjects(rdms, message):
    with pytest.raises(ValueError, match=message):
        noise_ceiling(rdms)


def test_unknown_pool():
    with pytest.raises(ValueError, match="pool 'mean' is not one of: raw, rank"):
        noise_ceiling(subjects(), pool="mean")
