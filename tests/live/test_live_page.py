"""The code of docs/live.md runs as it is written."""

import re

import pytest
import small_study
import small_training
import torch
from conftest import ROOT

import fastrdm

PAGE = ROOT / "docs" / "live.md"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="not a checkout")


def code_of(section):
    """The Python blocks below a heading, one after the other."""
    _, _, rest = PAGE.read_text().partition(f"\n## {section}\n")
    return "\n".join(re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.S))


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the page takes for granted."""
    monkeypatch.chdir(tmp_path)
    small_study.write_study(tmp_path / "study")
    small_training.seed()
    network = small_training.make_network()
    return {
        "fastrdm": fastrdm,
        "torch": torch,
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "loader": small_training.loader(),
    }


def test_the_scorer(names, capsys):
    exec(code_of("The scorer"), names)
    first, *steps = capsys.readouterr().out.splitlines()
    assert float(first) == names["scores"]["brain/study/it/best"]
    assert [line.split()[0] for line in steps] == ["0", "1", "2"]


def test_plain_loops(names, capsys):
    pytest.importorskip("tensorboard")
    exec(code_of("Plain loops"), names)
    assert "step 4, epoch 2: brain/study/it/best" in capsys.readouterr().out
    assert [each.step for each in names["scoring"].history] == [0, 2, 4]
    assert names["resumed"].history == names["scoring"].history


def test_lightning(names, capsys):
    lightning = pytest.importorskip("lightning.pytorch")

    class DocumentedLightning(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.training_step(batch, _)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    names["lightning_module"] = DocumentedLightning(names["network"])
    names["val_loader"] = names["loader"]
    exec(code_of("Lightning"), names)
    assert re.search(r"epoch=[01]\.ckpt tensor\(", capsys.readouterr().out)


def test_hugging_face_trainer(names, capsys):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    small = pytest.importorskip("small_transformer")
    names["model"], names["dataset"] = small.SmallTransformer(), small.LabelledImages()
    exec(code_of("Hugging Face Trainer"), names)
    path, best = capsys.readouterr().out.split()[-2:]
    assert path.startswith("out/checkpoint-")
    assert float(best) == names["trainer"].state.best_metric
