"""The folder of a training run: what it is, where it stands, its checkpoints and its metrics.

    config.json           the recipe, the images and the surroundings it began in
    checkpoints/epoch_001.pth …   state dicts, which `fastrdm score` opens
    state.pt              all that the next step follows from
    metrics.csv, tensorboard/     one row an epoch

Files appear, or take the place of what was there, when they are complete. `state.pt` alone says what has been done: the
metrics are written from it, and a checkpoint that is newer than it is made again.
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

from fastrdm._base import new_file, require

Row = dict[str, float]

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
"""Columns of `metrics.csv`: percentages, seconds of training without validation, and the time of day (Unix)."""


class Run:
    """A run's folder.

    Parameters
    ----------
    folder : path
        Made where missing.

    Raises
    ------
    ValueError
        If the folder holds something else than a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, not a folder for a run")
        self._config, self._state = self.folder / "config.json", self.folder / "state.pt"
        self.checkpoints = self.folder / "checkpoints"
        self.folder.mkdir(parents=True, exist_ok=True)
        strange = [p for p in self.folder.iterdir() if p.suffix != ".part" and p.name != "lock"]
        if strange and not self._config.is_file():
            raise ValueError(
                f"{self.folder} is not empty and holds no run (no config.json); name another folder"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training here, where the system has locks of files (not Windows).

        Raises
        ------
        ValueError
            If another process does.
        """
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
            # What a process left that was killed while it wrote.
            for part in self.folder.rglob("*.part"):
                part.unlink()
            yield

    def agree(self, config: Mapping[str, Any], free: Sequence[str]) -> dict[str, Any]:
        """Note what the run is, or check that it is the run that was begun here.

        Parameters
        ----------
        config : mapping
            JSON: "recipe" and "data" must agree but for the fields of the recipe named in `free`, "surroundings" may
            differ.
        free : sequence of str

        Returns
        -------
        dict
            What stands in `config.json`, from the run's first start on.

        Raises
        ------
        ValueError
            If something differs; the message names it.
        """
        # As it will be read again: lists for tuples.
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
            if name not in free and before.get(name) != now.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} holds a run of another recipe: {'; '.join(differing)};"
                " give it the same, or name another folder"
            )
        self.write("config.json", json.dumps({**old, "recipe": new["recipe"]}, indent=1) + "\n")
        return old

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        with new_file(self.folder / name) as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def write_checkpoint(self, epoch: int, network: torch.nn.Module) -> Path:
        """Write a network's state dict, on the CPU and contiguous."""
        path = self.checkpoint(epoch)
        self.checkpoints.mkdir(exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
        }
        with new_file(path) as file:
            torch.save(weights, file)
        return path

    def checkpoint(self, epoch: int) -> Path:
        """Where an epoch's checkpoint lies, or would."""
        return self.checkpoints / f"epoch_{epoch:03d}.pth"

    def written(self) -> dict[int, Path]:
        """Checkpoints by epoch, in order."""
        paths = {
            int(p.stem.removeprefix("epoch_")): p for p in self.checkpoints.glob("epoch_*.pth")
        }
        return dict(sorted(paths.items()))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write what the next step follows from, in place of what was there."""
        with new_file(self._state) as file:
            torch.save(dict(state), file)

    def load(self) -> dict[str, Any] | None:
        """What `save` wrote last, or None before the first time.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not self._state.is_file():
            return None
        try:
            # The archive's own checksums: torch reads changed bytes without a word.
            with zipfile.ZipFile(self._state) as archive:
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        # Damaged files raise BadZipFile, RuntimeError, UnpicklingError, EOFError and more.
        except Exception as error:
            reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            raise ValueError(
                f"{self._state} is truncated or damaged ({reason}); put a copy of it back, or remove it to train"
                " from the first epoch on"
            ) from error
        return state

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Write `metrics.csv` anew."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.10g}" for k, v in row.items()} for row in rows)
        self.write("metrics.csv", text.getvalue())

    def metrics(self) -> list[Row]:
        """Read `metrics.csv`; no rows where there is none."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    @contextlib.contextmanager
    def tensorboard(self, rows: Sequence[Row]) -> "Iterator[Any]":
        """Give what writes a row to TensorBoard; its files begin with the rows that there are already.

        Raises
        ------
        MissingExtraError
            If tensorboard is not installed.
        """
        require("tensorboard", "train", "to write metrics for TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        # Written anew at each start: epochs that a killed run has to repeat would be there twice.
        folder = self.folder / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        writer = SummaryWriter(folder)

        def add(row: Row) -> None:
            for name, value in row.items():
                if name not in ("epoch", "time"):
                    tag = (
                        "/".join(reversed(name.split("_")))
                        if "_top" in name or "_loss" in name
                        else name
                    )
                    writer.add_scalar(tag, value, int(row["epoch"]), row["time"])
            writer.flush()

        try:
            for row in rows:
                add(row)
            yield add
        finally:
            writer.close()
