"""The images of a study: found in its folder, chosen by the names in a list."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from unicodedata import normalize

from fastrdm._base import list_names, suggestion
from fastrdm.images import SUFFIXES, describe_unread, name_in, unread_files


class StimulusNames:
    """The images of a folder by name: the path relative to the folder, or the file name alone if it is unique.

    Names are compared in the Unicode form NFC: macOS writes é as e and an accent, other systems as one character.
    """

    def __init__(self, images: Sequence[Path], folder: Path, exclude: Sequence[Path] = ()) -> None:
        self.folder, self.exclude = folder, exclude
        self.images = images
        self._by_name: dict[str, Path] = {}
        self._twice: set[str] = set()
        self._by_file: dict[str, list[str]] = {}
        for image in images:
            name = normalize("NFC", name_in(image, folder))
            if name in self._by_name:
                self._twice.add(name)
            else:
                self._by_file.setdefault(normalize("NFC", image.name), []).append(name)
            self._by_name[name] = image
        # Names with their folders come before file names, and those with suffix before those without.
        self._labels: list[dict[str, list[str]]] = [{}, {}, {}, {}]
        for name in self._by_name:
            path = PurePosixPath(name)
            keys = (name, str(path.with_suffix("")), path.name, path.stem)
            for key, names in zip(keys, self._labels, strict=True):
                names.setdefault(key, []).append(name)

    def choose(self, listed: Sequence[str], where: str) -> tuple[Path, ...]:
        """Return the images with these names, in their order; `where` begins the errors.

        ValueError if a name leaves the folder, matches no image or several, or an image is listed twice.
        """
        names = [self._find(normalize("NFC", name), where) for name in listed]
        missing = [name for name in names if name not in self._by_name]
        if missing:
            more = f" ({len(missing) - 1} more: {list_names(missing[1:])})" if missing[1:] else ""
            raise ValueError(f"{where} lists {missing[0]}, which {self._absence(missing[0])}{more}")
        for name, count in Counter(names).items():
            if name in self._twice:
                raise ValueError(
                    f"{where} lists {name}, which exists twice, under two Unicode forms of one name"
                )
            if count > 1:
                raise ValueError(f"{where} lists {name} {count} times")
        return tuple(self._by_name[name] for name in names)

    def labelled(self, label: str) -> tuple[str, ...]:
        """Return the names of the images that a label of a condition means: none, one, or several.

        A label is the name of an image, or its path, with or without the suffix; the path may begin with other folders.
        """
        text = normalize("NFC", label).replace("\\", "/")
        parts = PurePosixPath(text).parts
        for known in (text, *("/".join(parts[i:]) for i in range(1, len(parts)))):
            for names in self._labels:
                if found := names.get(known):
                    return tuple(found)
        return ()

    def unlisted(self, chosen: Sequence[Path]) -> tuple[str, ...]:
        """Return the names of the images that are not among those chosen."""
        known = set(chosen)
        return tuple(name_in(path, self.folder) for path in self.images if path not in known)

    def left_out(self, unlisted: Sequence[str]) -> str:
        """Return what may explain a wrong number of stimuli, as the end of a sentence."""
        unread = describe_unread(self.folder, recursive=True, exclude=self.exclude)
        listed = f"; present but not listed: {list_names(unlisted)}" if unlisted else ""
        return f"{unread}{listed}{'' if unlisted else self._subfolders()}"

    def _subfolders(self) -> str:
        """Return the number of images in each subfolder, empty if there is none."""
        parents = Counter(name_in(path.parent, self.folder) for path in self.images)
        if parents.keys() == {"."}:
            return ""
        counts = [f"{n} in {parent}" for parent, n in parents.items() if parent != "."]
        top = [f"{parents['.']} in the folder itself"] if "." in parents else []
        return f"; subfolders are read too: {list_names([*top, *counts], 6)}"

    def _find(self, name: str, where: str) -> str:
        """Return the name of the image that a listed name means, or the listed name if there is none."""
        if name in self._by_name:
            return name
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
            raise ValueError(
                f"{where} lists {name}, which is not a path inside {self.folder}; list paths relative to this folder"
            )
        relative = str(path)
        if relative in self._by_name:
            return relative
        same = self._by_file.get(relative, [])
        if len(same) > 1:
            raise ValueError(
                f"{where} lists {name}, which is in several folders: {list_names(same)}; list it with its folder"
            )
        return same[0] if same else name

    def _absence(self, name: str) -> str:
        """Return why a name is not an image: not read, spelt differently in the folder, or missing."""
        folder = self.folder
        files = unread_files(folder, recursive=True, exclude=self.exclude)
        unread = {normalize("NFC", name_in(path, folder)): path for path in files}
        if name in unread or name in {normalize("NFC", path.name) for path in files}:
            return f"is in {folder} but not read: stimuli are {', '.join(sorted(SUFFIXES))} files"
        if other := _alike(name, {**self._by_name, **unread}):
            same = normalize("NFKC", other) == normalize("NFKC", name)
            form = "under another Unicode form of its name" if same else "with other capitals"
            return f"is in {folder} {form}, as {other}; use that spelling"
        return f"is not an image in {folder}{suggestion(name, self._by_name)}"


def _alike(name: str, known: Mapping[str, Path]) -> str | None:
    """Return the known name, or the last part of one, that differs in its Unicode form or capitals alone."""
    alike = {_folded(PurePosixPath(each).name): each for each in known}
    alike |= {_folded(each): each for each in known}
    return alike.get(_folded(name))


def _folded(name: str) -> str:
    return normalize("NFKC", name).casefold()
