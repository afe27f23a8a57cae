"""Run this checkout's benches on two revisions of fastrdm: python bench/compare.py BASE [EXPRESSION].

BASE (any name of a commit) and the working tree are each built and installed into a separate environment, on top of the
packages installed here. Each runs four times, alternating, so that a machine that warms up or is disturbed does not
favour one of them. The table shows the best of the four medians of a bench. It calls a revision faster or slower only
if all its four medians lie on one side of the other's, which happens by chance once in 35 times, and the best differ
by more than 5 %. Only fastrdm's own benches run, not its peers. EXPRESSION selects among them like pytest's -k, for
instance "avx2 and not many_conditions".

The benches of the kernels use public names and `bench.library`, so they run on older revisions too. A bench that needs
names that BASE does not have is an error of pytest's and a dash in the table.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = ("bench", "models", "tests/reference.py", "pyproject.toml")
ORDER = ("base", "now", "now", "base", "now", "base", "base", "now")
# Smaller differences are not reported.
NOISE = 0.05


def run(*command: str | Path, **options: object) -> None:
    """Run a command; on failure, exit with its status as the message."""
    finished = subprocess.run(list(map(str, command)), **options)  # type: ignore[call-overload]
    if finished.returncode:
        sys.exit(f"failed with status {finished.returncode}: {' '.join(map(str, command))}")


def install(source: Path, folder: Path) -> Path:
    """Build `source` into a new environment in `folder`; return its Python."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    # A path in a .pth file comes after the environment's own packages, and the .pth files in it are not read, so an
    # editable install of fastrdm here has no effect.
    installed = [path for path in sys.path if path.endswith("-packages")]
    (site / "installed.pth").write_text("".join(f"{path}\n" for path in installed))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    build = f"--config-settings=build-dir={folder / 'build'}"
    run(*pip, "--no-deps", "--force-reinstall", build, source)
    return python


def medians(python: Path, suite: Path, output: Path, expression: str) -> dict[str, float]:
    """Medians of fastrdm's benches by name, without benches that this revision cannot run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FASTRDM"))}
    command = [python, "-m", "pytest", "bench", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += ["--continue-on-collection-errors", "-k", f"fastrdm and ({expression})"]
    command += [f"--benchmark-json={output}", "--benchmark-quiet", "--tb=line"]
    # An older revision may lack what a bench needs: pytest reports the error, and the table has a dash.
    subprocess.run([*map(str, command)], cwd=suite, env=environment)
    results = json.loads(output.read_text()) if output.exists() and output.stat().st_size else {}
    return {
        f"{entry['group']}, {entry['extra_info']['contender']}": entry["stats"]["median"]
        for entry in results.get("benchmarks", [])
    }


def main(base: str, expression: str) -> None:
    """Build, run and print the comparison."""
    with tempfile.TemporaryDirectory(prefix="fastrdm-bench-") as name:
        folder = Path(name)
        checkout, suite = folder / "checkout", folder / "suite"
        run("git", "worktree", "add", "--quiet", "--detach", checkout, base, cwd=ROOT)
        try:
            # Copied, because in the checkout the source would shadow the builds.
            for part in SUITE:
                (suite / part).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
                copy(ROOT / part, suite / part)
            pythons = {
                "base": install(checkout, folder / "base"),
                "now": install(ROOT, folder / "now"),
            }
            runs: dict[str, dict[str, list[float]]] = {"base": {}, "now": {}}
            for i, which in enumerate(ORDER):
                print(f"run {i + 1} of {len(ORDER)}: {which}", flush=True)
                output = folder / f"{i}.json"
                for bench, median in medians(pythons[which], suite, output, expression).items():
                    runs[which].setdefault(bench, []).append(median)
        finally:
            run("git", "worktree", "remove", "--force", checkout, cwd=ROOT)
    names = dict.fromkeys([*runs["now"], *runs["base"]])
    print(f"\n{'base / ms':>10} {'now / ms':>10} {'speed-up':>9}  bench (base: {base})")
    for bench in names:
        print(line(bench, runs["base"].get(bench, []), runs["now"].get(bench, [])))
    for which, revision in (("base", base), ("now", "the working tree")):
        if missing := sum(bench not in runs[which] for bench in names):
            print(
                f"–: {revision} cannot run {missing} of {len(names)} benches; pytest's errors above say why"
            )
    if not names:
        sys.exit(f"no bench ran on {base} or on the working tree; pytest's output above says why")


def line(bench: str, base: list[float], now: list[float]) -> str:
    """Return the table's row of a bench."""
    times = [f"{1e3 * min(runs):10.3f}" if runs else f"{'–':>10}" for runs in (base, now)]
    if not (base and now):
        return f"{' '.join(times)} {'–':>9}  {bench}"
    ratio = min(base) / min(now)
    faster = max(now) < min(base) and ratio > 1 + NOISE
    slower = max(base) < min(now) and ratio < 1 - NOISE
    verdict = "faster: " if faster else "SLOWER: " if slower else ""
    return f"{' '.join(times)} {ratio:8.2f}×  {verdict}{bench}"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], *(sys.argv[2:] or ["fastrdm"]))
