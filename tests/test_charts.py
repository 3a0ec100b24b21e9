"""Charts show the right numbers, and their labels can be read."""

import re

import pytest

from tfrecord_builders.reporting import charts

LINE = 13  # of text, in the diagram's units


def rects(svg):
    """(class, x, y, width, height) of the bars."""
    number = r'"([\d.]+)"'
    return [
        (kind, *map(float, numbers))
        for kind, *numbers in re.findall(
            rf'<rect class="(\w+)" x={number} y={number} width={number} '
            rf"height={number}",
            svg,
        )
    ]


def texts(svg):
    """(x, y, content)"""
    return [
        (float(x), float(y), content)
        for x, y, content in re.findall(
            r'<text class="\w*" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)', svg
        )
    ]


def flow(dropped):
    """A diagram of two inputs; half of the dropped documents are from each."""
    kept, num_dropped = 600, sum(dropped)
    outcomes = [
        charts.Portion("kept", kept),
        *(charts.Portion(f"reason{i}", n, True) for i, n in enumerate(dropped)),
    ]
    half = (kept + num_dropped) // 2
    return charts.flow(
        [
            ("read", [charts.Portion("a", half), charts.Portion("b", half)]),
            ("became", outcomes),
            (
                "set",
                [charts.Portion("train", 500), charts.Portion("eval", 100)],
            ),
        ],
        [
            *(
                (0, i, j, part.count // 2)
                for i in range(2)
                for j, part in enumerate(outcomes)
            ),
            (1, 0, 0, 500),
            (1, 0, 1, 100),
        ],
    )


@pytest.mark.parametrize("num_reasons", [1, 4, 11, 30])
def test_the_bars_of_a_flow_are_as_high_as_their_counts_say(num_reasons):
    dropped = [20 * (i + 1) for i in range(num_reasons)]
    bars = rects(flow(dropped))
    counts = [300 + sum(dropped) // 2] * 2 + [600, *dropped, 500, 100]
    scale = bars[0][4] / counts[0]
    assert len(bars) == len(counts)
    for (*_, height), count in zip(bars, counts, strict=True):
        assert height == pytest.approx(max(1, count * scale), abs=0.06)
    assert 2 * bars[0][4] == pytest.approx(240, abs=0.2)


@pytest.mark.parametrize("num_reasons", [1, 11, 30])
def test_nothing_in_a_flow_overlaps_or_is_cut(num_reasons):
    svg = flow([2 * (i + 1) for i in range(num_reasons)])
    bottom = int(re.search(r'viewBox="0 0 880 (\d+)"', svg)[1])
    for x in (0, 360, 700):
        column = [bar for bar in rects(svg) if bar[1] == x]
        for above, below in zip(column[:-1], column[1:], strict=True):
            assert above[2] + above[4] < below[2]
        assert column[-1][2] + column[-1][4] <= bottom
        ys = sorted(y for text_x, y, _ in texts(svg) if text_x in (x, x + 16))
        assert all(b - a >= LINE for a, b in zip(ys[:-1], ys[1:], strict=True))
        assert ys[-1] < bottom


def test_bands_have_the_class_of_their_outcome_and_fill_its_bar():
    svg = flow([100, 300])
    bands = re.findall(
        r'<path class="(\w+)" d="M[\d.]+ ([\d.]+) .*?V([\d.]+)', svg
    )
    kinds = ["kept", "dropped", "dropped"]
    assert [kind for kind, *_ in bands] == 2 * kinds + ["kept", "kept"]
    # The last band into the last outcome ends where its bar does.
    *_, y, _, height = [bar for bar in rects(svg) if bar[0] == "dropped"][-1]
    assert float(bands[5][2]) == pytest.approx(y + height, abs=0.2)


def test_shares_divide_one_bar_and_the_rarest_is_still_a_line():
    svg = charts.shares(
        [
            charts.Portion("kept", 750_000),
            charts.Portion("short", 249_999, True),
            charts.Portion("none", 0, True),
            charts.Portion("r & s", 1, True),
        ]
    )
    kept, short, rare = rects(svg)
    assert (kept[0], short[0]) == ("kept", "dropped")
    assert kept[3] == pytest.approx(880 * 0.75 - 1)
    assert short[1] == pytest.approx(880 * 0.75)
    assert rare[3] == 1
    assert "r &amp; s 1<" in svg


def test_a_histogram_names_its_first_and_last_bin():
    svg = charts.histogram([("1 – 2", 5), ("3 – 4", 0), ("5", 10)])
    assert [round(bar[4]) for bar in rects(svg)] == [60, 0, 120]
    assert [content for *_, content in texts(svg)] == ["1 – 2", "5"]
    assert "3 – 4: 0</title>" in svg
