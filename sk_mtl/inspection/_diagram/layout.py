"""Where boxes stand: in columns from the input to the outputs, and in each from top to bottom."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sk_mtl.inspection._diagram.folding import Box, Link, Picture

LATE = ("gate", "expert", "plus", "tower", "head")
"""Kinds that stand beside what they are for, however early they could be computed."""

WIDEST = 900.0
MARGIN = 8.0
BETWEEN = 13.0
CIRCLE = 24.0
HEADING = 24.0
PASSING = 4.0
"""How much more than others a link wants to be straight that passes columns or is one task's."""


@dataclass(eq=False)
class Spot:
    """A place in a column: a box, or a link that passes by."""

    box: Box | None
    column: int
    tasks: tuple[float, ...]
    height: float
    order: float = 0.0
    y: float = 0.0
    before: list["Spot"] = field(default_factory=list)
    after: list["Spot"] = field(default_factory=list)


@dataclass(eq=False)
class Route:
    """A piece of a link, from one column to the next; links of one source share pieces."""

    start: Spot
    end: Spot
    gradient: bool
    targets: list[Box]


@dataclass(eq=False)
class Band:
    """The columns of one level."""

    label: str
    left: float
    right: float


@dataclass(eq=False)
class Arranged:
    """A picture with a place for everything."""

    picture: Picture
    routes: list[Route]
    bands: list[Band]
    lefts: list[float]
    widths: list[float]
    width: float
    height: float


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is."""
    total = 0.0
    for letter in text:
        if letter in "iljtfrI.,:;|'()[] ·":
            total += 0.34
        elif letter in "mwMW@—→":
            total += 0.9
        elif ord(letter) > 0x2E80:
            total += 1.0
        else:
            total += 0.64 if letter.isupper() else 0.56
    return total * size


def arrange(picture: Picture, n_tasks: int) -> Arranged:
    """Give every box its place.

    Parameters
    ----------
    picture : Picture
        Boxes and links.
    n_tasks : int
        Number of outputs.
    """
    n_read = Counter(link.target for link in picture.links)
    for box in picture.boxes:
        _measure(box, n_read[box])
    _set_columns(picture)
    _even_out(picture.boxes)
    spots, routes = _spots(picture, n_tasks)
    columns = _order(spots)
    lefts, widths, width = _across(picture, columns)
    bands = _bands(picture, lefts, widths)
    _down(columns)
    top = MARGIN + (HEADING if bands else 0.0)
    shift = top - min(s.y - s.height / 2 for column in columns for s in column)
    bottom = 0.0
    for column in columns:
        for spot in column:
            spot.y += shift
            bottom = max(bottom, spot.y + spot.height / 2)
            if spot.box is not None:
                spot.box.y = spot.y
                spot.box.x = lefts[spot.column] + widths[spot.column] / 2
    return Arranged(picture, routes, bands, lefts, widths, width, bottom + MARGIN)


def _measure(box: Box, n_read: int) -> None:
    if box.is_circle:
        box.width, box.height = CIRCLE, min(max(CIRCLE, 5.0 * n_read + 2), 3 * CIRCLE)
        return
    words = max(text_width(box.label, 12.5), text_width(box.detail, 10.5))
    box.width = max(44.0, words + (26.0 if box.kind == "gate" else 18.0))
    box.height = 38.0 if box.detail else 28.0


def _even_out(boxes: list[Box]) -> None:
    """Make boxes of one kind in one column equally wide."""
    widest: dict[tuple[int, str], float] = {}
    for box in boxes:
        key = box.column, box.kind
        widest[key] = max(widest.get(key, 0.0), box.width)
    for box in boxes:
        box.width = widest[box.column, box.kind]


# Columns -------------------------------------------------------------------------------------


def _set_columns(picture: Picture) -> None:
    """Set each box as far right as what it reads demands, and some as far as it can be."""
    into: dict[Box, list[Box]] = {box: [] for box in picture.boxes}
    out: dict[Box, list[Box]] = {box: [] for box in picture.boxes}
    for link in picture.links:
        into[link.target].append(link.source)
        out[link.source].append(link.target)
    order = _sorted(picture.boxes, into)
    beside: dict[tuple[int, str], list[Box]] = {}
    for box in order:
        if not box.is_circle:
            beside.setdefault((box.vertices[0].call, box.kind), []).append(box)
    for _ in order:  # slices of one output stand in one column
        before = [box.column for box in order]
        for box in order:
            box.column = max([box.column, *(one.column + 1 for one in into[box])])
        for group in beside.values():
            for box in group:
                box.column = max(one.column for one in group)
        if before == [box.column for box in order]:
            break
    last = max(box.column for box in order)
    for box in reversed(order):
        if box.kind == "output":
            box.column = last
        elif out[box] and (box.kind in LATE or not into[box]) and box.kind != "input":
            group = beside.get((box.vertices[0].call, box.kind), [box])
            column = min(one.column for of in group for one in out[of]) - 1
            if column > box.column:
                for one in group:
                    one.column = column


def _sorted(boxes: list[Box], into: dict[Box, list[Box]]) -> list[Box]:
    """Return boxes after all that they read."""
    done: list[Box] = []
    known: set[Box] = set()
    waiting = list(boxes)
    while waiting:
        ready = [box for box in waiting if all(one in known for one in into[box])]
        done += ready
        known |= set(ready)
        waiting = [box for box in waiting if box not in known]
    return done


def _spots(picture: Picture, n_tasks: int) -> tuple[list[Spot], list[Route]]:
    """Return a spot for each box and for each column that a link passes, and pieces of links."""
    middle = (n_tasks - 1) / 2

    def center(box: Box) -> float:
        if box.owner is not None:
            return float(box.owner)
        return sum(box.tasks) / len(box.tasks) if box.tasks else middle

    spots = {
        box: Spot(box, box.column, (center(box),), box.height + 4 * min(box.count - 1, 2))
        for box in picture.boxes
    }
    passing: dict[tuple[Box, bool, int], Spot] = {}
    routes: dict[tuple[Spot, Spot, bool], Route] = {}
    for link in picture.links:
        at = spots[link.source]
        for column in range(link.source.column + 1, link.target.column):
            key = link.source, link.gradient, column
            if key not in passing:
                passing[key] = Spot(None, column, (), 6.0)
            spot = passing[key]
            spot.tasks = (*spot.tasks, center(link.target))
            _join(routes, at, spot, link)
            at = spot
        _join(routes, at, spots[link.target], link)
    for route in routes.values():
        route.start.after.append(route.end)
        route.end.before.append(route.start)
    return [*spots.values(), *passing.values()], list(routes.values())


def _join(routes: dict[Any, Route], start: Spot, end: Spot, link: Link) -> None:
    key = start, end, link.gradient
    routes.setdefault(key, Route(start, end, link.gradient, [])).targets.append(link.target)


# Order in columns ----------------------------------------------------------------------------


def _order(spots: list[Spot]) -> list[list[Spot]]:
    """Return the columns, each in an order with few crossings."""
    n = max(spot.column for spot in spots) + 1
    columns: list[list[Spot]] = [[] for _ in range(n)]
    for spot in spots:
        columns[spot.column].append(spot)
    centers = [sum(s.tasks) / len(s.tasks) for s in spots if s.tasks]
    middle = (min(centers) + max(centers)) / 2

    def first(spot: Spot) -> tuple[float, float]:
        center = sum(spot.tasks) / len(spot.tasks)
        if spot.box is None:  # what passes by goes round the outside
            return center, -2.0 if center <= middle else 2.0
        outside = spot.box.kind == "gate"
        return center, float(outside) * (-1.0 if center < middle else 1.0)

    for column in columns:
        column.sort(key=first)
        _number(column)
    best, fewest = [list(c) for c in columns], _crossings(columns)
    for sweep in range(12):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            means = {s: _mean(s.before if forward else s.after, s.order) for s in column}
            column.sort(key=means.__getitem__)
            _number(column)
        _swap(columns)
        found = _crossings(columns)
        if found < fewest:
            best, fewest = [list(c) for c in columns], found
    for column in best:
        _number(column)
    _swap(best)
    return best


def _number(column: list[Spot]) -> None:
    for place, spot in enumerate(column):
        spot.order = place - (len(column) - 1) / 2


def _mean(spots: list[Spot], default: float) -> float:
    return sum(spot.order for spot in spots) / len(spots) if spots else default


def _crossings(columns: list[list[Spot]]) -> int:
    """Return how many pairs of pieces cross."""
    total = 0
    for column in columns:
        pieces = [(s.order, t.order) for s in column for t in s.after]
        total += sum(
            (a - c) * (b - d) < 0 for i, (a, b) in enumerate(pieces) for c, d in pieces[:i]
        )
    return total


def _swap(columns: list[list[Spot]]) -> None:
    """Swap neighbors as long as that saves crossings."""
    for _ in range(4):
        changed = False
        for column in columns:
            for i in range(len(column) - 1):
                a, b = column[i], column[i + 1]
                if _crossed(a, b) > _crossed(b, a):
                    column[i], column[i + 1] = b, a
                    a.order, b.order = b.order, a.order
                    changed = True
        if not changed:
            return


def _crossed(a: Spot, b: Spot) -> int:
    """Return how many pieces cross if `a` stands above `b`."""
    total = 0
    for near in ("before", "after"):
        of_a = [s.order for s in getattr(a, near)]
        of_b = [s.order for s in getattr(b, near)]
        total += sum(p > q for p in of_a for q in of_b)
    return total


# Places --------------------------------------------------------------------------------------


def _across(picture: Picture, columns: list[list[Spot]]) -> tuple[list[float], list[float], float]:
    """Return where each column begins, how wide each is, and the whole width."""
    widths = [max((s.box.width for s in c if s.box is not None), default=10.0) for c in columns]
    gaps = []
    for column in columns[:-1]:
        pieces = sum(len(spot.after) for spot in column)
        gaps.append(30.0 if pieces <= 2 else min(36.0 + 1.5 * pieces, 56.0))
    fixed = sum(widths) + 2 * MARGIN
    if gaps and fixed + sum(gaps) > WIDEST:
        factor = (WIDEST - fixed) / sum(gaps)
        gaps = [max(gap * factor, 18.0) for gap in gaps]
    lefts, x = [], MARGIN
    for width, gap in zip(widths, [*gaps, 0.0], strict=True):
        lefts.append(x)
        x += width + gap
    return lefts, widths, x + MARGIN


def _bands(picture: Picture, lefts: list[float], widths: list[float]) -> list[Band]:
    """Return the levels, if they stand one after the other and nothing else among them."""
    spans: dict[int, list[int]] = {}
    words: set[str] = set()
    for box in picture.boxes:
        if box.level is not None:
            low, high = spans.setdefault(box.level, [box.column, box.column])
            spans[box.level] = [min(low, box.column), max(high, box.column)]
            words.add(box.level_word)
    levels = sorted(spans)
    if len(levels) < 2 or any(spans[a][1] >= spans[b][0] for a, b in pairwise(levels)):
        return []
    word = next(w for w in ("level", "layer", "block") if w in words or w == "block")
    if "layer" in words:
        word = "layer"
    return [
        Band(f"{word} {k}", lefts[spans[k][0]] - 8, lefts[spans[k][1]] + widths[spans[k][1]] + 8)
        for k in levels
    ]


def _down(columns: list[list[Spot]]) -> None:
    """Set the heights: each spot near those it is joined to, none on another."""
    for column in columns:
        total = sum(spot.height for spot in column) + BETWEEN * (len(column) - 1)
        y = -total / 2
        for spot in column:
            spot.y = y + spot.height / 2
            y += spot.height + BETWEEN
    for sweep in range(200):
        for column in columns if sweep % 2 else reversed(columns):
            _settle(column)


def _wish(spot: Spot) -> tuple[float, float]:
    """Return the mean height of what a spot is joined to, and how much it wants to be there."""
    near = [*spot.before, *spot.after]
    weights = [PASSING if _belong(spot, other) else 1.0 for other in near]
    if not near:
        return spot.y, 1.0
    total = sum(w * other.y for w, other in zip(weights, near, strict=True))
    return total / sum(weights), sum(weights)


def _belong(spot: Spot, other: Spot) -> bool:
    """Whether a link between two spots is to be straight: it passes by, or stays within a task."""
    if spot.box is None or other.box is None:
        return True
    return spot.box.owner is not None and spot.box.owner == other.box.owner


def _settle(column: list[Spot]) -> None:
    """Move spots to where they wish as nearly as their order and distances let them."""
    offsets, total = [], 0.0
    for i, spot in enumerate(column):
        if i:
            total += (column[i - 1].height + spot.height) / 2 + BETWEEN
        offsets.append(total)
    # Wishes less offsets must not fall: neighbors that would are pooled at their mean.
    pools: list[tuple[float, float, int]] = []
    for spot, offset in zip(column, offsets, strict=True):
        wish, weight = _wish(spot)
        pools.append((wish - offset, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, u, m), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, m + n)]
    places = [value for value, _, n in pools for _ in range(n)]
    for spot, place, offset in zip(column, places, offsets, strict=True):
        spot.y = place + offset
