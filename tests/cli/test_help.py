"""Help: each command has a purpose and examples, which parse and work."""

import shlex
import shutil

import numpy as np
import pytest

from fastrdm.cli import main
from fastrdm.cli.commands import COMMANDS, make_parsers
from fastrdm.cli.examples import EXAMPLES
from fastrdm.cli.sample import write_sample

ALL = [(command, line) for command, lines in EXAMPLES.items() for line in lines]
# Examples that need files or packages which the tests do not have; they are parsed only.
PARSED_ONLY = ("fastrdm fetch", "torchvision.models:", " runs ", "fastrdm doctor")


def words(line):
    """The arguments of the `fastrdm` in a line of a shell."""
    inner = line.partition("$(")[2].partition(")")[0] or line
    found = shlex.split(inner.partition(" > ~")[0], comments=True)
    assert found[0] == "fastrdm"
    return found[1:]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with the files of the examples: a small sample study, its scores, and a submission."""
    here = tmp_path_factory.mktemp("examples")
    write_sample(here / "study", n_conditions=12, n_subjects=8)
    rng = np.random.default_rng(0)
    rdms = rng.random((4, 12, 12)) + rng.random((12, 12))
    rdms = (rdms + np.swapaxes(rdms, -1, -2)) * (1 - np.eye(12))
    from scipy.io import savemat

    savemat(here / "target_fmri.mat", {"EVC_RDMs": rdms, "IT_RDMs": rdms})
    savemat(here / "submit_fmri.mat", {"EVC_RDMs": rdms[0], "IT_RDMs": rdms[1]})
    return here


@pytest.fixture(scope="module")
def store(here):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert main([*words(EXAMPLES["sweep"][0]), "--engine", "in-process"]) == 0
    return here / "scores.db"


def test_every_command_has_examples():
    assert EXAMPLES.keys() == COMMANDS.keys() and all(EXAMPLES.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_purpose_and_the_examples_as_they_are(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0
    assert all(f"\n  {line}\n" in out for line in EXAMPLES[command])
    before, _, after = out.partition("\nexample")
    assert after and before.split("\n\n")[1].rstrip().endswith(".")
    examples = "\n".join(EXAMPLES[command])
    assert all(len(line) <= 80 for line in out.splitlines() if line.strip() not in examples)


def test_the_first_help_names_the_exit_status(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "fastrdm sample study" in out and "exit status:\n  0 " in out


@pytest.mark.parametrize(("command", "line"), ALL, ids=lambda text: text)
def test_examples_parse(command, line):
    arguments = words(line)
    assert arguments[0] == command
    parser, _ = make_parsers([command])
    assert parser.parse_args(arguments).run


@pytest.mark.parametrize(
    ("command", "line"),
    [(command, line) for command, line in ALL if not any(text in line for text in PARSED_ONLY)],
    ids=lambda text: text,
)
def test_examples_work(command, line, here, store, tmp_path, monkeypatch, capfd):
    for path in here.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    more = ["--engine", "in-process"] if command == "sweep" else []
    assert main([*words(line), *more]) == 0, capfd.readouterr().err
