"""Assemblies of Brain-Score and AnnData, in memory and in files, as responses to each stimulus."""

import h5py
import numpy as np
import pytest

import fastrdm
from fastrdm.responses import measured, read_responses

pd = pytest.importorskip("pandas")
xr = pytest.importorskip("xarray")

STIMULI = ["dog", "cat", "car", "cup", "bee"]
RNG = np.random.default_rng(0)
# (repeats, stimuli, units); the last stimulus has two repeats only.
WANTED = RNG.standard_normal((3, 5, 4)).astype(np.float32)
WANTED[2, 4] = np.nan
MONKEYS = ["Chabo", "Tito", "Chabo", "Tito"]


def presentations():
    """Return stimulus and repeat of each row, in a random order."""
    pairs = [(s, r) for s in range(5) for r in range(3) if (s, r) != (4, 2)]
    return [pairs[i] for i in RNG.permutation(len(pairs))]


ROWS = presentations()
VALUES = np.stack([WANTED[r, s] for s, r in ROWS])
#: The conditions in the order of their first rows.
ORDER = list(dict.fromkeys(s for s, _ in ROWS))


def assembly(*, subjects=True, time_bins=1, index=True, values=VALUES, rows=ROWS):
    coords = {
        "image_id": ("presentation", [STIMULI[s] for s, _ in rows]),
        "repetition": ("presentation", [r for _, r in rows]),
        "object_name": ("presentation", ["animal" if s in (0, 1, 4) else "thing" for s, _ in rows]),
        "neuroid_id": ("neuroid", [f"n{i}" for i in range(4)]),
        "time_bin_start": ("time_bin", 70 + 10 * np.arange(time_bins)),
        "time_bin_end": ("time_bin", 170 + 10 * np.arange(time_bins)),
    }
    if subjects:
        coords["animal"] = ("neuroid", MONKEYS)
    data = np.repeat(values[:, :, None], time_bins, axis=2)
    found = xr.DataArray(data, coords, ("presentation", "neuroid", "time_bin"), name="V4")
    if index:
        # As Brain-Score gathers them.
        found = found.set_index(
            presentation=["image_id", "repetition", "object_name"],
            neuroid=["neuroid_id", *(["animal"] if subjects else [])],
            time_bin=["time_bin_start", "time_bin_end"],
        )
    return found


def test_a_dataset_is_a_dict_of_subjects():
    table = xr.DataArray(WANTED[0], {"stimulus": STIMULI}, ("stimulus", "unit"))
    found = measured(xr.Dataset({"anna": table, "bert": table + 1}))
    assert found.names == ("anna", "bert") and found.conditions.values == tuple(STIMULI)
    np.testing.assert_array_equal(found.arrays[1][0], WANTED[0] + 1)
    flat = assembly(index=False, subjects=False).isel(time_bin=0)
    found = measured(xr.Dataset({"V4": flat}))
    assert found.names == ("V4",) and found.n_repeats == measured(flat).n_repeats


def check(found, *, subjects=True):
    assert found.conditions.values == tuple(STIMULI[s] for s in ORDER)
    wanted = WANTED[:, ORDER]
    if not subjects:
        assert (found.n_subjects, found.names) == (1, None)
        np.testing.assert_array_equal(found.arrays[0], wanted)
        assert found.units[0].values == ("n0", "n1", "n2", "n3")
        return
    assert found.names == ("Chabo", "Tito")
    np.testing.assert_array_equal(found.arrays[0], wanted[:, :, ::2])
    np.testing.assert_array_equal(found.arrays[1], wanted[:, :, 1::2])
    assert [each.values for each in found.units] == [("n0", "n2"), ("n1", "n3")]


