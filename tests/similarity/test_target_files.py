"""Files of targets: what they say of themselves is checked, whatever their checksums."""

import json
import re
import zlib

import numpy as np
import pytest
import reference

from fastrdm import Protocol, Target
from fastrdm.similarity import target_file

SUBJECTS, PAIRS = 3, 45
rng = np.random.default_rng(0)
RDMS = rng.random((SUBJECTS, PAIRS)) + rng.random(PAIRS)
MODELS = rng.random((4, PAIRS))
HEAD = len(target_file._MAGIC)


def custom(method):
    return Protocol("mine", method, squared=True, pool="raw", bound="upper", source="here")


def parts(path):
    """The header's facts and the bytes of the arrays."""
    content = path.read_bytes()
    size = int(content[HEAD : HEAD + 8], 16)
    begin = HEAD + 17 + size
    return json.loads(content[HEAD + 17 : begin]), bytearray(content[begin:])


def write(path, facts, body, aligned=True):
    """A file with right checksums."""
    facts = facts | {"size": len(body), "checksum": zlib.crc32(body)}
    text = json.dumps(facts).encode()
    if aligned:
        text += b" " * (-(HEAD + 17 + len(text)) % 64)
    head = target_file._MAGIC + b"%08x%08x\n" % (len(text), zlib.crc32(text))
    path.write_bytes(head + text + body)


def array(facts, body, name):
    """A writable view of an array in the bytes."""
    entry = facts["arrays"][name]
    count = int(np.prod(entry["shape"]))
    return np.frombuffer(body, entry["dtype"], count, entry["offset"]).reshape(entry["shape"])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "it.target"
    Target(RDMS, name="IT").save(path)
    return path, *parts(path)


def refused(path):
    """The error of loading a file: one sentence that names it."""
    with pytest.raises(ValueError) as caught:
        Target.load(path)
    text = str(caught.value)
    assert "it.target" in text and "\n" not in text
    return text


def test_a_rewritten_file_loads(saved):
    path, facts, body = saved
    write(path, facts, body)
    np.testing.assert_array_equal(
        Target.load(path).score(MODELS).rho, Target(RDMS).score(MODELS).rho
    )


def test_a_file_states_its_version(saved):
    _, facts, _ = saved
    assert facts["version"] == 4


@pytest.mark.parametrize("version", [None, True, 0, -1, 2.0, "3", [3]])
def test_a_file_without_a_version(saved, version):
    path, facts, body = saved
    write(path, facts | {"version": version}, body)
    assert "its header has no version" in refused(path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_earlier_versions_load(saved, version):
    path, facts, body = saved
    if version == 1:
        del facts["is_computed"], facts["tie_bound"]
    write(path, facts | {"version": version}, body)
    np.testing.assert_array_equal(
        Target.load(path).score(MODELS).rho, Target(RDMS).score(MODELS).rho
    )


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b"3", b"\xff\xff", b"[" * 100_000])
def test_headers_with_a_right_checksum_that_are_not_objects(saved, header):
    path, *_ = saved
    path.write_bytes(
        target_file._MAGIC + b"%08x%08x\n" % (len(header), zlib.crc32(header)) + header
    )
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    "name, key, value, words",
    [
        ("subjects", "offset", -64, "offset of subjects is -64"),
        ("values", "offset", 1 << 40, "ends after the file"),
        ("values", "offset", 8, "offset of values is 8, not a multiple of 64"),
        ("values", "offset", 0, "overlap"),
        ("values", "offset", 1024, "subjects and values overlap"),
        ("squares", "offset", "0", "offset of squares is '0'"),
        ("squares", "offset", None, "offset of squares is None"),
        ("subjects", "dtype", ">f8", "type of subjects is '>f8'"),
        ("subjects", "dtype", "|O", "type of subjects is '|O'"),
        ("subjects", "dtype", "<f2", "type of subjects is '<f2'"),
        ("values", "dtype", ["<f4"], "type of values is"),
        ("squares", "dtype", "<i8", "type of squares is '<i8'"),
        ("subjects", "shape", [3, 45], "subjects has 2 axes instead of 3"),
        ("subjects", "shape", [3, 1, -45], "shape of subjects"),
        ("subjects", "shape", [3, 0, 45], "shape of subjects"),
        ("subjects", "shape", [3, 1.0, 45], "shape of subjects"),
        ("subjects", "shape", [1 << 40, 1 << 40, 45], "ends after the file"),
        ("subjects", "shape", "345", "shape of subjects"),
        ("subjects", "shape", [3, 1, 44], "44 pairs are not a condensed RDM"),
        ("subjects", "shape", [3, 1, 10], "values has shape"),
        ("subjects", "shape", [2, 1, 45], "values has shape"),
        ("values", "shape", [3, 32], "values has shape"),
        ("squares", "shape", [2], "squares has shape"),
        ("squares", "dtype", "<f4", "types float32 and float32"),
    ],
)
def test_entries_that_do_not_fit(saved, name, key, value, words):
    path, facts, body = saved
    facts["arrays"][name][key] = value
    write(path, facts, body)
    assert words in refused(path)


def test_arrays_begin_at_aligned_places_of_the_file(saved):
    path, facts, body = saved
    facts["name"] += " " * (1 + (len(json.dumps(facts)) + HEAD + 17) % 2)
    write(path, facts, body, aligned=False)
    assert "not a multiple of 64" in refused(path)


