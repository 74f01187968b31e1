"""The picture as SVG: it follows the light or dark of the page, and its text is text."""

import hashlib
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from sk_mtl.inspection._diagram.folding import Box
from sk_mtl.inspection._diagram.layout import Arranged, Band, Route, Spot, text_width

# Okabe and Ito's hues, in an order in which neighbors differ; lighter ones for a dark page.
LIGHT = ("#0072B2", "#D55E00", "#009E73", "#B0578D", "#B07800", "#3B97CF", "#6B6B00")
DARK = ("#56B4E9", "#F28B4B", "#2DC49A", "#E29CC4", "#E9B13C", "#8CCBF2", "#E8DE5A")

NEUTRAL = "n"

LIGHT_PAGE = "--ink:#1f2328;--soft:#57606a;--n:#6e7781;--box:#f3f4f6;--band:#f6f7f9;--page:#ffffff"
DARK_PAGE = "--ink:#e6e8eb;--soft:#a9b1ba;--n:#8b949e;--box:#2a2f36;--band:#1f242b;--page:#14181e"


def style(n_tasks: int) -> str:
    """Return the style sheet of a diagram of so many tasks."""

    def colors(page: str, hues: Sequence[str]) -> str:
        return page + "".join(f";--t{k}:{hue}" for k, hue in enumerate(hues[:n_tasks]))

    light, dark = colors(LIGHT_PAGE, LIGHT), colors(DARK_PAGE, DARK)
    dark_pages = ("html[data-theme=dark]", "body[data-jp-theme-light=false]", "body.vscode-dark")
    light_pages = ("html[data-theme=light]", "body[data-jp-theme-light=true]", "body.vscode-light")
    rules = [
        f".sk-mtl-diagram{{{light}}}",
        f"@media (prefers-color-scheme:dark){{.sk-mtl-diagram{{{dark}}}}}",
        ",".join(f"{page} .sk-mtl-diagram" for page in light_pages) + f"{{{light}}}",
        ",".join(f"{page} .sk-mtl-diagram" for page in dark_pages) + f"{{{dark}}}",
        # As a file of its own it has no page below it.
        ".sk-mtl-diagram:root{background:var(--page)}",
        ".sk-mtl-diagram text{fill:var(--ink);font:12.5px system-ui,-apple-system,'Segoe UI',"
        "Roboto,'Helvetica Neue',Arial,sans-serif;text-anchor:middle;dominant-baseline:central}",
        ".sk-mtl-diagram text.d{font-size:10.5px;fill:var(--soft)}",
        ".sk-mtl-diagram text.s{font-size:14px}",
        ".sk-mtl-diagram text.l{font-size:11.5px;fill:var(--soft)}",
        ".sk-mtl-diagram .b{fill:var(--band)}",
        ".sk-mtl-diagram .e{fill:none;stroke-width:1.3}",
        ".sk-mtl-diagram .x{stroke-dasharray:4 3}",
        ".sk-mtl-diagram .p{fill:var(--page);stroke:none}",
    ]
    for name in [NEUTRAL, *(f"t{k}" for k in range(min(n_tasks, len(LIGHT))))]:
        rules.append(f".sk-mtl-diagram .e{name}{{stroke:var(--{name})}}")
        rules.append(f".sk-mtl-diagram .a{name}{{fill:var(--{name})}}")
        fill = "var(--box)" if name == NEUTRAL else f"var(--{name});fill-opacity:.16"
        rules.append(
            f".sk-mtl-diagram .o{name}{{stroke:var(--{name});stroke-width:1.5;fill:{fill}}}"
        )
    return "".join(rules)


def write_svg(arranged: Arranged, title: str, names: Sequence[str]) -> str:
    """Return the picture.

    Parameters
    ----------
    arranged : Arranged
        What to draw, and where.
    title : str
        What it is.
    names : sequence of str
        The outputs' names.
    """
    dashed = any(not route.gradient for route in arranged.routes)
    width, height = arranged.width, arranged.height + (22 if dashed else 0)
    parts = [f"<style>{style(len(names))}</style>"]
    label = f"Diagram of {title} with the outputs {', '.join(names)}"
    parts += [_draw_band(band, arranged.height) for band in arranged.bands]
    ports = _ports(arranged)
    parts += [_draw_route(route, ports, arranged) for route in arranged.routes]
    parts += [_draw_box(box) for box in arranged.picture.boxes]
    if dashed:
        y, said = height - 12, "no gradient flows back"
        half = text_width(said, 10.5) / 2
        parts.append(f'<path class="e en x" d="M{width / 2 - half - 22:.1f} {y:.1f}h32"/>')
        parts.append(_text(width / 2 + 18, y, said, "d"))
    spoken = ". ".join(box.title for box in arranged.picture.boxes if box.kind != "input")
    body = "".join(parts)
    name = "d" + hashlib.sha1((label + body).encode()).hexdigest()[:8]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sk-mtl-diagram" role="img" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'aria-label={quoteattr(label)} aria-describedby="{name}">'
        f'<desc id="{name}">{escape(spoken)}.</desc>{body}</svg>'
    )


