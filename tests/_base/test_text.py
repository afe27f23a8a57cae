import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrdm._base import (
    check_choice,
    check_fraction,
    check_integer,
    choose,
    counted,
    encodable,
    existing_name,
    first_line,
    first_sentence,
    json_text,
    list_names,
    nearest,
    nearest_known,
    one_line,
    printable,
    suggestion,
    unescaped,
)


def test_an_error_is_one_line():
    error = ValueError("\n  first line.  It\n goes on. ")
    assert one_line(error) == "first line. It goes on."
    assert first_line(error) == "first line.  It"
    assert first_sentence(error) == "first line"
    for text in (one_line, first_line, first_sentence):
        assert text(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_long_lists_are_shortened():
    assert list_names("abc") == "a, b, c"
    assert list_names("abcdefg") == "a, b, c and 4 more"
    assert list_names([1, 2, 3], 2, "; ") == "1; 2 and 1 more"


def test_names_are_suggested():
    assert nearest("layer5", ["layer4", "x"], 1) == "layer4"
    assert nearest("a", []) == "none"
    assert nearest_known("93", ["92"]) == "the nearest is 92"
    assert nearest_known("93", ["92", "x"]) == "the nearest are 92, x"
    assert nearest_known("93", []) == "there is none"
    assert suggestion("layer5", ["layer4", "x"]) == "; did you mean layer4?"
    assert suggestion("zzz", ["layer4"]) == ""
    assert counted(1, "image") == "1 image" and counted(2, "image") == "2 images"


def test_long_names_are_compared_quickly():
    known = ["x" * 100, "name"]
    assert nearest("y" * 10**7, known)
    assert suggestion("y" * 10**7, known) == ""


def test_choices_are_checked():
    check_choice("a", ("a", "b"), "kind")
    assert choose("a", {"a": 1}, "kind") == 1
    for check in (check_choice, choose):
        with pytest.raises(ValueError, match="kind 'c' is not one of: a, b"):
            check("c", {"a": 1, "b": 2}, "kind")


@pytest.mark.parametrize("number", [1.0, True, "1", None])
def test_integers_are_checked(number):
    check_integer(np.int64(1), "n", 1)
    with pytest.raises(ValueError, match="n must be an integer, not"):
        check_integer(number, "n")
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        check_integer(0, "n", 1)


@pytest.mark.parametrize("number", [0, 1, -0.5, float("nan")])
def test_fractions_are_checked(number):
    check_fraction(0.5, "level")
    with pytest.raises(ValueError, match="level must be between 0 and 1, not"):
        check_fraction(number, "level")


def test_the_key_of_a_key_error_is_named_as_such():
    assert first_line(KeyError(64)) == "KeyError: 64"


def test_text_that_would_act_on_a_terminal_is_escaped():
    assert printable("a\x1b[31mb\u202ec\x07\n\t\x7f\u009b") == (
        r"a\x1b[31mb\u202ec\x07\n\t\x7f\u009b"
    )
    assert printable("plain é 日本 ρ \xa0\u2009") == "plain é 日本 ρ \xa0\u2009"
    assert printable("caf\udce9 \ud800 \U000e0041") == r"caf\xe9 \ud800 \U000e0041"


@given(st.text())
def test_escapes_can_be_undone(text):
    shown = printable(text)
    encodable(text).encode()
    assert printable(shown) == shown
    if "\\" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        assert unescaped(shown) == text


def test_bytes_of_one_character_are_joined():
    assert unescaped(r"caf\xc3\xa9 \xe9 \u009b \U00110000") == "café \udce9 \x9b \\U00110000"


@given(st.text())
def test_json_is_printable_and_keeps_the_text(text):
    for ascii_only in (True, False):
        shown = json_text([text], ascii_only=ascii_only)
        assert json.loads(shown) == [text] and printable(shown) == shown


def test_an_escaped_name_stands_for_a_file_only_if_none_has_the_name_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a\x1b\udce9.pth"
    Path(name).touch()
    assert existing_name(printable(name)) == name == existing_name(name)
    assert existing_name(r"b\x1b.pth") == r"b\x1b.pth" and existing_name("b\\x00") == "b\\x00"
    Path(printable(name)).touch()
    assert existing_name(printable(name)) == printable(name)
