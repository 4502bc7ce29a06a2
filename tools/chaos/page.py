"""A run's report as one HTML page without anything from elsewhere: faults over what clients saw."""

from collections.abc import Callable, Sequence
from html import escape
from math import log10

from tools.chaos.attack import DoneFault
from tools.chaos.outcome import Outcome
from tools.chaos.series import Point
from tools.history.timeline import draw

WIDTH = 1200
LEFT = 70
PANEL_HEIGHT = 150
LANE_HEIGHT = 16
GAP = 34
LATENCY_MS_MIN = 0.1
COLORS = {"reads": "#2f6fbf", "writes": "#c2571a", "failures": "#b3212f"}
FAULT_COLORS = ("#7a5ea8", "#3f8f6b", "#b07a1e", "#a8485f", "#4a7fa8", "#6b6b6b")
STYLE = """
:root { color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; }
body { max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr { border-bottom: 1px solid #8884; }
svg { width: 100%; height: auto; } svg text { fill: currentColor; font-size: 11px; }
pre { overflow-x: auto; background: #8882; padding: .8rem; } .bad { color: #c33; }
.good { color: #2a8a4a; } .grid { stroke: #8884; }
"""


def page_of(outcome: Outcome) -> str:
    """Return the page."""
    verdict = outcome.verdict
    said = "linearizable, nothing lost" if outcome.good else "FAILED"
    counts = (
        f"{verdict.operations:,} operations on {verdict.keys} keys, {verdict.unknown:,} of unknown"
        f" outcome, {verdict.failed:,} failed; {len(outcome.faults)} faults in"
        f" {outcome.worked_s:.0f} s; seed {outcome.seed}"
    )
    wrong = [draw(violation, outcome.origin) for violation in verdict.violations]
    wrong += [f"key {key}: undecided" for key in verdict.undecided] + list(outcome.problems)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>chaos: ",
        f"seed {outcome.seed}</title><style>{STYLE}</style>",
        f"<h1 class={'good' if outcome.good else 'bad'}>{said}</h1><p>{escape(counts)}</p>",
        *(f"<pre class=bad>{escape(text)}</pre>" for text in wrong),
        picture(outcome),
        stalls_table(outcome),
        f"<p>To do it again: <code>{escape(outcome.replay)}</code></p></html>",
    ]
    return "".join(parts)


def stalls_table(outcome: Outcome) -> str:
    """Return the table of the longest stalls."""
    rows = [
        f"<tr><td>{escape(row.name)}<td>{row.faults or ''}<td>{row.keys}"
        f"<td>{row.read_ms:,.0f} ms<td>{escape(row.read_key)}"
        f"<td>{row.write_ms:,.0f} ms<td>{escape(row.write_key)}<td>{row.machine_ms:,.0f} ms</tr>"
        for row in outcome.stalls
    ]
    columns = ("fault", "times", "keys stalled", "longest read", "key", "longest write", "key")
    head = "<tr>" + "".join(f"<th>{name}" for name in (*columns, "machine paused"))
    return f"<h2>Longest stalls</h2><table>{head}</tr>{''.join(rows)}</table>"


# The picture: lanes of faults, then three panels over the same time.


def picture(outcome: Outcome) -> str:
    """Return an SVG."""
    points = outcome.series
    end_s = max([outcome.duration_s, *(point.at_s for point in points)])
    step_s = points[1].at_s - points[0].at_s if len(points) > 1 else 1.0

    def x(at_s: float) -> float:
        return LEFT + at_s / end_s * (WIDTH - LEFT - 10)

    names = sorted({str(done.fault) for done in outcome.faults})
    lanes_end = GAP + len(names) * LANE_HEIGHT
    tops = [lanes_end + GAP + index * (PANEL_HEIGHT + GAP) for index in range(3)]
    height = tops[-1] + PANEL_HEIGHT + GAP
    rates = [max(point.reads, point.writes) / step_s for point in points]
    slowest = [max(point.read_ms_max, point.write_ms_max) for point in points]
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    parts += [band(outcome, done, names, x, height) for done in outcome.faults]
    parts += rate_panel(points, tops[0], x, step_s, max([1.0, *rates]))
    parts += latency_panel(points, tops[1], x, max([1.0, *slowest]))
    parts += failure_panel(points, tops[2], x)
    parts += [label(x(tick), height - 8, f"{tick:g} s") for tick in ticks(end_s)]
    return "".join([*parts, "</svg>"])


