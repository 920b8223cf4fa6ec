"""Line charts as coordinates that a template draws as SVG; nothing here knows colours, which follow the theme."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 300  # units of the drawing, which scales with the page
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 14, 40


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        name: what the line stands for, such as the method: its colour on the whole page.
        points: x, y and the deviation of y (0 for none).
        dashed: draw it dashed.
        marked: mark every point.
    """

    name: str
    points: Sequence[tuple[float, float, float]]
    dashed: bool = False
    marked: bool = True


@dataclass(frozen=True)
class Drawn:
    """A line in units of the drawing; `dots` are x, y, lower and upper end of the whisker, and words."""

    name: str
    path: str
    dashed: bool
    dots: tuple[tuple[float, float, float, float, str], ...]


@dataclass(frozen=True)
class Chart:
    """A chart in units of the drawing; ticks are a position and its words."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Drawn, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_charts(
    panels: Mapping[str, Sequence[Line]], x_label: str, y_label: str, x_ticks: Sequence[float], log: bool = False
) -> list[Chart]:
    """Lay charts out side by side with the same axes, so that they can be compared by eye.

    y runs over round numbers around the data of all charts, x over its ticks, on a logarithmic axis if `log`.

    Args:
        panels: title and lines of each chart; a chart without lines is left out.
        x_label: under them.
        y_label: beside them.
        x_ticks: where x is labelled, rising; the first and the last are the ends of the axis.
        log: x doubles at equal distances.
    """
    points = [point for lines in panels.values() for line in lines for point in line.points]
    if not points:
        return []
    low, high = min(y - deviation for _, y, deviation in points), max(y + deviation for _, y, deviation in points)
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if step == 0.2 or (high - low) / step <= 6)
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), math.floor(low / step + 1e-9) + 1)
    return [
        _chart(title, x_label, y_label, lines, x_ticks, (step, first, last), log)
        for title, lines in panels.items()
        if lines
    ]


def _chart(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    x_ticks: Sequence[float],
    y_axis: tuple[float, int, int],
    log: bool,
) -> Chart:
    """One chart; `y_axis` are the distance of two ticks, and the first and the last in multiples of it."""
    places = [math.log2(x) if log else x for x in x_ticks]
    step, first, last = y_axis
    margin = 18 if log else 0  # whiskers and marks do not stand on the frame

    def across(x: float) -> float:
        share = ((math.log2(x) if log else x) - places[0]) / (places[-1] - places[0] or 1)
        if len(places) == 1:
            share = 0.5
        return round(LEFT + margin + share * (WIDTH - RIGHT - LEFT - 2 * margin), 1)

    def up(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y / step - first) / (last - first) * (HEIGHT - TOP - BOTTOM), 1)

    drawn = []
    for line in lines:
        path = "M" + "L".join(f"{across(x)} {up(y)}" for x, y, _ in line.points)
        dots = tuple(
            (across(x), up(y), up(y - deviation), up(y + deviation), _words(line.name, x, y, deviation))
            for x, y, deviation in line.points
        )
        drawn.append(Drawn(line.name, path, line.dashed, dots if line.marked else ()))
    digits = 2 if step < 0.1 else 1
    y_ticks = tuple((up(number * step), f"{number * step:.{digits}f}") for number in range(first, last + 1))
    return Chart(title, x_label, y_label, tuple(drawn), tuple((across(x), f"{x:g}") for x in x_ticks), y_ticks)


def _words(name: str, x: float, y: float, deviation: float) -> str:
    spread = f" ± {deviation:.4f}" if deviation else ""
    return f"{name}, {x:g}: {y:.4f}{spread}"
