"""The report's figures, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch

KEPT_COLOUR: Final = "#0072b2"  # Okabe and Ito's blue and vermilion: told apart by everybody
REJECTED_COLOUR: Final = "#d55e00"
QUARANTINED_COLOUR: Final = "#767676"
_OUTCOMES: Final = ((True, "kept", KEPT_COLOUR), (False, "rejected", REJECTED_COLOUR))
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "sluice",  # equal figures are equal files
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def funnel(steps: Sequence[tuple[str, int, str]]) -> str:
    """Horizontal bars, from what was met down to gold.

    Args:
        steps: name, rows and colour of each bar, from the top.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height_in=0.45 * len(steps) + 0.3)
        names, rows, colours = zip(*steps, strict=True)
        bars = axes.barh(names, rows, color=colours)
        axes.bar_label(bars, [f"{count:,}" for count in rows], padding=4)
        axes.invert_yaxis()
        axes.set_xlim(0, max(*rows, 1) * 1.15)  # room for the numbers
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def histogram(
    name: str,
    bins: Sequence[Mapping[str, Any]],
    *,
    width: float,
    thresholds: Mapping[str, float],
    is_log10: bool = False,
) -> str:
    """Kept and rejected samples by score, stacked, with the recipe's thresholds.

    Args:
        name: of the score.
        bins: rows of `bin` (lower end), `is_kept` and `samples`.
        width: of a bin.
        thresholds: what the line says -> where it stands, in the score's own unit.
        is_log10: bins and width are logarithms of the score.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(height_in=2.6)
        _stack(axes, bins, width)
        for label, threshold in thresholds.items():
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
            axes.annotate(
                label,
                (threshold, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        axes.set_xlabel(f"{name} (log10)" if is_log10 else name)
        axes.set_ylabel("samples")
        handles = [Patch(color=colour, label=label) for _, label, colour in _OUTCOMES]
        axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure)


def _stack(axes: Axes, bins: Sequence[Mapping[str, Any]], width: float) -> None:
    below: dict[float, int] = {}
    for is_kept, _, colour in _OUTCOMES:
        counts = {float(b["bin"]): int(b["samples"]) for b in bins if b["is_kept"] is is_kept}
        axes.bar(
            list(counts),
            list(counts.values()),
            bottom=[below.get(start, 0) for start in counts],
            width=width,
            align="edge",
            color=colour,
        )
        below = counts


def _figure(*, height_in: float) -> tuple[Figure, Axes]:
    # No pyplot: it keeps every figure and asks for a display.
    figure = Figure(figsize=(7.2, height_in), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
