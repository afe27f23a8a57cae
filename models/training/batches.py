"""Batches of pixels on a device: gathered there where the set fits, else read from its map by threads ahead."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

WHERE = ("auto", "device", "host")
# Of the device's free memory; the rest is for the network and its activations.
_SHARE = 0.5
_CHUNK = 1 << 28
# Batches are gathered by as many threads, each one batch: copying lets other threads run, and so does waiting for a
# disk.
_READERS = 4

Batch = tuple[torch.Tensor, torch.Tensor]
Stream = Generator[Batch, None, None]


class Batches:
    """A split's pixels and labels, served in any order.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, 3, size, size)
        In memory or mapped.
    labels : ndarray of int64, shape (n,)
    device : torch.device
        Where batches are wanted.
    where : {"auto", "device", "host"}
        Where the pixels lie between batches: all on the device, or where they are. "auto" puts them on a GPU that has
        twice their size free.

    Attributes
    ----------
    resident : bool
        Whether the pixels are on the device.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        device: torch.device,
        where: str = "auto",
    ) -> None:
        if where not in WHERE:
            raise ValueError(f"where must be one of {', '.join(WHERE)}, not {where!r}")
        if len(pixels) != len(labels):
            raise ValueError(f"there are {len(pixels)} images and {len(labels)} labels")
        self._pixels, self._labels, self._device = pixels, labels, device
        self.resident = where == "device" or (where == "auto" and _fits(pixels.nbytes, device))
        if self.resident:
            self._own = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
            step = max(1, _CHUNK // pixels[0].nbytes)
            for i in range(0, len(pixels), step):
                self._own[i : i + step] = torch.from_numpy(np.array(pixels[i : i + step]))
            self._own_labels = torch.from_numpy(labels).to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def serve(self, order: NDArray[np.int64], batch_size: int) -> Stream:
        """Yield (pixels, labels) of the images named by `order`; the last batch is what is left.

        Parameters
        ----------
        order : ndarray of int64
            Positions of images.
        batch_size : int

        Yields
        ------
        torch.Tensor of uint8, shape (batch, 3, size, size)
        torch.Tensor of int64, shape (batch,)
        """
        parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        return self._gather(parts) if self.resident else self._read_ahead(parts)

    def _gather(self, parts: list[NDArray[np.int64]]) -> Stream:
        for part in parts:
            rows = torch.from_numpy(part).to(self._device)
            yield self._own[rows], self._own_labels[rows]

    def _read_ahead(self, parts: list[NDArray[np.int64]]) -> Stream:
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(_READERS, "batches") as pool:
            try:
                for part in parts:
                    waiting.append(pool.submit(self._read, part))
                    if len(waiting) > _READERS:
                        yield self._sent(waiting.popleft().result())
                while waiting:
                    yield self._sent(waiting.popleft().result())
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, part: NDArray[np.int64]) -> Batch:
        # torch reuses pinned memory, and not before the copy from it has been made.
        pinned = self._device.type == "cuda"
        shape = (len(part), *self._pixels.shape[1:])
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        # With "clip" NumPy fills `out` directly, and lets other threads run.
        np.take(self._pixels, part, axis=0, out=pixels.numpy(), mode="clip")
        return pixels, torch.from_numpy(self._labels[part])

    def _sent(self, batch: Batch) -> Batch:
        pixels, labels = batch
        return (
            pixels.to(self._device, non_blocking=True),
            labels.to(self._device, non_blocking=True),
        )


def _fits(n_bytes: int, device: torch.device) -> bool:
    """Whether there is room on a GPU; on the processor the map serves as well as a copy."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return bool(n_bytes <= _SHARE * free)
