"""Without the packages that they are for, callbacks are refused by one line; nothing else needs these packages."""

import importlib
import subprocess
import sys

import pytest

from fastrdm._base import MissingExtraError


@pytest.mark.parametrize(
    ("module", "missing", "words"),
    [
        (
            "lightning",
            ["lightning", "lightning.pytorch", "pytorch_lightning"],
            r"lightning is needed to score while it trains; .*fastrdm\[lightning\]",
        ),
        (
            "transformers",
            ["transformers"],
            r"transformers is needed to score while its Trainer trains; .*fastrdm\[transformers\]",
        ),
    ],
)
def test_callbacks_without_their_package(monkeypatch, module, missing, words):
    monkeypatch.delitem(sys.modules, f"fastrdm.interop.{module}", raising=False)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=words):
        importlib.import_module(f"fastrdm.interop.{module}")


def test_the_old_name_of_lightning_is_enough():
    pytest.importorskip("pytorch_lightning")
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "from fastrdm.interop import LightningScoring\n"
        "import pytorch_lightning\n"
        "print(issubclass(LightningScoring, pytorch_lightning.Callback))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\n"


def test_importing_the_package_is_light():
    code = "import sys, fastrdm.interop; print({'torch', 'lightning', 'transformers'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
