"""Prepared studies, which score a module as often as asked."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastrdm._base import check_choice, check_integer
from fastrdm.live.background import Background
from fastrdm.live.gathering import Gathering
from fastrdm.live.keys import BEST, flat_scores
from fastrdm.live.live_models import LiveModels
from fastrdm.live.pending import Outcome, PendingScores
from fastrdm.live.preserving import preserved, undisturbed
from fastrdm.live.region_layers import RegionLayers
from fastrdm.live.snapshots import Snapshots
from fastrdm.live.wrappers import plain
from fastrdm.networks import Taps
from fastrdm.rdm import SparseProjection
from fastrdm.runtimes import TorchModel
from fastrdm.scoring import (
    Job,
    LayerScoring,
    Result,
    RunOptions,
    Scored,
    Stamp,
    check_measures,
    results_of,
    scorers_of,
)
from fastrdm.studies import Study, collect_studies
from fastrdm.tensors import torch_package

if TYPE_CHECKING:
    import torch

MODES = ("sync", "async")


class Scorer:
    """Scores torch modules in training against brain data, as `fastrdm score` scores their files.

    ``scorer(module)`` returns a flat dict of numbers, in percent of the noise ceiling: a score for each study, region
    and layer, ``brain/{study}/{region}/{layer}``, and the highest of each region, ``brain/{study}/{region}/best``. The
    module runs in evaluation mode, and is afterwards as before to the bit, also after an error: its weights, buffers,
    gradients, hooks and modes, and all states of random numbers (torch, NumPy, Python). Autocast of the surrounding
    code has no effect. Wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel` are left out, and the
    layers have the names of the plain module.

    A module that several processes train (`DistributedDataParallel`, `FullyShardedDataParallel`, `fully_shard`) is
    scored by the first of them, with whole weights. All have to call the scorer with the module as it is trained, and
    have the same dict or error.

    Parameters
    ----------
    study : path-like, Study or sequence of them
        What to score against, as for `fastrdm.open_studies`.
    layers : mapping of str to str or sequence of str, optional
        The layer of each region, or several: ``{"it": "layer4"}``. Only these are computed, and regions that are not
        named are left out. By default, all tapped layers are scored against all regions.
    measures, sets, modality, regions
        As for `fastrdm.open_studies`. With several measures, keys of the first begin with ``brain/``, those of others
        with ``brain-{measure}/``.
    over_time : {"mean", "each"}, optional
        As for `fastrdm.sweep`. With "each", keys of regions with several time points end with the time.
    network : str, optional
        The path of the network in the modules that are scored, such as "model" in a Lightning module or "vit" in a
        model of transformers, if its layers, taps and preprocessing are to count; by default the whole module.
    taps : sequence of taps, or mapping of layer name to tap, optional
        As for `fastrdm.export_onnx`; by default the layers of `layers` where the default taps lack one.
    preprocessing : Preprocessing, str, path-like or mapping, optional
        As for `fastrdm.sweep`; by default the module's own, else that of the Algonauts development kit.
    size : int or (int, int), optional
        Height and width of the images in pixels; by default those of the preprocessing.
    device : str
        As for `TorchModel`. By default the module runs where its weights are; elsewhere a copy of it runs.
    precision, batch_size, channels_last, compile, cuda_graph, allow_inconsistent
        As for `TorchModel`.
    max_memory : int or str, optional
        As for `TorchModel.rdms`. In mode "async" on the device of the module, by default a quarter of what is free,
        because training needs the rest.
    projection : int or SparseProjection, optional
        As for `fastrdm.sweep`.
    mode : {"sync", "async"}
        With "async", ``scorer(module)`` copies the weights, and returns `PendingScores` at once, while the copy is
        scored: on a CUDA device in a stream of its own, elsewhere in a thread.
    max_pending : int
        Copies of weights that may wait in mode "async"; a further call waits until one of them is scored.

    Attributes
    ----------
    studies : list of Study
    mode : str

    Raises
    ------
    ValueError, FileNotFoundError
        If a study, set, region, measure, device or option is not valid; at the call, before images run, if the module
        has no layer of that name, and as for `TorchModel`.
    TimeoutError, ConnectionError
        At the call, if not all processes that train a module call the scorer within ten minutes, or the first one ends.
    MissingExtraError
        If torch is not installed.

    Warns
    -----
    RuntimeWarning
        If a layer has no score, which is NaN then.
    """

    def __init__(
        self,
        study: "str | Path | Study | Sequence[str | Path | Study]",
        layers: Mapping[str, str | Sequence[str]] | None = None,
        *,
        measures: str | Sequence[str] | None = None,
        sets: Sequence[str] | None = None,
        modality: str = "fmri",
        regions: Sequence[str] | None = None,
        over_time: str | None = None,
        network: str | None = None,
        taps: Taps | None = None,
        preprocessing: Any = None,
        size: int | tuple[int, int] | None = None,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        projection: int | SparseProjection | None = None,
        channels_last: bool = False,
        compile: bool = False,
        cuda_graph: bool = False,
        allow_inconsistent: bool = False,
        mode: str = "sync",
        max_pending: int = 2,
    ) -> None:
        arguments = dict(locals())
        self._rebuild = partial(Scorer, **{k: v for k, v in arguments.items() if k != "self"})
        check_choice(mode, MODES, "mode")
        check_integer(max_pending, "max_pending", 1)
        self.mode, self._network = mode, network
        asked = None if measures is None else check_measures(measures)
        self._layers = RegionLayers(layers, regions)
        self._device, self._compiles = device, compile
        self._models = LiveModels(
            taps,
            self._layers.names,
            preprocessing,
            size,
            device=device,
            precision=precision,
            batch_size=batch_size,
            channels_last=channels_last,
            compile=compile,
            cuda_graph=cuda_graph,
            allow_inconsistent=allow_inconsistent,
        )
        options = RunOptions(max_memory=max_memory, projection=projection)
        self.studies = collect_studies(study, sets, modality, self._layers.regions, asked)
        self._scorers = scorers_of(self.studies, asked, over_time)
        self._first_measure = asked[0] if asked else self._scorers[0].measure
        self._scoring = LayerScoring(self.studies, self._scorers, options, {})
        self._snapshots = Snapshots(self._scoring, options)
        self._gathering = Gathering()
        self._background = Background(max_pending, self.flat)
        self._is_closed = False

    def __repr__(self) -> str:
        names = ", ".join(study.name for study in self.studies)
        return f"<Scorer of {names}, {len(self._scorers)} regions, {self.mode}>"

    def __reduce__(self) -> "tuple[Callable[[], Scorer], tuple[()]]":
        # Frameworks copy callbacks to other processes; models and threads stay here.
        return self._rebuild, ()

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, module: "torch.nn.Module", label: Hashable = None) -> Any:
        """Score a module.

        Parameters
        ----------
        module : torch.nn.Module
            With or without wrappers.
        label : hashable, optional
            Kept in `PendingScores.label` and `Result.checkpoint`, such as the step of the training.

        Returns
        -------
        dict of str to float
            Percent of the noise ceiling by ``brain/{study}/{region}/{layer}`` and ``brain/{study}/{region}/best``, the
            highest of the region's layers. NaN if a score is undefined.
        PendingScores
            In mode "async", in place of the dict, which its ``result()`` returns.
        """
        if self.mode == "async":
            return self.submit(module, label)
        return self.flat(self.results(module, label))

    def results(
        self,
        module: "torch.nn.Module",
        label: Hashable = None,
        *,
        n_draws: int = 0,
        seed: int = 0,
    ) -> tuple[Result, ...]:
        """Score a module now, in either mode, and return a `Result` for each study, measure, layer and region.

        `label` is their `checkpoint`, as text. With `n_draws`, they have intervals and p values, as from
        `score_checkpoints`.
        """
        self._check(module)
        if self.mode == "async":
            return self._submit(module, label, n_draws, seed).results()

        def compute(network: "torch.nn.Module") -> tuple[Result, ...]:
            with self._plain(network) as plain_network, preserved(plain_network):
                model = self._open(plain_network)
                found = self._scoring.scores(model, layers=self._layers.names)
            return self._results_of(found, label, n_draws, seed)

        return self._gathering.once(module, compute, self._device)

    def submit(self, module: "torch.nn.Module", label: Hashable = None) -> PendingScores:
        """Copy the weights of a module, and return while the copy is scored; for mode "async"."""
        if self.mode != "async":
            raise ValueError("submit needs a Scorer with mode='async'")
        self._check(module)
        return self._submit(module, label)

    def _submit(
        self, module: "torch.nn.Module", label: Hashable, n_draws: int = 0, seed: int = 0
    ) -> PendingScores:
        def prepare(network: "torch.nn.Module") -> Callable[[], tuple[Result, ...]]:
            # The network itself runs only while it is opened.
            with self._plain(network) as plain_network, undisturbed(plain_network):
                model = self._open(plain_network, copied=True)
                finish = self._snapshots.start(model, plain_network, self._layers.names)
            return lambda: self._results_of(finish(), label, n_draws, seed)

        def start(network: "torch.nn.Module") -> Future[Outcome]:
            return self._background.start(lambda: prepare(network))

        return self._background.keep(label, self._gathering.later(module, start, self._device))

    def flat(self, results: Sequence[Result]) -> dict[str, float]:
        """Return the dict that a call returns of what `results` returns."""
        return flat_scores(results, self._first_measure)

    def finished(self) -> list[PendingScores]:
        """Return calls in mode "async" that are finished, in their order, without those before and those asked for."""
        return self._background.finished()

    def wait(self, timeout: float | None = None) -> list[PendingScores]:
        """Wait until all calls in mode "async" are finished, and return them as `finished` does.

        Raise TimeoutError if that takes more seconds than `timeout`. Errors of scoring are in the objects returned.
        """
        return self._background.wait(timeout)

    def close(self) -> None:
        """Wait for all calls, and free what is held on devices; an error that nobody has asked for is a RuntimeWarning.

        The end of a ``with`` block does this too. `PendingScores` keep their scores.
        """
        self._is_closed = True
        self._background.close()
        self._models.close()

    def _check(self, module: "torch.nn.Module") -> None:
        if self._is_closed:
            raise ValueError("the Scorer is closed; make a new one")
        if not isinstance(module, torch_package().nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")

    def _plain(self, module: "torch.nn.Module") -> "AbstractContextManager[torch.nn.Module]":
        """The network without wrappers, while it is scored or copied."""
        return plain(module, self._network, compiles=self._compiles)

    def _open(self, module: "torch.nn.Module", *, copied: bool = False) -> TorchModel:
        """The model of a module without wrappers, with the layers asked for."""
        model = self._models.open(module, copied=copied)
        layers = self._layers.names or model.layers
        self._layers.check(model.layers, model.architecture)
        if BEST in layers:
            raise ValueError(
                f"{model.architecture} has a layer named {BEST!r}, which is the key of the highest score; pass taps"
                " with another name"
            )
        return model

    def _results_of(
        self, found: Mapping[str, Any], label: Hashable, n_draws: int = 0, seed: int = 0
    ) -> tuple[Result, ...]:
        name = "" if label is None else str(label)
        scored = Scored(Job(name, 0), Stamp(), "", **found)
        results = results_of(scored, self._scorers, n_draws=n_draws, seed=seed)
        return tuple(r for r in results if self._layers.keeps(r.region, r.layer))
