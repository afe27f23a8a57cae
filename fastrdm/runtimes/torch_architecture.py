"""A network that torch runs, by its name: what a sweep has to know of it, without its weights."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastrdm.images import Preprocessing
from fastrdm.networks import (
    Layout,
    RequestedPreprocessing,
    Taps,
    choose_taps,
    describe_taps,
    inspect_module,
    needed_entries,
    preprocessing_for,
)
from fastrdm.runtimes.checkpoints import import_arch
from fastrdm.runtimes.exports import Exported, ExportRequest, Exports, warnings_recorded
from fastrdm.runtimes.rebuilding import constants_digest
from fastrdm.runtimes.torch_fingerprint import module_fingerprint
from fastrdm.runtimes.torch_model import unwrapped

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TorchArchitecture:
    """Facts of a network that torch runs, which need neither torch nor the network once they are known.

    `name` is its "module:callable", `requested` the taps asked for. `needed` are the entries of the state dict, of
    which `layout` is the layout, on which the tapped layers depend. `fingerprint` is that of `module_fingerprint`,
    `preprocessing_json` the preprocessing of images, and `taps` lists the layers.
    """

    name: str
    requested: Taps | None
    layout: Layout = field(repr=False)
    needed: tuple[str, ...] = field(repr=False)
    fingerprint: str
    preprocessing_json: str = field(repr=False)
    taps: str = field(repr=False)

    @classmethod
    def find(
        cls,
        arch: str,
        taps: Taps | None = None,
        *,
        preprocessing: RequestedPreprocessing | None = None,
        exports: Exports | None = None,
    ) -> "TorchArchitecture | None":
        """Read what an earlier `inspect` kept, without importing torch; None if a new one could differ from it."""
        request = ExportRequest.of(arch, taps, None, preprocessing, "torch")
        found = (exports or Exports()).find(request)
        if found is None:
            return None
        found.warn()
        layout = Layout.from_json(found.layout)
        facts = (found.initialisers, found.fingerprint, found.preprocessing, found.taps)
        return cls(arch, taps, layout, *facts)

    @classmethod
    def inspect(
        cls,
        arch: str,
        taps: Taps | None = None,
        *,
        preprocessing: RequestedPreprocessing | None = None,
        exports: Exports | None = None,
    ) -> "TorchArchitecture":
        """Build a network and run it on black images, or read what an earlier call kept, as `Architecture.export`.

        Errors are those of `import_arch` and `export_onnx`, but the network need not be one that can be exported.
        """
        exports = exports or Exports()
        if found := cls.find(arch, taps, preprocessing=preprocessing, exports=exports):
            return found
        with warnings_recorded() as caught, exports.recorded():
            build = import_arch(arch)
            module = unwrapped(build())
            constants = constants_digest(module)
            made = cls._of(arch, module, taps, preprocessing)
            is_reproducible = constants_digest(unwrapped(build())) == constants
        if is_reproducible:
            request = ExportRequest.of(arch, taps, None, preprocessing, "torch")
            facts = (b"", made.layout.to_json(), made.needed, made.fingerprint)
            kept = Exported(*facts, made.preprocessing_json, made.taps, tuple(caught))
            exports.keep(request, kept)
        return made

    @classmethod
    def _of(
        cls,
        arch: str,
        module: "torch.nn.Module",
        taps: Taps | None,
        preprocessing: RequestedPreprocessing | None,
    ) -> "TorchArchitecture":
        prepared = preprocessing_for(module, preprocessing)
        chosen = choose_taps(module, inspect_module(module, prepared.size), taps)
        if not chosen:
            raise ValueError(f"{arch} has no child that can be tapped; pass taps=")
        described = {name: choice.to_dict() for name, choice in chosen.items()}
        texts = {"layers": list(chosen), "taps": described}
        return cls(
            arch,
            taps,
            Layout.of(module),
            needed_entries(module, chosen, prepared.size),
            module_fingerprint(module, chosen),
            prepared.to_json(),
            describe_taps({f"fastrdm.{key}": json.dumps(value) for key, value in texts.items()}),
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of images."""
        return Preprocessing.from_json(self.preprocessing_json)

    def build(self) -> "torch.nn.Module":
        """Build the network; ValueError if it is another one than the facts describe."""
        module = unwrapped(import_arch(self.name)())
        size = self.preprocessing.size
        chosen = choose_taps(module, inspect_module(module, size), self.requested)
        if module_fingerprint(module, chosen) != self.fingerprint:
            raise ValueError(
                f"arch {self.name!r} builds another network than when the sweep began: its code has changed, or"
                " constants outside its state dict are random"
            )
        return module
