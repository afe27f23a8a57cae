"""What looks wrong with the stimuli of a study; each suspicion is a sentence that names images and says what to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastrdm._base import counted, list_names
from fastrdm.images import ImageFacts, Preprocessing, natural_key

# An image is called small if both its sides are below this share of the network's input.
_SMALL = 0.5
# Width over height may differ by this factor from the network's input without a suspicion.
_ASPECT = 1.02
# Number of names in a sentence; `Suspicion.stimuli` has all.
_NAMED = 8


@dataclass(frozen=True)
class Suspicion:
    """Something that is probably not meant.

    Attributes
    ----------
    kind : str
        A word for its kind, such as "transparency".
    text : str
        A sentence: what looks wrong, where, and what to do.
    region : str
        The region; empty if it is not about one.
    stimuli : tuple of str
        Names of all images that it is about.
    """

    kind: str
    text: str
    region: str = ""
    stimuli: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stimulus:
    """A stimulus: its row in the RDMs, counted from 0 (−1 for a test stimulus), its name, its file and its facts."""

    row: int
    name: str
    path: Path
    image: ImageFacts

    @property
    def label(self) -> str:
        """Name and row, for sentences."""
        return self.name if self.row < 0 else f"{self.name} (row {self.row})"


Check = Callable[[Sequence[Stimulus], str, Preprocessing, str | None], Iterator[Suspicion]]


def suspect_stimuli(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> list[Suspicion]:
    """Return the suspicions about images; `what` names them, such as "stimuli"."""
    readable = [each for each in stimuli if each.image.sha256]
    return [
        found for check in _CHECKS for found in check(readable, what, preprocessing, background)
    ]


def suspect_order(names: Sequence[str], order: str) -> Iterator[Suspicion]:
    """Yield a suspicion if listed stimuli are in an order that numbers without leading zeros produce."""
    if order in ("sorted", "natural"):
        return
    by_name = sorted(names, key=lambda name: Path(name).parts)
    naturally = sorted(names, key=lambda name: natural_key(Path(name)))
    if list(names) == by_name != naturally:
        here, other = next(
            pair for pair in zip(by_name, naturally, strict=True) if pair[0] != pair[1]
        )
        yield Suspicion(
            "order",
            f"the order ({order or 'of the study'}) has {here} before {other}, as sorting by characters does; check"
            " that the rows of the RDMs are in this order, and not in that of the numbers",
            stimuli=(here, other),
        )


def suspect_unlisted(
    unlisted: Sequence[str], unread: Sequence[str], order: str
) -> Iterator[Suspicion]:
    """Yield suspicions about files in the folder of the stimuli that are not stimuli."""
    if unlisted:
        yield Suspicion(
            "unlisted",
            f"{_in_folder(len(unlisted), 'image')} not listed in {order}, and therefore left out:"
            f" {list_names(unlisted, _NAMED)}; check that the subjects did not see them",
            stimuli=tuple(unlisted),
        )
    if unread:
        yield Suspicion(
            "unread",
            f"{_in_folder(len(unread), 'file')} not read, because of the suffix: {list_names(unread, _NAMED)};"
            " convert them to PNG if they are stimuli",
            stimuli=tuple(unread),
        )


def _in_folder(n: int, noun: str) -> str:
    return f"{counted(n, noun)} in the folder of the stimuli {'is' if n == 1 else 'are'}"


def _share(found: Sequence[Stimulus], stimuli: Sequence[Stimulus], what: str) -> str:
    return f"{len(found)} of {len(stimuli)} {what}"


def _listed(found: Sequence[Stimulus], more: Callable[[Stimulus], str] | None = None) -> str:
    texts = [f"{each.label}{f', {more(each)}' if more else ''}" for each in found]
    return list_names(texts, _NAMED, "; " if more else ", ")


def _names(found: Sequence[Stimulus]) -> tuple[str, ...]:
    return tuple(each.name for each in found)


def _size(stimulus: Stimulus) -> str:
    return f"{stimulus.image.width} × {stimulus.image.height}"


def _transparency(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    found = [each for each in stimuli if each.image.transparent]
    if not found:
        return
    images = _listed(found, lambda each: f"{100 * each.image.transparent:.3g} % of its pixels")
    if background is None:
        advice = (
            "no background is set, so that scoring refuses them; set background in study.toml to the colour that the"
            ' subjects saw, as "#rrggbb", or save the images without transparency'
        )
    else:
        advice = (
            f"they are shown on {background}; check that this is the colour that the subjects saw"
        )
    yield Suspicion(
        "transparency",
        f"{_share(found, stimuli, what)} have transparent pixels ({images}): {advice}",
        stimuli=_names(found),
    )


def _duplicates(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    groups: dict[str, list[Stimulus]] = {}
    for each in stimuli:
        groups.setdefault(each.image.sha256, []).append(each)
    same = [group for group in groups.values() if len(group) > 1]
    if same:
        texts = [list_names((each.label for each in group), 4, " = ") for group in same]
        yield Suspicion(
            "duplicates",
            f"{what} with the same pixels under several names: {list_names(texts, _NAMED, '; ')}; a network cannot tell"
            " them apart, so check the files and the order",
            stimuli=tuple(each.name for group in same for each in group),
        )


def _aspect(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    height, width = preprocessing.size
    input_ = width / height
    found = []
    for each in stimuli:
        ratio = each.image.width / each.image.height / input_
        if max(ratio, 1 / ratio) > _ASPECT:
            found.append(each)
    if not found:
        return
    is_cropped = preprocessing.crop is not None
    how = "lose their sides by the crop to" if is_cropped else "are squashed to"
    shapes = {round(each.image.width / each.image.height, 2) for each in stimuli}
    differ = f"; the {what} differ in shape" if len(shapes) > 1 else ""
    yield Suspicion(
        "aspect",
        f"{_share(found, stimuli, what)} are not of the shape of the network's input and {how} {width} × {height}:"
        f" {_listed(found, _size)}{differ}; crop or pad them as the subjects saw them",
        stimuli=_names(found),
    )


def _small(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    height, width = preprocessing.size
    found = [
        each
        for each in stimuli
        if each.image.width < _SMALL * width and each.image.height < _SMALL * height
    ]
    if found:
        yield Suspicion(
            "small",
            f"{_share(found, stimuli, what)} are enlarged more than twice, to {width} × {height}:"
            f" {_listed(found, _size)}; use the images that the subjects saw, not their thumbnails",
            stimuli=_names(found),
        )


def _colours(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    grey = [each for each in stimuli if each.image.is_grey]
    if grey and len(grey) < len(stimuli):
        yield Suspicion(
            "grey",
            f"{_share(grey, stimuli, what)} are grey, the others have colours: {_listed(grey)}; check that the subjects"
            " saw them so",
            stimuli=_names(grey),
        )
    inks = [each for each in stimuli if each.image.mode == "CMYK"]
    if inks:
        yield Suspicion(
            "cmyk",
            f"{_share(inks, stimuli, what)} are CMYK and converted to RGB without their colour profile:"
            f" {_listed(inks)}; compare the thumbnails with what the subjects saw, or save them as RGB",
            stimuli=_names(inks),
        )


def _uniform(
    stimuli: Sequence[Stimulus], what: str, preprocessing: Preprocessing, background: str | None
) -> Iterator[Suspicion]:
    found = [each for each in stimuli if each.image.is_uniform]
    if found:
        yield Suspicion(
            "uniform",
            f"{_share(found, stimuli, what)} have a single colour: {_listed(found)}; check that the files are not empty"
            " pictures",
            stimuli=_names(found),
        )


_CHECKS: tuple[Check, ...] = (_transparency, _duplicates, _aspect, _small, _colours, _uniform)