@pytest.mark.parametrize(
    "arrays",
    [
        None,
        [],
        {},
        {"values": {}},
        {"subjects": None},
        {"subjects": {}, "more": {}},
        {"subjects": 1},
    ],
)
def test_lists_of_arrays_that_are_not_a_targets(saved, arrays):
    path, facts, body = saved
    write(path, facts | {"arrays": arrays}, body)
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("protocol", None, "its protocol does not consist of"),
        ("protocol", {"name": "mine"}, "its protocol does not consist of"),
        ("nan_policy", "ignore", "nan_policy is 'ignore'"),
        ("nan_policy", [], "nan_policy is []"),
        ("name", 3, "name is 3"),
        ("is_computed", 1, "is_computed is 1"),
        ("tie_bound", float("nan"), "tie_bound is nan"),
        ("tie_bound", "0", "tie_bound is '0'"),
        ("over_time", "all", "over_time is 'all'"),
        ("times", ["1"], "its times are not a list of numbers"),
        ("times", [1.0, 2.0], "times of subjects have shape (2,)"),
        ("ceiling", None, "ceiling is None"),
        ("ceiling", True, "ceiling is True"),
        ("ceiling", float("nan"), "the ceiling of IT in .* must be a positive number"),
        ("ceiling", -0.5, "the ceiling of IT in .* must be a positive number"),
        ("labels", 3, "its labels do not fit 10 conditions"),
        ("labels", {"what": "condition", "values": ["a"], "name": "x"}, "do not fit 10 conditions"),
        ("labels", {"what": "condition", "values": [1] * 10, "name": "x"}, "do not fit"),
        ("labels", {"what": [], "values": ["a"] * 10, "name": "x"}, "do not fit 10 conditions"),
    ],
)
def test_facts_that_no_target_has(saved, key, value, words):
    path, facts, body = saved
    write(path, facts | {key: value}, body)
    assert re.search(words if ".*" in words else re.escape(words), refused(path))
    del facts[key]
    write(path, facts, body)
    if key in ("is_computed", "tie_bound", "labels", "name", "over_time", "times"):
        Target.load(path)
    else:
        refused(path)


@pytest.mark.parametrize(
    "key, value",
    [("method", "sum"), ("pool", "mean"), ("bound", "middle"), ("squared", "yes"), ("name", 1)],
)
def test_protocols_that_do_not_exist(saved, key, value):
    path, facts, body = saved
    facts["protocol"][key] = value
    write(path, facts, body)
    assert f"{key} of its protocol is {value!r}" in refused(path)


@pytest.mark.parametrize(
    "name, at, value, words",
    [
        ("subjects", (1, 0, 7), np.nan, "not finite: NaN at subject 1, time 0, pair 7"),
        ("subjects", (1, 0, 7), np.inf, "not finite: infinity at subject 1"),
        ("subjects", (1,), 0.5, "constant for subject 1"),
        ("values", (1, 3), np.nan, "its values are not the subjects' RDMs"),
        ("values", (1, 46), 1.0, "its values are not the subjects' RDMs"),
        ("values", (1,), 0.0, "its values are not the subjects' RDMs"),
        ("squares", (0,), np.nan, "its values are not the subjects' RDMs"),
        ("squares", (0,), -1.0, "its values are not the subjects' RDMs"),
        ("squares", (0,), 1.0, "its values are not the subjects' RDMs"),
    ],
)
def test_contents_that_are_not_a_targets(saved, name, at, value, words):
    path, facts, body = saved
    array(facts, body, name)[at] = value
    write(path, facts, body)
    assert words in refused(path)


@pytest.mark.parametrize("method", reference.METHODS)
def test_contents_in_another_order(tmp_path, method):
    path = tmp_path / "it.target"
    Target(RDMS, custom(method)).save(path)
    assert np.isfinite(Target.load(path).score(MODELS).rho).all()
    facts, body = parts(path)
    if "cov" not in method:
        array(facts, body, "values")[:] = array(facts, body, "values")[::-1]
        write(path, facts, body)
        assert "its values are not the subjects' RDMs" in refused(path)
    array(facts, body, "values")[:] = -array(facts, body, "values") - 1
    write(path, facts, body)
    assert "its values are not the subjects' RDMs" in refused(path)


def test_a_method_whose_prepared_values_have_another_type(saved):
    path, facts, body = saved
    facts["protocol"]["method"] = "corr"
    write(path, facts, body)
    assert "types float32 and float64 for corr" in refused(path)


def test_mutated_headers_end_in_one_sentence(saved):
    """Each value of the header, replaced by values of every type."""
    path, facts, body = saved
    values = [None, True, -1, 0, 3, 1 << 70, 0.5, float("nan"), "", "x", [], [1], {}, {"a": 1}]

    def places(value, trail=()):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*trail, key)
            if isinstance(value[key], (dict, list)):
                yield from places(value[key], (*trail, key))

    for trail in places(facts):
        for value in values:
            changed = json.loads(json.dumps(facts))
            inner = changed
            for key in trail[:-1]:
                inner = inner[key]
            inner[trail[-1]] = value
            write(path, changed, body)
            try:
                target = Target.load(path)
            except ValueError as error:
                assert "it.target" in str(error) and "\n" not in str(error)
            else:
                assert np.isfinite(target.score(MODELS).rho).all()
