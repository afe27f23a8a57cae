"""One of two processes that train by Lightning or transformers, with scores; arguments: RANK PORT FOLDER.

FOLDER has a study. What the process found is written there as JSON, by the names of the functions below.
"""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

RANK, FOLDER = int(sys.argv[1]), Path(sys.argv[3])
os.environ |= {
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": sys.argv[2],
    "RANK": str(RANK),
    "LOCAL_RANK": str(RANK),
    "NODE_RANK": "0",
    "WORLD_SIZE": "2",
}
sys.path.insert(0, str(Path(__file__).parent.parent))

import lightning.pytorch as lightning  # noqa: E402
import small_training  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from small_transformer import LabelledImages, SmallTransformer  # noqa: E402

from fastrdm import Scorer  # noqa: E402
from fastrdm.interop.lightning import LightningScoring  # noqa: E402
from fastrdm.interop.transformers import TransformersScoring  # noqa: E402

BEST = "brain/study/it/best"


class TwoRanksLightning(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = small_training.make_network()
        self.taps, self.preprocessing = {"conv": "net.0", "fc": "net.6"}, self.net.preprocessing

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def digest(module, optimizer):
    return hashlib.sha256(pickle.dumps(small_training.bits(module, optimizer))).hexdigest()


def found(scoring, **values):
    return {"history": [(each.step, dict(each.scores)) for each in scoring.history], **values}


def fit_lightning(folder, *callbacks):
    small_training.seed()
    module = TwoRanksLightning()
    trainer = lightning.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        max_epochs=small_training.EPOCHS,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=lightning.loggers.CSVLogger(folder),
    )
    trainer.fit(module, small_training.loader())
    return trainer, digest(module, trainer.optimizers[0])


def with_lightning(**options):
    _, plain = fit_lightning(FOLDER / "plain")
    scoring = LightningScoring(Scorer(FOLDER / "study", **options.pop("scorer", {})), **options)
    best = lightning.callbacks.ModelCheckpoint(FOLDER / "best", monitor=BEST, mode="max")
    _, scored = fit_lightning(FOLDER / "scored", scoring, best)
    return found(scoring, same=plain == scored, best=float(best.best_model_score))


def lightning_module():
    return with_lightning()


def lightning_network():
    return with_lightning(scorer={"network": "net"})


def lightning_async():
    _, plain = fit_lightning(FOLDER / "plain")
    scoring = LightningScoring(Scorer(FOLDER / "study", mode="async"))
    _, scored = fit_lightning(FOLDER / "scored", scoring)
    best = max(each.scores[BEST] for each in scoring.history[1:])
    return found(scoring, same=plain == scored, best=best)


def make_trainer():
    small_training.seed()
    arguments = transformers.TrainingArguments(
        str(FOLDER / "hf"),
        use_cpu=True,
        ddp_backend="gloo",
        report_to=[],
        num_train_epochs=small_training.EPOCHS,
        per_device_train_batch_size=small_training.BATCH,
        disable_tqdm=True,
        save_strategy="no",
        eval_strategy="epoch",
        metric_for_best_model=BEST,
    )
    images = LabelledImages()
    return transformers.Trainer(
        SmallTransformer(), arguments, train_dataset=images, eval_dataset=images
    )


def with_transformers(**options):
    plain = make_trainer()
    plain.args.metric_for_best_model = None
    plain.train()
    trainer = make_trainer()
    scoring = TransformersScoring(Scorer(FOLDER / "study", **options), trainer)
    trainer.add_callback(scoring)
    trainer.train()
    same = digest(trainer.model, trainer.optimizer) == digest(plain.model, plain.optimizer)
    return found(scoring, same=same, best=trainer.state.best_metric)


def transformers_model():
    return with_transformers()


def transformers_network():
    return with_transformers(network="net")


if __name__ == "__main__":
    functions = (
        lightning_module,
        lightning_network,
        lightning_async,
        transformers_model,
        transformers_network,
    )
    result = {function.__name__: function() for function in functions}
    (FOLDER / f"rank{RANK}.json").write_text(json.dumps(result))
