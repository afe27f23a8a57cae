"""Fuzz the C++ kernels: `python tests/campaigns/fuzz_kernels.py [--seconds 3600] [--sanitize thread] [--neon]`.

Builds tests/campaigns/kernels with CMake and runs it: each kernel on random shapes and numbers, on every instruction
set of this machine, with 1 to 64 threads, partly after an interrupted call, against plain loops. With Clang, libFuzzer
chooses the inputs (apt-get install clang); else a random driver does. `--neon` runs the NEON kernels under qemu-user
(apt-get install g++-aarch64-linux-gnu qemu-user-static). Inputs of findings are kept in the build folder. Exit status 1
means a finding, 3 that a tool is missing.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CROSS = "aarch64-linux-gnu-g++"
QEMU = ("qemu-aarch64-static", "qemu-aarch64")
MISSING = 3


class MissingToolError(Exception):
    """A program that the campaign needs is not installed."""


def found(*programs, package):
    for program in programs:
        if path := shutil.which(program):
            return path
    raise MissingToolError(
        f"{programs[0]} is not installed: apt-get install {package}, or the same from another source"
    )


def build(folder, sanitize, neon):
    """Return the command that runs the fuzzing program, and whether it is libFuzzer."""
    cmake = found("cmake", package="cmake")
    options = [f"-DFASTRDM_SANITIZE={sanitize}", "-DFASTRDM_FUZZ=ON"]
    runner = []
    if neon:
        runner = [found(*QEMU, package="qemu-user-static")]
        compiler = found(CROSS, package="g++-aarch64-linux-gnu")
        options += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
        options += ["-DCMAKE_EXE_LINKER_FLAGS=-static"]
    else:
        # The random driver calls kernels from several threads, for the thread sanitizer.
        clang = None if sanitize == "thread" else shutil.which("clang++")
        compiler = clang or found("g++", "c++", package="g++")
        if not clang and sanitize != "thread":
            print(
                "clang++ is not installed, so inputs are random: apt-get install clang", flush=True
            )
    options += [f"-DCMAKE_CXX_COMPILER={compiler}", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    subprocess.run(
        [cmake, "-S", ROOT, "-B", folder, *options], check=True, stdout=subprocess.DEVNULL
    )
    subprocess.run(
        [cmake, "--build", folder, "--parallel", "2"], check=True, stdout=subprocess.DEVNULL
    )
    return [*runner, folder / "fuzz_kernels"], "clang" in Path(compiler).name


def fuzz(folder, seconds, *, sanitize="address,undefined", neon=False):
    """Return the exit status of the fuzzing program, 0 without a finding."""
    folder = Path(folder)
    command, libfuzzer = build(folder, "" if neon else sanitize, neon)
    if libfuzzer:
        corpus = folder / "corpus"
        corpus.mkdir(exist_ok=True)
        command += ["-max_len=200", "-len_control=0", "-timeout=300", "-print_final_stats=1"]
        command += [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/finding-", corpus]
    else:
        n_threads = 4 if sanitize == "thread" else 1
        command += [f"-seconds={seconds}", f"-threads={n_threads}", f"-keep={folder}/last-input"]
    return subprocess.run(command, check=False).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--sanitize", default="address,undefined")
    parser.add_argument("--neon", action="store_true")
    options = parser.parse_args()
    name = "neon" if options.neon else options.sanitize.replace(",", "-") or "plain"
    folder = ROOT / "build" / "fuzz" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        status = fuzz(folder, options.seconds, sanitize=options.sanitize, neon=options.neon)
    except MissingToolError as error:
        print(f"skipped: {error}")
        sys.exit(MISSING)
    print(f"finding: rerun its input with {folder / 'fuzz_kernels'}" if status else "no finding")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