@pytest.mark.parametrize("subjects", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_in_memory(subjects, index):
    check(measured(assembly(subjects=subjects, index=index)), subjects=subjects)
    check(measured(assembly(subjects=subjects, index=index).T), subjects=subjects)


def test_accepted_where_responses_are():
    found = assembly()
    responses = fastrdm.Responses(found)
    assert (responses.subjects, responses.n_repeats) == (("Chabo", "Tito"), (3, 3))
    target = fastrdm.Target.from_responses(found, "euclidean")
    means = np.nanmean(WANTED[:, ORDER, ::2].astype(float), axis=0)
    wanted = fastrdm.calc_rdm(means, "euclidean")
    np.testing.assert_allclose(np.ravel(target.subject_rdms[0]), wanted, rtol=1e-6)
    rdm = fastrdm.calc_rdm(pd.DataFrame(RNG.random((5, 3)), index=[STIMULI[s] for s in ORDER]))
    assert target.score(rdm).rho.shape == (1, 2)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4", "scipy"])
def test_netcdf(tmp_path, engine):
    """BrainIO stores the levels of indexes as coordinates."""
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    assembly(index=False).to_netcdf(tmp_path / "v4.nc", engine=engine)
    check(read_responses(tmp_path / "v4.nc"))
    check(fastrdm.Responses(tmp_path / "v4.nc")._measured)
    with pytest.raises(ValueError, match="has no 'image'; the coordinates of its 14 rows are: "):
        read_responses(tmp_path / "v4.nc", stimulus="image")
    by_object = read_responses(tmp_path / "v4.nc", stimulus="object_name")
    assert sorted(by_object.conditions.values) == ["animal", "thing"]


def test_a_file_for_each_subject(tmp_path):
    """Conditions of all are in the order of the first."""
    one = assembly(subjects=False, index=False)
    other = one.isel(presentation=slice(None, None, -1))
    one.to_netcdf(tmp_path / "a.nc", engine="scipy")
    other.to_netcdf(tmp_path / "b.nc", engine="scipy")
    for found in (
        read_responses([tmp_path / "a.nc", tmp_path / "b.nc"]),
        measured({"a": one, "b": other}),
    ):
        assert found.names == ("a", "b")
        for array in found.arrays:
            np.testing.assert_array_equal(array, WANTED[:, ORDER])
    few = other.isel(presentation=[STIMULI[s] != "cup" for s, _ in ROWS[::-1]])
    with pytest.raises(ValueError, match=r"responses\['a'\] alone has cup"):
        measured({"a": one, "b": few})


def test_order_of_presentation_where_repeats_are_not_told_apart():
    found = assembly(subjects=False, index=False)
    found = found.assign_coords(repetition=("presentation", np.zeros(len(ROWS), int)))
    array = measured(found).arrays[0]
    first = [next(i for i, (s, _) in enumerate(ROWS) if s == each) for each in ORDER]
    np.testing.assert_array_equal(array[0], VALUES[first])
    assert np.isnan(array[2, ORDER.index(4)]).all()


@pytest.mark.parametrize("missing", [None, np.nan, "", pd.NA])
def test_rows_without_a_stimulus_and_units_without_a_subject_are_refused(missing):
    stimuli = np.array(["a", "b", "a"], object)
    stimuli[1] = missing
    monkeys = np.array(["x", missing], object)
    coords = {"image_id": ("presentation", stimuli), "animal": ("neuroid", ["x", "y"])}
    table = xr.DataArray(np.ones((3, 2)), coords, ("presentation", "neuroid"))
    with pytest.raises(ValueError, match="'image_id', has no value for 1 of 3 rows, first row 1"):
        measured(table)
    table = table.assign_coords(
        image_id=("presentation", ["a", "b", "nan"]), animal=("neuroid", monkeys)
    )
    with pytest.raises(ValueError, match="'animal', has no value for 1 of 2 units, first unit 1"):
        measured(table)


def test_several_times_are_refused():
    with pytest.raises(
        ValueError, match=r"axes \(presentation 14, neuroid 4, time_bin 2\); expected"
    ):
        measured(assembly(time_bins=2))
    averaged = assembly(time_bins=2, index=False).mean("time_bin")
    check(measured(averaged))


class LikeAnnData:
    """The attributes of an AnnData object that are read."""

    def __init__(self, values, obs, var):
        self.X, self.obs, self.var = values, obs, var
        self.obs_names, self.var_names = obs.index, var.index


def anndata(values=VALUES):
    obs = pd.DataFrame(
        {"stimulus": pd.Categorical([STIMULI[s] for s, _ in ROWS]), "repeat": [r for _, r in ROWS]},
        index=[f"trial{i}" for i in range(len(ROWS))],
    )
    var = pd.DataFrame({"subject": MONKEYS}, index=[f"n{i}" for i in range(4)])
    return LikeAnnData(values, obs, var)


@pytest.mark.parametrize("sparse", [False, True])
def test_anndata_in_memory(sparse):
    from scipy.sparse import csr_matrix

    check(measured(anndata(csr_matrix(VALUES) if sparse else VALUES)))
    of_means = LikeAnnData(WANTED[0], pd.DataFrame(index=STIMULI), pd.DataFrame(index=list("abcd")))
    found = measured(of_means)
    assert found.conditions.values == tuple(STIMULI)
    np.testing.assert_array_equal(found.arrays[0][0], WANTED[0])
    with pytest.raises(ValueError, match="an AnnData object without X"):
        measured(anndata(None))
    with pytest.raises(ValueError, match="responses has 0 axes, of type object; expected"):
        measured(object())


def write_h5ad(path, form="dense", version="0.1.0"):
    """Write what AnnData's documentation of its format on disk describes."""
    from scipy.sparse import csc_matrix, csr_matrix

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": version})
        if form == "dense":
            file["X"] = VALUES
        else:
            sparse = {"csr": csr_matrix, "csc": csc_matrix}[form](VALUES)
            group = file.create_group("X")
            group.attrs.update({"encoding-type": f"{form}_matrix", "shape": np.array(VALUES.shape)})
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(sparse, name)
        obs, var = file.create_group("obs"), file.create_group("var")
        obs["_index"] = [f"trial{i}" for i in range(len(ROWS))]
        stimulus = obs.create_group("stimulus")
        stimulus["categories"] = STIMULI
        stimulus["codes"] = np.array([s for s, _ in ROWS], np.int8)
        obs["repeat"] = np.array([r for _, r in ROWS])
        var["_index"] = [f"n{i}" for i in range(4)]
        var["subject"] = MONKEYS
    return path


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_h5ad(tmp_path, form):
    check(read_responses(write_h5ad(tmp_path / "v4.h5ad", form)))


def test_h5ad_without_stimuli(tmp_path):
    with h5py.File(write_h5ad(tmp_path / "v4.h5ad"), "a") as file:
        del file["obs/stimulus"]
    found = read_responses(tmp_path / "v4.h5ad")
    assert found.conditions.values[0] == "trial0"
    assert found.arrays[0].shape == (1, len(ROWS), 2)


def test_h5ad_that_is_damaged_or_unknown(tmp_path):
    write_h5ad(tmp_path / "v4.h5ad", version="9.9.9")
    with pytest.raises(ValueError, match=r"it is AnnData's format in version 9.9.9, but 0.1.0 is"):
        read_responses(tmp_path / "v4.h5ad")
    with h5py.File(write_h5ad(tmp_path / "v4.h5ad", "csr"), "a") as file:
        file["X/indices"][0] = 99
    with pytest.raises(ValueError, match=r"X is not a sparse matrix of shape \(14, 4\)"):
        read_responses(tmp_path / "v4.h5ad")
    with h5py.File(write_h5ad(tmp_path / "v4.h5ad"), "a") as file:
        file["obs/stimulus/codes"][0] = 99
    with pytest.raises(ValueError, match="obs/stimulus has codes beyond its 5 categories"):
        read_responses(tmp_path / "v4.h5ad")


def test_h5ad_that_anndata_wrote(tmp_path):
    module = pytest.importorskip("anndata")
    table = anndata()
    module.settings.allow_write_nullable_strings = True
    module.AnnData(VALUES, table.obs, table.var).write_h5ad(tmp_path / "v4.h5ad")
    check(read_responses(tmp_path / "v4.h5ad"))
    check(measured(module.AnnData(VALUES, table.obs, table.var)))


def test_links_of_h5ad_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["codes"] = np.zeros(len(ROWS), np.int8)
    with h5py.File(write_h5ad(tmp_path / "v4.h5ad"), "a") as file:
        del file["obs/stimulus/codes"]
        file["obs/stimulus/codes"] = h5py.ExternalLink(tmp_path / "other.h5", "codes")
    # As without the column.
    assert read_responses(tmp_path / "v4.h5ad").conditions.values[0] == "trial0"


def test_times_of_a_study(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "stimuli").mkdir()
    for i, name in enumerate(STIMULI):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / "stimuli" / f"{name}.png")
    found = assembly(time_bins=2, index=False)
    found.to_netcdf(tmp_path / "v4.nc", engine="scipy")
    (tmp_path / "study.toml").write_text(
        'order = "sorted"\n[targets.v4]\nresponses = "v4.nc"\nlabels = "image_id"\n'
        'subject = "animal"\ntimes = "time_bin_start"\nover_time = "each"\nmeasures = ["rsa"]\n'
        'rdm = "euclidean"\n'
    )
    (study,) = fastrdm.open_studies(tmp_path)
    assert study.targets["v4"].subject_rdms.shape == (2, 2, 10)
    assert list(study.targets["v4"].times) == [70, 80]


