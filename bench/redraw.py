"""bench/RESULTS*.md → their pictures and the README's, without measuring: python -m bench.redraw."""

from pathlib import Path

from bench.pictures import SPEED, draw_ratios, draw_speed, draw_stages
from bench.tables import fact, read_report

BENCH = Path(__file__).parent
SPEED_PICTURE = BENCH.parent / "docs/speed.svg"


def main() -> None:
    """Draw the pictures of both reports, and of the path of one checkpoint."""
    for name in ("RESULTS", "RESULTS-avx512"):
        tasks = read_report(BENCH / f"{name}.md")
        draw_ratios([task for task in tasks if not task.has_stages], BENCH / f"{name}.png")
    report = BENCH / "RESULTS.md"
    (path,) = (task for task in read_report(report) if task.rows.keys() >= SPEED.keys())
    draw_stages(path, BENCH / "RESULTS-path.png")
    threads = fact(report, "Threads").partition(",")[0]
    draw_speed(path, f"{threads} threads of an {fact(report, 'Processor')}", SPEED_PICTURE)


if __name__ == "__main__":
    main()
