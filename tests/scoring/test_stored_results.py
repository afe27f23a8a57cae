import dataclasses
import math

import numpy as np
import pytest
import small_sweep
from small_study import write_study
from store_writer import LAYERS, Writer, as_version_1, scored

import fastrdm
from fastrdm.scoring import Result, Store, StoredResult, read_results, sweep

PROTOCOLS = ("algonauts2019", "rsatoolbox")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = small_sweep.make(tmp_path_factory.mktemp("stored"), n=2)
    for protocol in PROTOCOLS:
        study = write_study(folder / protocol, size=(20, 20))
        with (study / "study.toml").open("a") as file:
            file.write(f'protocol = "{protocol}"\n')
    return folder


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_results_are_those_of_score(made, tmp_path, protocol):
    given = ([made / "runs"], [str(made / "net.onnx")], made / protocol)
    path = tmp_path / "scores.db"
    sweep(*given, store=path, engine="in-process", labels=r"epoch(?P<epoch>\d+)")
    found = read_results(path, sign_flips=True)
    expected = [
        r
        for s in fastrdm.score_checkpoints(*given, labels=r"epoch(?P<epoch>\d+)")
        for r in s.results
    ]
    assert len(found) == len(expected) == 2
    for stored, result in zip(found, expected, strict=True):
        for name in (field.name for field in dataclasses.fields(Result)):
            if isinstance(getattr(result, name), float):
                assert getattr(stored, name) == pytest.approx(getattr(result, name), abs=1e-12)
            else:
                assert getattr(stored, name) == getattr(result, name)
    assert [r.labels for r in found] == [{"epoch": 0}, {"epoch": 1}]
    assert found[0].protocol == protocol
    assert not math.isnan(found[0].low)


@pytest.fixture
def store(tmp_path):
    writer = Writer(tmp_path / "scores.db")
    for i in (1, 2, 10):
        writer.record(scored(i, labels={"epoch": str(i), "seed": "" if i == 1 else "a"}))
    writer.store.close()
    return tmp_path / "scores.db"


def test_rows_are_filtered_and_labels_have_types(store):
    found = read_results(store, regions="IT", layers="f*", where="epoch >= 2")
    assert [(r.checkpoint, r.region, r.layer) for r in found] == [
        ("epoch002.pth", "it", "fc"),
        ("epoch010.pth", "it", "fc"),
    ]
    assert found[1].labels == {"epoch": 10, "seed": "a"}
    assert read_results(store, where="epoch = 1")[0].labels == {"epoch": 1}
    assert found[0].arch == "net:resnet"
    assert isinstance(found[0], StoredResult)


def test_sign_flips_are_computed_for_conditions_on_them(store):
    assert all(math.isnan(r.p_corrected) for r in read_results(store))
    found = read_results(store, where="p_corrected <= 1")
    assert len(found) == 3 * 2 * len(LAYERS)
    assert all(0 < r.p_sign_flip <= r.p_corrected for r in found)


def test_there_are_no_intervals_without_draws_or_similarities(store):
    assert all(math.isnan(r.low) for r in read_results(store, n_draws=0))
    with Store(store, write=True) as opened, opened._transaction():
        blob = np.array([0.1, np.nan, 0.2, 0.3]).tobytes()
        opened._db.execute("UPDATE results SET rho = ? WHERE layer = 'fc'", (blob,))
    found = read_results(store)
    assert [math.isnan(r.high) for r in found] == [r.layer == "fc" for r in found]


def test_stores_of_older_versions_are_read(store, tmp_path):
    as_version_1(store, tmp_path / "old.db")
    # As text, because NaN differs from itself.
    assert repr(read_results(tmp_path / "old.db")) == repr(read_results(store))


def test_unknown_names_are_refused(store):
    with pytest.raises(ValueError, match="no region 'v4'; the nearest are"):
        read_results(store, regions="v4")
    with pytest.raises(ValueError, match="no column 'age'"):
        read_results(store, where="age > 1")
    with pytest.raises(ValueError, match="no layer matches 'x'"):
        read_results(store, layers="x")
