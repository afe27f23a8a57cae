"""Files of settings and lists, damaged in ways that their parsers report with errors of other kinds."""

import pytest

from fastrdm import Preprocessing
from fastrdm._base import read_toml
from fastrdm.networks import WeightsError, files_of, is_complete, request_preprocessing
from fastrdm.scoring.manifest import read_manifest
from fastrdm.studies import open_studies

DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"a = {DEEP}".encode(), "recursion"),
        (b"a = " + b"9" * 5000, "digits"),
        (b"a = '\xff'", "can't decode byte 0xff"),
        (b"a = ", "Invalid value"),
    ],
)
def test_damaged_toml_is_refused_in_one_sentence(tmp_path, content, message):
    for name, read in (
        ("study.toml", lambda path: open_studies(path.parent)),
        ("manifest.toml", read_manifest),
        ("preprocessing.toml", request_preprocessing),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not valid TOML: .*{message}") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_json_that_is_nested_too_deeply(tmp_path):
    path = tmp_path / "fields.json"
    path.write_text(DEEP)
    with pytest.raises(ValueError, match="fields.json is not valid JSON: it is nested too deeply"):
        request_preprocessing(path)
    with pytest.raises(
        ValueError, match="the preprocessing is not valid JSON: it is nested too de"
    ):
        Preprocessing.from_json(DEEP)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(DEEP)
    with pytest.raises(WeightsError, match="is not an index of weights"):
        files_of(index)
    weights = tmp_path / "a.safetensors"
    weights.write_bytes(len(DEEP).to_bytes(8, "little") + DEEP.encode())
    assert not is_complete(weights)


def test_settings_of_many_bytes_are_not_read(tmp_path):
    path = tmp_path / "manifest.toml"
    with path.open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(
        ValueError, match="manifest.toml is not valid TOML that is read: it has 64.0 G"
    ):
        read_manifest(path)


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 10**5) + " = 1",
        "[" + " . ".join(['"a"'] * 10**5) + "]",
        "x = {" + ".".join(["'a'"] * 10**5) + " = 1}",
    ],
)
def test_keys_of_many_parts(text, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(
        ValueError, match=r"a\.toml is not valid TOML: it has a key of more than 100"
    ):
        read_toml(tmp_path / "a.toml")


def test_long_words_are_no_keys_of_many_parts(tmp_path):
    (tmp_path / "a.toml").write_text(f"a = '{'b' * 10**6} {'. ' * 10**5}'\n" + 'c."d.e" = 1\n')
    assert read_toml(tmp_path / "a.toml")["c"] == {"d.e": 1}
