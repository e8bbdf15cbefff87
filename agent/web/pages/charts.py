"""Small charts as SVG shapes: the numbers of a series as points in a box, with no script and no style of their own."""

from __future__ import annotations

from dataclasses import dataclass

from agent.operations.measures import Series

WIDTH, HEIGHT, MARGIN = 300, 72, 5


@dataclass(frozen=True, slots=True)
class Chart:
    """A series with where its points lie. The box starts at nought below; ``line`` is a polyline's ``points``."""

    series: Series
    line: str
    end: tuple[float, float]
    newest: float
    least: float
    most: float


def chart(series: Series) -> Chart:
    """Where the points lie: in the order of time, evenly. A single one stands at the end."""
    numbers = [number for _, number in series.points]
    most = max(numbers) or 1.0
    step = (WIDTH - 2 * MARGIN) / max(1, len(numbers) - 1)
    first = WIDTH - MARGIN - step * (len(numbers) - 1)
    places = [
        (round(first + step * place, 1), round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * number / most, 1))
        for place, number in enumerate(numbers)
    ]
    line = " ".join(f"{across},{down}" for across, down in places)
    return Chart(series, line, places[-1], numbers[-1], min(numbers), max(numbers))