def _hue(tasks: Sequence[int]) -> str:
    return f"t{tasks[0] % len(LIGHT)}" if len(tasks) == 1 else NEUTRAL


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _draw_band(band: Band, height: float) -> str:
    at = f'x="{band.left:.1f}" y="2" width="{band.right - band.left:.1f}" height="{height - 4:.1f}"'
    words = _text((band.left + band.right) / 2, 15, band.label, "l")
    return f'<rect class="b" {at} rx="6"/>{words}'


def _draw_box(box: Box) -> str:
    hue = _hue(box.tasks)
    x, y, width, height = box.x, box.y, box.width, box.height
    left, top = x - width / 2, y - height / 2
    shapes = []
    for behind in range(min(box.count - 1, 2), -1, -1):
        shift = 3.0 * behind
        if box.is_circle:
            at = (
                f'x="{left + shift + 1:.1f}" y="{top - shift + 1:.1f}" width="{width - 2:.1f}" '
                f'height="{height - 2:.1f}" rx="{width / 2 - 1:.1f}"'
            )
            shapes.append(f'<rect class="p" {at}/><rect class="o{hue}" {at}/>')
            continue
        radius = height / 2 if box.kind == "gate" else 5
        at = (
            f'x="{left + shift:.1f}" y="{top - shift:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="{radius:.0f}"'
        )
        shapes.append(f'<rect class="p" {at}/><rect class="o{hue}" {at}/>')
    if box.is_circle:
        words = _text(x, y, box.label, "s")
    elif box.detail:
        words = _text(x, y - 7.5, box.label) + _text(x, y + 9, box.detail, "d")
    else:
        words = _text(x, y, box.label)
    return f"<g><title>{escape(box.title)}</title>{''.join(shapes)}{words}</g>"


# Links ---------------------------------------------------------------------------------------

Ports = dict[tuple[Route, bool], float]


def _ports(arranged: Arranged) -> Ports:
    """Return the height at which each piece leaves its start and comes to its end."""
    found: Ports = {}
    for at_end in (False, True):
        by_spot: dict[Spot, list[Route]] = {}
        for route in arranged.routes:
            by_spot.setdefault(route.end if at_end else route.start, []).append(route)
        for spot, routes in by_spot.items():
            routes.sort(key=lambda r: ((r.start if at_end else r.end).y, r.gradient))
            if spot.box is None:
                found |= {(route, at_end): spot.y for route in routes}
                continue
            room = spot.box.height - (10 if spot.box.is_circle else 12)
            step = min(7.0, room / max(len(routes) - 1, 1))
            for place, route in enumerate(routes):
                found[route, at_end] = spot.y + step * (place - (len(routes) - 1) / 2)
    _straighten(arranged, found)
    return found


def _straighten(arranged: Arranged, ports: Ports) -> None:
    """Let pieces that are nearly level be level, where nothing else is in the way."""
    routes = sorted(arranged.routes, key=lambda route: route.start.column)
    for route in routes:
        y1, y2, end = ports[route, False], ports[route, True], route.end
        if y1 == y2 or abs(y1 - y2) > 7 or sum(other.end is end for other in routes) > 1:
            continue
        if end.box is None:
            end.y = y1
            ports |= {(other, False): y1 for other in routes if other.start is end}
        elif end.box.is_circle or abs(y1 - end.y) > end.box.height / 2 - 6:
            continue
        ports[route, True] = y1


def _draw_route(route: Route, ports: Ports, arranged: Arranged) -> str:
    """Return a piece of a link: a curve, and an arrow where it comes to a box."""
    start, end = route.start, route.end
    y1, y2 = ports[route, False], ports[route, True]
    lefts, widths = arranged.lefts, arranged.widths
    x1 = lefts[start.column] + widths[start.column]
    edge = x1 if start.box is None else start.box.x + _half(start.box, y1)
    x2 = lefts[end.column]
    arrow = end.box is not None
    tip = x2 + widths[end.column] if end.box is None else end.box.x - _half(end.box, y2)
    stop = tip - 5 if arrow else tip
    bend = min(x2, stop)
    middle = (x1 + bend) / 2
    path = f"M{edge:.1f} {y1:.1f}L{x1:.1f} {y1:.1f}"
    path += f"C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {bend:.1f} {y2:.1f}"
    path += f"L{stop:.1f} {y2:.1f}"
    hues = {_hue(box.tasks) for box in route.targets}
    hue = hues.pop() if len(hues) == 1 else NEUTRAL
    dashes = "" if route.gradient else " x"
    drawn = f'<path class="e e{hue}{dashes}" d="{path}"/>'
    if arrow:
        drawn += f'<path class="a{hue}" d="M{tip:.1f} {y2:.1f}l-6.5 -3.2v6.4z"/>'
    return drawn


def _half(box: Box, y: float) -> float:
    """Return how far a box reaches to either side at some height."""
    if not box.is_circle:
        return box.width / 2
    radius = box.width / 2 - 1
    up = max(abs(y - box.y) - (box.height - box.width) / 2, 0.0)
    return float(max(radius**2 - up**2, 0.0) ** 0.5)