def band(
    outcome: Outcome,
    done: DoneFault,
    names: Sequence[str],
    x: Callable[[float], float],
    height: float,
) -> str:
    """Return a fault: a bar in its lane, and a shade over all panels."""
    begun, undone = outcome.seconds(done.begun), outcome.seconds(done.undone)
    lane = names.index(str(done.fault))
    top = GAP + lane * LANE_HEIGHT
    color = FAULT_COLORS[lane % len(FAULT_COLORS)]
    left, width = x(begun), max(1.5, x(undone) - x(begun))
    name = escape(str(done.fault))
    return (
        f'<g><title>{name}: {begun:.2f} … {undone:.2f} s</title><rect x="{left:.1f}" y="{top}"'
        f' width="{width:.1f}" height="{LANE_HEIGHT - 3}" fill="{color}"/>'
        f'<rect x="{left:.1f}" y="{GAP}" width="{width:.1f}" height="{height - 2 * GAP}"'
        f' fill="{color}" opacity=".10"/>'
        f'<text x="{left + width + 3:.1f}" y="{top + LANE_HEIGHT - 5}">{name}</text></g>'
    )


def rate_panel(
    points: Sequence[Point], top: float, x: Callable[[float], float], step_s: float, most: float
) -> list[str]:
    """Return operations a second."""

    def y(value: float) -> float:
        return top + PANEL_HEIGHT * (1 - value / most)

    reads = [(x(point.at_s), y(point.reads / step_s)) for point in points]
    writes = [(x(point.at_s), y(point.writes / step_s)) for point in points]
    return [
        *frame(top, "operations answered a second"),
        label(2, top + 10, f"{most:,.0f}"),
        label(2, top + PANEL_HEIGHT, "0"),
        line(reads, COLORS["reads"]),
        line(writes, COLORS["writes"]),
        label(WIDTH - 150, top - 6, "reads", COLORS["reads"]),
        label(WIDTH - 100, top - 6, "writes", COLORS["writes"]),
    ]


def latency_panel(
    points: Sequence[Point], top: float, x: Callable[[float], float], most: float
) -> list[str]:
    """Return the slowest answer of each step, on a logarithmic scale."""
    decades = log10(max(most, 10 * LATENCY_MS_MIN) / LATENCY_MS_MIN)

    def y(value: float) -> float:
        share = log10(max(value, LATENCY_MS_MIN) / LATENCY_MS_MIN) / decades
        return top + PANEL_HEIGHT * (1 - share)

    parts = frame(top, "slowest answer, ms")
    for power in range(int(decades) + 1):
        value = LATENCY_MS_MIN * 10**power
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/>'
        )
        parts.append(label(2, y(value) + 4, f"{value:,g}"))
    parts.append(line([(x(p.at_s), y(p.read_ms_max)) for p in points], COLORS["reads"]))
    parts.append(line([(x(p.at_s), y(p.write_ms_max)) for p in points], COLORS["writes"]))
    return parts


def failure_panel(points: Sequence[Point], top: float, x: Callable[[float], float]) -> list[str]:
    """Return operations without an answer, by the time of their call."""
    most = max([1, *(point.failures for point in points)])
    parts = [*frame(top, "operations failed or of unknown outcome"), label(2, top + 10, str(most))]
    for point in points:
        if point.failures:
            size = PANEL_HEIGHT * point.failures / most
            parts.append(
                f'<rect x="{x(point.at_s):.1f}" y="{top + PANEL_HEIGHT - size:.1f}" width="2"'
                f' height="{size:.1f}" fill="{COLORS["failures"]}"/>'
            )
    return parts


def frame(top: float, title: str) -> list[str]:
    """Return the axis and the title of a panel."""
    bottom = top + PANEL_HEIGHT
    axis = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{bottom}" y2="{bottom}"/>'
    return [axis, label(LEFT, top - 6, title)]


def line(places: Sequence[tuple[float, float]], color: str) -> str:
    """Return a line through places."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="1.3"/>'


def label(x: float, y: float, text: str, color: str = "") -> str:
    """Return a text."""
    style = f' style="fill:{color}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(text)}</text>'


def ticks(end_s: float) -> list[float]:
    """Return round times, about ten of them."""
    rough = end_s / 10
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if s >= rough), 1800)
    return [float(at) for at in range(0, int(end_s) + 1, step)]
