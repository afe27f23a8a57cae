"""What models of all runtimes offer: images in, activations, RDMs or Gram matrices out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import parse_bytes, warn_caller
from fastrdm.images import Images, Preprocessing, image_name
from fastrdm.networks import Verdict
from fastrdm.rdm import Gram, SparseProjection, chosen_methods
from fastrdm.runtimes.host_rdms import Collector, GramCollector, RdmCollector
from fastrdm.runtimes.model_arguments import (
    check_method,
    check_where,
    choose_layers,
    device_measure,
    read_pixels,
)
from fastrdm.runtimes.progress import progress_bar


class DeviceJob(NamedTuple):
    """Stimuli and layers for the device, the limit of its memory in bytes, and whether to show progress."""

    pixels: NDArray[np.uint8]
    names: Sequence[str]
    layers: tuple[str, ...]
    limit: int | None
    progress: bool


class ImageModel(ABC):
    """A network that runs on images; `OnnxModel` and `TorchModel` are the two kinds.

    Attributes
    ----------
    layers : tuple of str
        Names of the tapped layers.
    shapes : dict of str to tuple of int
        Layer → shape of the activations of one image.
    preprocessing : Preprocessing
        Applied to images.
    architecture : str
        Name of the network.
    provider, precision : str
        Those in use.
    batch_size : int
        Images in one run, where memory sets no lower limit.
    taken : dict of str to str
        What was taken of the file of the weights, where it was not all of it: "key", "prefix", "ema" ("yes", or "no" if
        the file holds EMA weights that were not taken), "missing" (entries).
    """

    architecture: str
    layers: tuple[str, ...]
    preprocessing: Preprocessing
    provider: str
    precision: str
    batch_size: int
    taken: dict[str, str]
    _verdict: Verdict
    _n_threads: int | None

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer → shape of the activations of one image."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.architecture}, {len(self.layers)} layers, on {self.provider}>"

    def run(
        self, batch: NDArray[np.float32], layers: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run one batch of normalised images.

        Parameters
        ----------
        batch : ndarray of float32, shape (n, 3, height, width)
        layers : sequence of str, optional
            Layers to return; all by default.

        Returns
        -------
        dict of str to ndarray of float32, shape (n, ...)
            Activations of each layer.

        Raises
        ------
        ValueError
            If the batch has another shape or type, or more images than the file's batch, or a layer is unknown.
        """
        wanted = self._check_layers(layers)
        expected = (3, *self.preprocessing.size)
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != expected:
            raise ValueError(
                f"the batch must be float32 of shape (n, {', '.join(map(str, expected))}), "
                f"not {batch.dtype} {batch.shape}"
            )
        if self._verdict.alone and len(batch) > 1:
            raise ValueError(
                f"{self.architecture} runs on one image at a time, not on {len(batch)}: it was opened with"
                " batch_size=1, and its answers to several images in a batch differ"
            )
        self._warn()
        return self._run(batch, wanted)

    def activations(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Read images and return each layer's activations.

        Parameters
        ----------
        images : sequence of path, PIL image or uint8 array (h, w, 3)
            In the order of the conditions.
        layers : sequence of str, optional
            Layers to return, in this order; all by default.
        progress : bool
            Whether to show a progress bar on standard error.
        background : str, optional
            Colour of transparent pixels, as "#rrggbb"; without it, images with transparent pixels are refused.

        Returns
        -------
        dict of str to ndarray of float32, shape (n_images, ...)

        Raises
        ------
        ValueError
            If a layer is unknown, an image cannot be read, or an activation is NaN or infinite; the
            message names the layer and the first such image.
        """
        wanted = self._check_layers(layers)
        self._warn()
        pixels = self._pixels(images, background)
        with progress_bar(self.architecture, len(images), progress) as advance:
            return self._gather(images, pixels, wanted, advance)

    def rdms(
        self,
        images: Images,
        method: str = "correlation",
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Read images and return each layer's RDM.

        On the host, the activations of all conditions are written to the memory that the kernels read, which is kept
        for the next call. On a device, products of conditions are copied back, and no activations. Image files are
        decoded once and kept in the cache of `fastrdm.images.cache`.

        Parameters
        ----------
        images, layers, progress, background
            As for `activations`.
        method : str
            As for `calc_rdm`, but only methods that need nothing but activations.
        max_memory : int or str, optional
            Bytes, or a text such as ``"1GiB"``, for activations, images and the network's inner values, in addition to
            the network itself. If the activations of all conditions do not fit, batches become smaller, and then the
            images run several times, for some layers or some channels at a time; RDMs from parts of a layer agree
            within 1e-6. On a device, the limit applies to its memory.
        projection : SparseProjection, optional
            Projects layers with more channels than its components, batch by batch, for ``correlation``, ``cosine``,
            ``euclidean`` and ``sqeuclidean``; only on the host.
        where : {"auto", "host", "device"}
            Where RDMs are computed: "auto" chooses the network's device if it has memory of its own and supports the
            method, and there is no projection. Both agree within 1e-5, for distances relative to the largest.
        names : sequence of str, optional
            Names of the images in messages; by default their paths or positions.

        Returns
        -------
        dict of str to ndarray of float64, shape (pairs,)
            Condensed RDMs of the flattened activations.

        Raises
        ------
        ValueError
            As for `activations` and `calc_rdm`; if `max_memory` is too small (the message gives the limit that
            suffices), or the device does not support the request.

        Warns
        -----
        RuntimeWarning
            As `calc_rdm`, naming the layer; if an inconsistent network was allowed.
        """
        wanted = self._check_layers(layers)
        check_method(method)
        on_device, limit = self._place(where, method, projection, max_memory)
        pixels, names = self._stimuli(images, names, background)
        if on_device:
            job = DeviceJob(pixels, names, tuple(wanted), limit, progress)
            return self._device_rdms(job, method)
        collector = RdmCollector(self._widths(wanted), method, projection, names, self._n_threads)
        self._collect(collector, pixels, limit, progress)
        return {layer: collector.results[layer] for layer in wanted}

    def grams(
        self,
        images: Images,
        layers: Sequence[str] | None = None,
        progress: bool = False,
        *,
        methods: Iterable[str] | None = None,
        max_memory: int | str | None = None,
        projection: SparseProjection | None = None,
        where: str = "auto",
        names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> dict[str, Gram]:
        """Read images and return each layer's Gram matrix, from which every score follows.

        Their RDMs are those of `rdms` to the bit, if layers are not split to fit `max_memory`, and on a device within
        1e-5. Arguments, errors and warnings are those of `rdms`, and of `gram` for `methods`.

        Returns
        -------
        dict of str to Gram
        """
        wanted, chosen = self._check_layers(layers), chosen_methods(methods)
        on_device, limit = self._place(where, "correlation", projection, max_memory)
        pixels, names = self._stimuli(images, names, background)
        if on_device:
            job = DeviceJob(pixels, names, tuple(wanted), limit, progress)
            return self._device_grams(job, chosen)
        collector = GramCollector(self._widths(wanted), chosen, projection, names, self._n_threads)
        self._collect(collector, pixels, limit, progress)
        return {layer: collector.results[layer] for layer in wanted}

    def uses_device(
        self, method: str = "correlation", projection: SparseProjection | None = None
    ) -> bool:
        """Return whether RDMs of a method are computed on the device if nothing is said about `where`."""
        return self._uses_device("auto", method, projection)

    @abstractmethod
    def _run(
        self, batch: NDArray[np.float32], wanted: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Run a batch of normalised images."""

    @abstractmethod
    def _gather(
        self,
        images: Images,
        pixels: NDArray[np.uint8],
        wanted: Sequence[str],
        advance: Callable[[int], None],
    ) -> dict[str, NDArray[np.float32]]:
        """Return activations, in which NaN and infinity are refused; `advance` takes the number of images that ran."""

    @abstractmethod
    def _collect(
        self,
        collector: Collector[Any],
        pixels: NDArray[np.uint8],
        limit: int | None,
        progress: bool,
    ) -> None:
        """Run the images within a memory limit in bytes, with results on the host."""

    @abstractmethod
    def _uses_device(self, where: str, method: str, projection: SparseProjection | None) -> bool:
        """Whether results are computed on the device; ValueError if they were asked for and cannot be."""

    @abstractmethod
    def _device_rdms(self, job: DeviceJob, method: str) -> dict[str, NDArray[np.float64]]:
        """RDMs, computed on the device."""

    @abstractmethod
    def _device_grams(self, job: DeviceJob, methods: Sequence[str]) -> dict[str, Gram]:
        """Gram matrices, computed on the device."""

    def _place(
        self,
        where: str,
        method: str,
        projection: SparseProjection | None,
        max_memory: int | str | None,
    ) -> tuple[bool, int | None]:
        """Whether results are computed on the device, and the memory limit in bytes.

        Warn the caller of a known problem with the answers.
        """
        self._warn()
        check_where(where, projection)
        limit = None if max_memory is None else parse_bytes(max_memory)
        if where == "device":
            device_measure(method)
        return self._uses_device(where, method, projection), limit

    def _widths(self, wanted: Sequence[str]) -> dict[str, int]:
        return {layer: math.prod(self.shapes[layer]) for layer in wanted}

    def _stimuli(
        self, images: Images, names: Sequence[str] | None, background: str | None
    ) -> tuple[NDArray[np.uint8], Sequence[str]]:
        """Return pixels and names of images."""
        pixels = self._pixels(images, background)
        if names is None:
            names = [image_name(image, i) for i, image in enumerate(images)]
        return pixels, names

    def _check_layers(self, layers: Sequence[str] | None) -> list[str]:
        return choose_layers(layers, self.layers, self.architecture)

    def _warn(self) -> None:
        """Warn each caller of a known problem with the answers."""
        if self._verdict.problem:
            warn_caller(self._verdict.problem)

    def _pixels(self, images: Images, background: str | None) -> NDArray[np.uint8]:
        return read_pixels(images, self.preprocessing, background, self._n_threads)
