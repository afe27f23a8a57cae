"""Exported architectures on disk are those that a new export would make."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("exports_script.py")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a process answers that has imported no module of a user, unlike this one."""
    folder = tmp_path_factory.mktemp("exports")
    environment = {k: v for k, v in os.environ.items() if k not in ("DEEP", "FASTRDM_EXPORTS")}
    result = subprocess.run(
        [sys.executable, SCRIPT], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.rpartition("answers:")[2])
    return found | {"stderr": result.stderr}


def test_an_export_is_found_again_and_equal_without_importing_the_module(answers):
    assert not answers["first"] and answers["again"] and answers["equal"]
    assert not answers["imported"]


@pytest.mark.parametrize("what", ["module", "helper", "data", "appeared", "variable", "shadowed"])
def test_what_an_export_read_must_be_unchanged(answers, what):
    """The module, a module that it imports, a file and a variable that it reads, and where modules are found."""
    assert answers[what] == [False, True]


@pytest.mark.parametrize("what", ["taps", "size", "version"])
def test_another_request_is_another_export(answers, what):
    assert not answers[what]


def test_a_module_that_the_program_imported_may_be_changed(answers):
    assert not answers["imported before"]
    assert not answers["kept although imported before"]


def test_the_cache_can_be_turned_off(answers):
    assert not answers["off"]


def test_damaged_files_are_written_again(answers):
    assert answers["damaged"] == [False] * 4
    assert answers["rewritten"]


@pytest.mark.skipif(os.name != "posix", reason="no owners and modes of files")
def test_the_folder_is_private_and_that_of_another_user_is_not_read(answers):
    assert answers["mode"] == 0o700
    assert not answers["of another user"]


def test_random_constants_are_not_kept(answers):
    assert not answers["random"]


def test_networks_that_change_what_they_read_are_not_kept(answers):
    assert not answers["counting"]
    assert answers["writing"]


def test_networks_that_use_the_connection_are_not_kept(answers):
    assert not answers["online"]


def test_warnings_are_given_each_time(answers):
    assert answers["stderr"].count("pretrained_cfg of timm") == 2


def test_a_folder_that_cannot_be_used_is_a_warning(answers):
    assert answers["stderr"].count("the export of net:network cannot be kept: ") == 1


def test_the_folder_is_bounded(answers):
    assert answers["left"] <= 1
