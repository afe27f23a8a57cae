"""The folder of a training run.

    config.json           the recipe, the images, and the versions and device at the first start
    checkpoints/epoch_001.pth …   state dicts, which `fastrdm score` opens
    state.pt              everything that determines the next step
    metrics.csv, tensorboard/     one row per epoch

Files appear or are replaced when they are complete. Only `state.pt` decides how far a run is: the metrics are written
from it, and checkpoints newer than it are written again.
"""

import contextlib
import csv
import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastrdm._base import first_sentence, new_file, require

EpochMetrics = dict[str, float]

METRICS = (
    "epoch",
    "lr",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "val_top5",
    "images_per_s",
    "seconds",
    "time",
)
"""Columns of `metrics.csv`: percentages, seconds of training without validation, and Unix time."""


class TrainingRun:
    """The folder of a training run, created if missing; raise ValueError if it contains other files than a run's."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, not a folder for a run")
        self._config, self._state = self.folder / "config.json", self.folder / "state.pt"
        self.checkpoints = self.folder / "checkpoints"
        self.folder.mkdir(parents=True, exist_ok=True)
        others = [p for p in self.folder.iterdir() if p.suffix != ".part" and p.name != "lock"]
        if others and not self._config.is_file():
            raise ValueError(
                f"{self.folder} is not empty and is not a training run (no config.json); choose another folder"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here, on systems with file locks (not Windows)."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another process is training in {self.folder}") from None
            # Left by a process that was killed while it wrote.
            for part in self.folder.rglob("*.part"):
                part.unlink()
            yield

    def agree(self, config: Mapping[str, Any], changeable: Sequence[str]) -> dict[str, Any]:
        """Write `config.json`, or raise ValueError unless it describes the same run.

        "recipe" and "data" must agree, except for the fields in `changeable`; "surroundings" may differ. Returns the
        content at the run's first start.
        """
        # As it will be read again, with lists for tuples.
        new: dict[str, Any] = json.loads(json.dumps(config))
        if not self._config.is_file():
            self.write("config.json", json.dumps(new, indent=1) + "\n")
            return new
        try:
            old: dict[str, Any] = json.loads(self._config.read_text("utf-8"))
            before, now = ({**c["recipe"], **c["data"]} for c in (old, new))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._config} is damaged: {error!r}") from None
        differing = [
            f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
            for name in sorted(before.keys() | now.keys())
            if name not in changeable and before.get(name) != now.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds a run with another recipe: {'; '.join(differing)}; use the same recipe, or"
                " another folder"
            )
        self.write("config.json", json.dumps({**old, "recipe": new["recipe"]}, indent=1) + "\n")
        return old

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file in the folder, completely or not at all."""
        with new_file(self.folder / name) as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def write_checkpoint(self, epoch: int, network: torch.nn.Module) -> Path:
        """Write a network's state dict, contiguous and on the CPU."""
        path = self.checkpoint(epoch)
        self.checkpoints.mkdir(exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
        }
        with new_file(path) as file:
            torch.save(weights, file)
        return path

    def checkpoint(self, epoch: int) -> Path:
        """Return the path of an epoch's checkpoint."""
        return self.checkpoints / f"epoch_{epoch:03d}.pth"

    def written(self) -> dict[int, Path]:
        """Return the existing checkpoints by epoch, in order."""
        paths = self.checkpoints.glob("epoch_*.pth")
        return dict(sorted((int(path.stem.removeprefix("epoch_")), path) for path in paths))

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state."""
        with new_file(self._state) as file:
            torch.save(dict(state), file)

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, or None; raise ValueError if the file is damaged."""
        if not self._state.is_file():
            return None
        try:
            # torch does not verify the checksums of the archive.
            with zipfile.ZipFile(self._state) as archive:
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        # Damaged files raise BadZipFile, RuntimeError, UnpicklingError, EOFError and more.
        except Exception as error:
            raise ValueError(
                f"{self._state} is truncated or damaged ({first_sentence(error)}); restore a copy, or remove it to"
                " train from the first epoch"
            ) from error
        return state

    def write_metrics(self, rows: Sequence[EpochMetrics]) -> None:
        """Write `metrics.csv`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.10g}" for k, v in row.items()} for row in rows)
        self.write("metrics.csv", text.getvalue())

    def metrics(self) -> list[EpochMetrics]:
        """Read `metrics.csv`; return no rows if it does not exist."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    @contextlib.contextmanager
    def tensorboard(self, rows: Sequence[EpochMetrics]) -> "Iterator[Any]":
        """Yield a function that writes a row to TensorBoard, after writing the existing rows."""
        require("tensorboard", "train", "to write metrics for TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        # Written from the start each time: otherwise the epochs that a killed run repeats would appear twice.
        folder = self.folder / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        writer = SummaryWriter(folder)

        def add(row: EpochMetrics) -> None:
            for name, value in row.items():
                if name in ("epoch", "time"):
                    continue
                # "train_loss" is the tag "loss/train".
                is_split = name.startswith(("train_", "val_"))
                tag = "/".join(reversed(name.split("_"))) if is_split else name
                writer.add_scalar(tag, value, int(row["epoch"]), row["time"])
            writer.flush()

        try:
            for row in rows:
                add(row)
            yield add
        finally:
            writer.close()
