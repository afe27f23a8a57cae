"""The providers of a worker's networks, tested before the first checkpoint can fail because of them."""

from fastrdm.runtimes import (
    Architecture,
    check_torch,
    is_torch,
    open_session,
    probe_graph,
    suits,
)
from fastrdm.scoring.jobs import RunOptions, WorkerSetup


def providers_of(setup: WorkerSetup) -> list[str]:
    """Return the providers in use, such as "torch:cuda:0" or "cpu"; ValueError if one does not load."""
    options = setup.options
    kinds = {type(network.architecture) for network in setup.networks}
    providers = []
    if setup.uses_torch:
        providers.append(_torch_provider(options))
    # Without an architecture, there may be `.onnx` files.
    if Architecture in kinds or not providers:
        session = open_session(
            probe_graph(),
            provider=options.provider,
            precision=options.precision,
            options=options.provider_options,
        )
        providers.append(session.provider)
    return providers


def _torch_provider(options: RunOptions) -> str:
    if options.provider == "auto" and options.provider_options:
        name = next(iter(options.provider_options))
        raise ValueError(
            f"option {name!r} belongs to one provider; name the provider instead of auto"
        )
    found = check_torch(options.provider, options.precision or "fp32", options.provider_options)
    if options.provider == "auto" and not has_device(found):
        raise ValueError(
            "this machine has a GPU that torch is built for, but torch cannot use it (see `fastrdm doctor`);"
            " --provider cpu (provider=) runs networks on the CPU"
        )
    return found


def has_device(provider: str) -> bool:
    """Whether a provider computes RDMs on a device with memory of its own."""
    return provider != "torch:cpu" if is_torch(provider) else suits(provider, "correlation")
