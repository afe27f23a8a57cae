"""The statements that put one store into another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def _copy(table: str, columns: str) -> str:
    return f"INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM o.{table}"


# Numbers of one store → numbers of the other, by what the rows are known by.
_SAME_METHOD = "JOIN o.methods om ON om.id = {0}.method JOIN main.methods m ON m.key = om.key"


_SAME_TARGET = "JOIN o.targets ot ON ot.id = {0}.target JOIN main.targets t ON t.key = ot.key"


_SAME_RUN = "JOIN o.runs ou ON ou.id = {0}.run JOIN main.runs u ON u.uuid = ou.uuid"


_SAME_CHECKPOINT = (
    "JOIN o.checkpoints oc ON oc.id = {0}.checkpoint "
    + _SAME_METHOD.format("oc")
    + " JOIN main.checkpoints c ON c.sha256 = oc.sha256 AND c.method = m.id"
)


MERGE = (
    _copy("runs", "uuid, started, ended, outcome, host, pid, settings"),
    _copy("environments", "key, facts"),
    _copy("methods", "key, arch, graph, preprocessing, precision, kernels"),
    _copy(
        "targets",
        "key, study, region, stimuli, subjects, protocol, ceiling, n_subjects, synthetic",
    ),
    "INSERT OR IGNORE INTO main.checkpoints (sha256, method, path, labels)"
    f" SELECT oc.sha256, m.id, oc.path, oc.labels FROM o.checkpoints oc {_SAME_METHOD.format('oc')}",
    # Results before what says that they are complete, so that of what both have only ours remain.
    "INSERT OR IGNORE INTO main.results"
    " SELECT c.id, t.id, r.position, r.layer, r.r2, r.std, r.sample_std, r.percent_nc, r.p, r.value, r.rho"
    f" FROM o.results r {_SAME_CHECKPOINT.format('r')} {_SAME_TARGET.format('r')}"
    " WHERE NOT EXISTS (SELECT 1 FROM main.scored s WHERE s.checkpoint = c.id AND s.target = t.id)",
    "INSERT OR IGNORE INTO main.scored SELECT c.id, t.id, u.id, e.id, s.at, s.seconds, s.warnings"
    f" FROM o.scored s {_SAME_CHECKPOINT.format('s')} {_SAME_TARGET.format('s')} {_SAME_RUN.format('s')}"
    " JOIN o.environments oe ON oe.id = s.environment JOIN main.environments e ON e.key = oe.key",
    "INSERT OR IGNORE INTO main.rdms SELECT c.id, d.stimuli, d.position, d.layer, d.content"
    f" FROM o.rdms d {_SAME_CHECKPOINT.format('d')}",
    "INSERT OR IGNORE INTO main.files SELECT path, size, mtime_ns, sha256 FROM o.files",
    "INSERT OR IGNORE INTO main.failures"
    " SELECT f.path, m.id, u.id, f.size, f.mtime_ns, f.at, f.attempts, f.error, f.traceback FROM o.failures f"
    f" {_SAME_METHOD.format('f')} {_SAME_RUN.format('f')} WHERE NOT EXISTS"
    " (SELECT 1 FROM main.checkpoints c WHERE c.path = f.path AND c.method = m.id)",
)
