"""Where the time went."""

import pytest

from fastrdm import plot

TIMES = {
    "fastrdm": {"decode": 0.02, "forward": 3.4, "RDM": 0.3, "other": 0.01},
    "$torch$": {"forward": 6.2, "RDM": 1.6, "store": 1.2},
}


def test_bars_add_up_to_the_total():
    axes = plot.stages(TIMES, notes={"fastrdm": "1.1 ×"})
    ends = {}
    for bars in axes.containers:
        for name, bar in zip(TIMES, bars, strict=True):
            assert bar.get_x() == pytest.approx(ends.get(name, 0))
            ends[name] = bar.get_x() + bar.get_width()
    assert ends == pytest.approx({name: sum(parts.values()) for name, parts in TIMES.items()})
    assert [text.get_text() for text in axes.texts] == ["3.73 s, 1.1 ×", "9 s"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["fastrdm", r"\$torch\$"]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["decode", "forward", "RDM", "store", "other"]


def test_short_times_are_in_milliseconds():
    axes = plot.stages({"a": {"RDM": 2e-3}})
    assert axes.get_xlabel() == "milliseconds"
    assert axes.containers[0][0].get_width() == pytest.approx(2)


@pytest.mark.parametrize(
    ("times", "options", "words"),
    [
        ({}, {}, "no contender"),
        ({"a": {"b": -1.0}}, {}, "times of 'a': stage 'b' takes -1.0 s"),
        ({"a": {"b": float("nan")}}, {}, "stage 'b' takes nan s"),
        ({"a": {"b": 1.0}}, {"order": ["c"]}, "order lacks the stage 'b'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(times, options, words):
    with pytest.raises(ValueError, match=words):
        plot.stages(times, **options)


def test_reference_image(check_image):
    check_image(plot.stages(TIMES), "stages")
