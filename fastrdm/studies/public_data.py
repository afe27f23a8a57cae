"""Public data that fastrdm can fetch: where they are, their licences, and what is not known about them.

Addresses come from the owners' pages. None of these servers was reached in developing fastrdm: its tests use a server
of their own. No checksums of the owners are known here, so files are checked against a list that a user has, or against
those of an earlier fetch into the same folder.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """A file of public data."""

    #: Path in the target folder.
    name: str
    #: Path below the base URL.
    path: str
    #: Address, if it is not that path below the base URL.
    url: str | None = None
    #: Whether it is an archive, which is unpacked beside it.
    unpack: bool = False


@dataclass(frozen=True)
class PublicData:
    """What can be fetched under one name."""

    name: str
    title: str
    #: None if no address of a direct download is known.
    base_url: str | None
    files: tuple[RemoteFile, ...]
    #: The owner's page.
    page: str
    licence: str
    #: Files that the first files list: folder → files.
    more: Callable[[Path], list[RemoteFile]] | None = None
    notice: str = ""


def _shared_images(folder: Path) -> list[RemoteFile]:
    """Return the images that all subjects of NSD saw, as the table of its stimuli lists them."""
    table = folder / "nsd_stim_info_merged.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"nsdId", "shared1000"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{table} has no columns nsdId and shared1000; is it NSD's table?")
        try:
            shared = sorted(int(row["nsdId"]) for row in rows if row["shared1000"] == "True")
        except ValueError:
            raise ValueError(f"{table} has an nsdId that is not an integer") from None
    if not shared:
        raise ValueError(f"{table} marks no image as shared1000")
    # Images are numbered from 1, and the table's nsdId from 0.
    names = [f"shared{k:04d}_nsd{nsd_id + 1:05d}.png" for k, nsd_id in enumerate(shared, 1)]
    return [
        RemoteFile(f"stimuli/{name}", f"nsddata_stimuli/stimuli/nsd/shared1000/{name}")
        for name in names
    ]


#: Name → public data.
PUBLIC_DATA: Mapping[str, PublicData] = {
    each.name: each
    for each in (
        PublicData(
            "algonauts2019",
            "The Algonauts Project 2019 challenge: images, and RDMs of 15 subjects (fMRI, MEG)",
            None,
            (RemoteFile("algonautsChallenge2019.zip", "algonautsChallenge2019.zip", unpack=True),),
            "http://algonauts.csail.mit.edu/2019/download.html",
            "The terms of the challenge, on its page. Cite Cichy et al. (2019), arXiv:1905.05675.",
            notice="its archive has no address that is known here",
        ),
        PublicData(
            "nsd-shared",
            "The Natural Scenes Dataset: the 1,000 images that all subjects saw, and the table of stimuli",
            "https://natural-scenes-dataset.s3.amazonaws.com",
            (
                RemoteFile(
                    "nsd_stim_info_merged.csv", "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
                ),
            ),
            "https://naturalscenesdataset.org",
            "NSD's terms and conditions: its users fill in the Data Access Agreement on its page. The images are "
            "COCO's, under its terms of use. Cite Allen et al. (2022), doi:10.1038/s41593-021-00962-x.",
            _shared_images,
        ),
        PublicData(
            "things-fmri",
            "THINGS-data: fMRI responses of 3 subjects to single presentations of THINGS images, as tables",
            "https://plus.figshare.com/ndownloader/files",
            (
                RemoteFile(
                    "betas_csv.zip",
                    "betas_csv.zip",
                    "https://plus.figshare.com/ndownloader/files/36789690",
                    unpack=True,
                ),
            ),
            "https://doi.org/10.25452/figshare.plus.c.6161151",
            "The licence that the page of the collection states. Cite Hebart et al. (2023), doi:10.7554/eLife.82580.",
        ),
    )
}
