"""What the rows of a store must be, as SQL conditions: values, states, and rows that others refer to."""

from collections.abc import Mapping

_SHA256 = "length({0}) = 64 AND {0} NOT GLOB '*[^0-9a-f]*'"
_OBJECT = "CASE WHEN json_valid({0}) THEN json_type({0}) = 'object' END"
_STATE = "{0} IN (0, 1)"
_FINITE = "abs({0}) < 9e999"

# For each table and column, a condition that a value of the right type meets, and what it means.
VALUES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "runs": {
        "outcome": ("outcome IN ('finished', 'stopped')", "not a known state"),
        "settings": (_OBJECT.format("settings"), "not a JSON object"),
    },
    "environments": {"facts": (_OBJECT.format("facts"), "not a JSON object")},
    "targets": {
        "protocol": (_OBJECT.format("protocol"), "not a JSON object"),
        "ceiling": (_FINITE.format("ceiling"), "not finite"),
        "n_subjects": ("n_subjects > 0", "not positive"),
        "synthetic": (_STATE.format("synthetic"), "not a known state"),
    },
    "checkpoints": {
        "sha256": (_SHA256.format("sha256"), "not a SHA-256"),
        "taken": (_OBJECT.format("taken"), "not a JSON object"),
    },
    "scored": {
        "seconds": ("seconds >= 0 AND seconds < 9e999", "not a duration"),
        "warnings": (
            "CASE WHEN json_valid(warnings) THEN json_type(warnings) = 'array' END",
            "not a JSON array",
        ),
        "checksum": (f"checksum = '' OR {_SHA256.format('checksum')}", "not a SHA-256"),
    },
    "results": {
        "position": ("position >= 0", "negative"),
        "std": ("std >= 0", "negative"),
        "sample_std": ("sample_std >= 0", "negative"),
        "p": ("p BETWEEN 0 AND 1", "not between 0 and 1"),
        "rho": ("length(rho) > 0 AND length(rho) % 8 = 0", "not the numbers of subjects"),
    },
    "rdms": {"position": ("position >= 0", "negative")},
    "files": {
        "size": ("size >= -1", "negative"),
        "sha256": (_SHA256.format("sha256"), "not a SHA-256"),
    },
    "failures": {
        "size": ("size >= -1", "negative"),
        "attempts": ("attempts > 0", "not positive"),
    },
    "entries": {"is_current": (_STATE.format("is_current"), "not a known state")},
    "writers": {"is_open": (_STATE.format("is_open"), "not a known state")},
    "labels": {"labels": (_OBJECT.format("labels"), "not a JSON object")},
}

# What is wrong with rows, and a statement that counts them.
RELATIONS: Mapping[str, str] = {
    "results without the row of scored that completes them": "SELECT count(*) FROM results r WHERE NOT EXISTS"
    " (SELECT 1 FROM scored s WHERE s.checkpoint = r.checkpoint AND s.target = r.target)",
    "rows of scored without results": "SELECT count(*) FROM scored s WHERE NOT EXISTS"
    " (SELECT 1 FROM results r WHERE r.checkpoint = s.checkpoint AND r.target = s.target)",
    "checkpoints without the path of any file": "SELECT count(*) FROM checkpoints c WHERE NOT EXISTS"
    " (SELECT 1 FROM entries e WHERE e.checkpoint = c.id)",
    "entries with another method than their checkpoint": "SELECT count(*) FROM entries e"
    " JOIN checkpoints c ON c.id = e.checkpoint WHERE c.method != e.method",
    "paths with several current contents": "SELECT count(*) FROM"
    " (SELECT 1 FROM entries WHERE is_current GROUP BY path, method HAVING count(*) > 1)",
    "RDMs of stimuli that no target has": "SELECT count(*) FROM rdms r WHERE NOT EXISTS"
    " (SELECT 1 FROM targets t WHERE t.stimuli = r.stimuli)",
    "labels that are not text": "SELECT count(*) FROM labels,"
    " json_each(CASE WHEN json_valid(labels) THEN labels ELSE '{}' END) j WHERE j.type != 'text'",
}
