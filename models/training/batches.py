"""Batches of pixels on a device: gathered there if all pixels fit, else read ahead by threads from the mapped file."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from fastrdm._base import check_choice

WHERE = ("auto", "device", "host")
# Share of the device's free memory for pixels; the network and its activations need the rest.
_SHARE = 0.5
_CHUNK = 1 << 28
# Threads that read batches; copying and waiting for the disk release the GIL.
_READERS = 4

Batch = tuple[torch.Tensor, torch.Tensor]
Stream = Generator[Batch, None, None]


class Batches:
    """Batches of a split's pixels (n, 3, size, size) of uint8, in memory or mapped, and labels (n,).

    `where` is "device", "host" (pixels stay where they are), or "auto": on a GPU with twice as much free memory.
    `resident` is whether the pixels are on the device.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        device: torch.device,
        where: str = "auto",
    ) -> None:
        check_choice(where, WHERE, "where")
        if len(pixels) != len(labels):
            raise ValueError(
                f"there are {len(pixels)} images and {len(labels)} labels; the numbers must be equal"
            )
        self._pixels, self._labels, self._device = pixels, labels, device
        self.resident = where == "device" or (where == "auto" and _fits(pixels.nbytes, device))
        if self.resident:
            self._resident_pixels = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
            step = max(1, _CHUNK // pixels[0].nbytes)
            for i in range(0, len(pixels), step):
                chunk = np.array(pixels[i : i + step])
                self._resident_pixels[i : i + step] = torch.from_numpy(chunk)
            self._resident_labels = torch.from_numpy(labels).to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def iterate(self, order: NDArray[np.int64], batch_size: int) -> Stream:
        """Yield pixels (batch, 3, size, size) and labels (batch,) of the images at the positions `order`."""
        parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        return self._gather(parts) if self.resident else self._read_ahead(parts)

    def _gather(self, parts: list[NDArray[np.int64]]) -> Stream:
        for part in parts:
            rows = torch.from_numpy(part).to(self._device)
            yield self._resident_pixels[rows], self._resident_labels[rows]

    def _read_ahead(self, parts: list[NDArray[np.int64]]) -> Stream:
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(_READERS, "batches") as pool:
            try:
                for part in parts:
                    waiting.append(pool.submit(self._read, part))
                    if len(waiting) > _READERS:
                        yield self._to_device(waiting.popleft().result())
                while waiting:
                    yield self._to_device(waiting.popleft().result())
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, part: NDArray[np.int64]) -> Batch:
        # torch reuses pinned memory only after the copy from it is complete.
        pinned = self._device.type == "cuda"
        shape = (len(part), *self._pixels.shape[1:])
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        # With "clip" NumPy writes to `out` directly and releases the GIL.
        np.take(self._pixels, part, axis=0, out=pixels.numpy(), mode="clip")
        return pixels, torch.from_numpy(self._labels[part])

    def _to_device(self, batch: Batch) -> Batch:
        pixels, labels = (part.to(self._device, non_blocking=True) for part in batch)
        return pixels, labels


def _fits(n_bytes: int, device: torch.device) -> bool:
    """Return whether pixels fit on a GPU; on the CPU the mapped file is as good as a copy."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return bool(n_bytes <= _SHARE * free)
