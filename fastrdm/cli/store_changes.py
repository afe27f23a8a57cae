"""`fastrdm merge` and `fastrdm label`: changes to stores that score nothing."""

import argparse

from fastrdm._base import counted, existing_name, list_names
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo, echo_json


def add_merge(merge: argparse.ArgumentParser) -> None:
    """Add the arguments of `merge`."""
    merge.description = (
        "Add to the first store, which is created if necessary, what the others hold beyond it."
    )
    merge.add_argument("store", type=existing_name, metavar="INTO.db")
    merge.add_argument("others", nargs="+", type=existing_name, metavar="FROM.db")
    add_json(merge, "a JSON object with the numbers of checkpoints")
    merge.set_defaults(run=_merge)


def add_label(label: argparse.ArgumentParser) -> None:
    """Add the arguments of `label`."""
    label.description = (
        "Add labels to the checkpoints of a store, or remove them; nothing is scored."
    )
    label.add_argument("store", type=existing_name, metavar="SCORES.db")
    add = label.add_argument
    labels = r"searched in each path; its named groups become labels, e.g. 'epoch(?P<epoch>\d+)'"
    add("--labels", default="", metavar="REGEX", help=labels)
    remove = "label to remove from all checkpoints first; may be repeated"
    add("--remove", action="append", default=[], metavar="NAME", help=remove)
    add_json(label, "a JSON object with the numbers of paths")
    label.set_defaults(run=_label)


def _merge(arguments: argparse.Namespace) -> int:
    from fastrdm.scoring import Store

    # Opened first, so that a mistake in a name creates no store.
    for other in arguments.others:
        Store(other).close()
    with Store(arguments.store, write=True) as store:
        added = []
        for other in arguments.others:
            added.append({"store": other, "checkpoints": store.merge(other)})
            if not arguments.json:
                echo(f"{other}: {counted(added[-1]['checkpoints'], 'checkpoint')} added")
        total = store.counts()["checkpoints"]
    if arguments.json:
        echo_json({"store": arguments.store, "checkpoints": total, "added": added})
    else:
        echo(f"{arguments.store}: {counted(total, 'checkpoint')}")
    return 0


def _label(arguments: argparse.Namespace) -> int:
    from fastrdm.scoring import Store, compile_labels, find_labels

    if not arguments.labels and not arguments.remove:
        raise ValueError("nothing to do: name labels with --labels REGEX, or --remove NAME")
    compile_labels(arguments.labels)
    # Opened for reading first, so that a mistake in the name creates no store.
    with Store(arguments.store) as store:
        paths = store.paths()
    found = find_labels(arguments.labels, paths) if arguments.labels else {}
    without = [path for path, labels in found.items() if not labels]
    if arguments.labels and len(without) == len(paths):
        names = f": {list_names(paths)}" if paths else ""
        raise ValueError(
            f"labels '{arguments.labels}' match none of the {len(paths)} paths of {arguments.store}{names}"
        )
    with Store(arguments.store, write=True) as store:
        if arguments.remove:
            store.remove_labels(arguments.remove)
        store.set_labels({path: labels for path, labels in found.items() if labels})
    if arguments.json:
        counts = {"paths": len(paths), "labelled": len(found) - len(without), "without": without}
        echo_json({"store": arguments.store, **counts, "removed": arguments.remove})
    elif arguments.labels:
        others = f"; not {list_names(without)}" if without else ""
        echo(f"{len(found) - len(without)} of {len(paths)} paths have labels{others}")
    return 0