@pytest.mark.parametrize("by_subject", [False, True])
@pytest.mark.parametrize("kind", ["nc", "h5ad"])
def test_study(tmp_path, kind, by_subject):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "stimuli").mkdir()
    for i, name in enumerate(STIMULI):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / "stimuli" / f"{name}.png")
    if kind == "nc":
        assembly(index=False).to_netcdf(tmp_path / "v4.nc", engine="scipy")
    else:
        write_h5ad(tmp_path / "v4.h5ad")
    labels = "image_id" if kind == "nc" else "stimulus"
    subject = {"nc": "animal", "h5ad": "subject"}[kind]
    text = (
        f'order = "sorted"\n[targets.v4]\nresponses = "v4.{kind}"\nlabels = "{labels}"\n'
        'measures = ["ridge"]\nfolds = 2\n'
    )
    extra = f'subject = "{subject}"\n' if by_subject else ""
    (tmp_path / "study.toml").write_text(text + extra)
    (study,) = fastrdm.open_studies(tmp_path)
    order = np.argsort(STIMULI)
    means = np.nanmean(WANTED[:, order].astype(float), axis=0)
    found = study.responses["v4"]
    if not by_subject:
        np.testing.assert_allclose(found.means[0], means, rtol=1e-6)
        return
    assert found.subjects == ("Chabo", "Tito")
    for k in range(2):
        np.testing.assert_allclose(found.means[k], means[:, k::2], rtol=1e-6)
    (tmp_path / "study.toml").write_text(text + 'subject = "owner"\n')
    with pytest.raises(ValueError, match="subject = 'owner' is not a coordinate of the units of"):
        fastrdm.open_studies(tmp_path)
