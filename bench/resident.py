"""The resident memory of this process. Linux only.

Read from /proc/self/status, because the peak that getrusage returns is inherited from the parent process.
"""

from pathlib import Path


def resident(field):
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
