"""Who reads whom in a network: measured, by changing what one part hands on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sk_mtl.inspection._diagram.blocks import (
    Block,
    Slice,
    copy_for_probing,
    count_copies,
    find_blocks,
    redraw,
    slices,
    source_slices,
)
from sk_mtl.nn import MultiTaskModule

N_ROWS = 6
SCALES = (1.0, 0.2)
"""Of the weights in two measurements: what saturates in one of them does not in the other."""
LEAST = 1e-9
"""What is less is rounding."""
MOST_GROUPS = 4
"""Groups of columns that are told apart; if there are more, all columns are one."""


class Part(NamedTuple):
    """One slice of what one call of a block returned: of what becomes a node."""

    call: int
    slice: int


@dataclass
class Call:
    """One call of a block. The first is the embedding, the last the network's output."""

    block: Block
    cuts: list[Slice]
    inputs: list[Tensor] = field(default_factory=list)
    output: Any = None


@dataclass
class Reading:
    """What one part reads: directly, and what gates weigh before it comes there."""

    direct: dict[Part, bool] = field(default_factory=dict)
    """Parts read without a gate, and whether a gradient goes back to them."""
    weighed: dict[Part, dict[Part, bool]] = field(default_factory=dict)
    """By gate: what it weighs, itself included, and whether a gradient goes back."""
    added: set[frozenset[Part]] = field(default_factory=set)
    """Pairs of terms that come in sums; a gate stands for what it weighs."""


class Structure(NamedTuple):
    """All that was measured."""

    calls: list[Call]
    readings: dict[Part, Reading]
    same: dict[Part, Part]
    """Parts of the head that are what a tower returned, and that tower's part."""
    groups: list[list[int]]
    """Groups of places of the embedding that are read by other blocks each."""


def measure(module: MultiTaskModule, widths: list[int], n_tasks: int) -> Structure:
    """Return who reads whom in a network of one member.

    Parameters
    ----------
    module : MultiTaskModule
        The network. It is copied, and the copy's weights are random.
    widths : list of int
        How many logits each output has: of tasks first, then of outputs without a label.
    n_tasks : int
        How many of them belong to tasks.
    """
    twin = copy_for_probing(module)
    generator = torch.Generator().manual_seed(0)
    found: list[Structure] = []
    groups = [list(range(module.embedding.out_features))]
    if not count_copies(module):
        probe = Probe(module, twin, widths, n_tasks, groups, generator)
        seen = []
        for scale in SCALES:
            probe.start(scale)
            seen.append(probe.profiles())
        probe.close()
        by_profile: dict[tuple[bool, ...], list[int]] = {}
        for place, profile in enumerate(torch.stack(seen).any(0).tolist()):
            by_profile.setdefault(tuple(profile), []).append(place)
        if len(by_profile) <= MOST_GROUPS:
            groups = list(by_profile.values())
    probe = Probe(module, twin, widths, n_tasks, groups, generator)
    for scale in SCALES:
        probe.start(scale)
        found.append(probe.measure())
    probe.close()
    return _join(found)


def _join(found: Sequence[Structure]) -> Structure:
    """Return what was seen in any measurement, and is the same in all."""
    first, *others = found
    for other in others:
        for part, reading in other.readings.items():
            into = first.readings[part]
            for one, flows in reading.direct.items():
                into.direct[one] = into.direct.get(one, False) or flows
            for gate, terms in reading.weighed.items():
                known = into.weighed.setdefault(gate, {})
                for one, flows in terms.items():
                    known[one] = known.get(one, False) or flows
            into.added |= reading.added
    same = {p: q for p, q in first.same.items() if all(o.same.get(p) == q for o in others)}
    return first._replace(same=same)


class Probe:
    """A network whose blocks hand on what they are told, and record what they would have said."""

    def __init__(
        self,
        module: MultiTaskModule,
        twin: Any,
        widths: list[int],
        n_tasks: int,
        groups: list[list[int]],
        generator: torch.Generator,
    ) -> None:
        self.twin, self.widths, self.n_tasks, self.generator = twin, widths, n_tasks, generator
        self.groups = groups
        copies = count_copies(module)
        width = module.embedding.out_features
        self.shape = (N_ROWS, copies, width) if copies else (N_ROWS, width)
        self.source = Block("embedding", twin.embedding)
        self.source_cuts = source_slices(module, groups)
        self.values: list[Any] | None = None
        self.calls: list[Call] = []
        self.reading = False
        self.handles = []
        for block in find_blocks(twin):
            self.handles.append(
                block.part.register_forward_pre_hook(self._before(block), with_kwargs=True)
            )
            self.handles.append(block.part.register_forward_hook(self._after))

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self.handles:
            handle.remove()

    def _before(self, block: Block) -> Any:
        def hook(_part: nn.Module, args: Any, kwargs: Any) -> Any:
            if self.reading:
                args = _each(args, lambda t: t.detach().requires_grad_(t.is_floating_point()))
                kwargs = _each(kwargs, lambda t: t.detach().requires_grad_(t.is_floating_point()))
            self.calls.append(Call(block, [], _tensors((args, kwargs))))
            return args, kwargs

        return hook

    def _after(self, _part: nn.Module, _args: Any, output: Any) -> Any:
        call = self.calls[-1]
        call.output, call.cuts = output, slices(call.block, output, self.widths)
        return None if self.values is None else self.values[len(self.calls) - 1]

    def run(self, values: list[Any] | None) -> list[Call]:
        """Return all calls, the blocks handing on `values` in place of what they return."""
        x = self.x if values is None else values[0]
        self.values, self.twin.embedding.value = values, x
        self.calls = [Call(self.source, self.source_cuts, [], x)]
        logits = self.twin(x, x)
        ends = torch.tensor(self.widths[: self.n_tasks]).cumsum(0).tolist()
        cuts: list[Slice] = [
            (slice(None), slice(e - w, e)) for e, w in zip(ends, self.widths, strict=False)
        ]
        last = Call(Block("output", self.twin), cuts, [logits], logits)
        calls, self.calls = [*self.calls, last], []
        return calls

    def start(self, scale: float) -> None:
        """Draw weights and an input, and record what every block returns."""
        redraw(self.twin, scale, self.generator)
        self.x = self._noise(torch.empty(self.shape))
        with torch.no_grad():
            self.calls_on = self.run(None)
        self.on = [call.output for call in self.calls_on]
        self.parts = [
            Part(c, s) for c, call in enumerate(self.calls_on) for s in range(len(call.cuts))
        ]
        last = len(self.calls_on) - 1
        self.senders = [
            part
            for part in self.parts
            if part.call != last and isinstance(self.on[part.call], Tensor)
        ]
        self.gates = [
            part for part in self.senders if hasattr(self.calls_on[part.call].block.part, "streams")
        ]
        self.feeds = self._feeds()

    def profiles(self) -> Tensor:
        """Return from which calls a gradient comes to each place of the embedding."""
        values = self._leaves(self.on)
        seen = []
        for call in self.run(values)[1:]:
            inputs = [t for t in call.inputs if t.requires_grad]
            reached = torch.zeros(self.shape[-1], dtype=torch.bool)
            if inputs:
                (grad,) = torch.autograd.grad(
                    self._weigh(inputs), values[0], allow_unused=True, retain_graph=True
                )
                if grad is not None:
                    reached = (grad != 0).any(0)
            seen.append(reached)
        return torch.stack(seen, dim=1)

    def measure(self) -> Structure:
        """Return what each part reads."""
        off = list(self.on)
        for gate in self.gates:
            off[gate.call] = torch.zeros_like(off[gate.call])
        shown: set[tuple[Part, Part]] = set()
        moved_on = self._moved(self.on, self.senders, shown)
        self._add_feeds(moved_on, shown)
        moved_off = moved_on
        flows_on = flows_off = self._flows(self.on)
        if self.gates:
            moved_off = self._moved(off, self.senders)
            flows_off = self._flows(off)
        gates, readings = set(self.gates), {}
        for part in self.parts:
            if part.call == 0:
                continue
            feeds, reading = self.feeds[part], Reading()
            read: dict[Part, Tensor] = {}
            for one in self.senders:
                if (places := _meet(moved_on[one][part.call], feeds)) is not None:
                    read[one] = places
            of_part = [p for p in read if p in gates]
            terms: dict[Part, Tensor] = {}
            for gate in of_part:
                weighs = self._weighs(gate, of_part, read, part, off, moved_on, moved_off, feeds)
                flow = flows_on[part]
                if weighs:
                    reading.weighed[gate] = {p: p in flow for p in [gate, *weighs]}
                else:
                    reading.direct[gate] = gate in flow
                terms[gate] = read[gate]
            for one in read:
                places = _meet(moved_off[one][part.call], feeds)
                if one not in gates and places is not None:
                    reading.direct[one] = one in flows_off[part]
                    terms[one] = places
            for gate, weighed in reading.weighed.items():
                # A gradient that comes past the gate tells nothing of what the gate weighs.
                for one in weighed.keys() & reading.direct.keys():
                    weighed[one] = weighed[one] and weighed[gate]
            for a, b in combinations(terms, 2):
                if bool((terms[a] & terms[b]).any()):
                    reading.added.add(frozenset((a, b)))
            readings[part] = reading
        return Structure(self.calls_on, readings, self._same(), self.groups)

    def _weighs(
        self,
        gate: Part,
        of_part: list[Part],
        read: dict[Part, Tensor],
        part: Part,
        off: list[Any],
        moved_on: Any,
        moved_off: Any,
        feeds: Tensor,
    ) -> list[Part]:
        """Return what a gate weighs of all that a part reads: what acts otherwise without it."""
        others = [p for p in read if p not in of_part]
        moved = moved_on
        if len(of_part) > 1:  # this gate alone
            alone = list(off)
            alone[gate.call] = torch.zeros_like(off[gate.call])
            alone[gate.call][self._cut(gate)] = self.on[gate.call][self._cut(gate)]
            moved = self._moved(alone, others)
        found = []
        for one in others:
            apart = moved[one][part.call] - moved_off[one][part.call]
            if _meet(apart, feeds) is not None:
                found.append(one)
        return found

    def _moved(
        self, base: list[Any], which: list[Part], shown: set[tuple[Part, Part]] | None = None
    ) -> dict[Part, list[Tensor]]:
        """Return by how much each call's inputs move if one part hands on something else.

        To `shown` pairs are added: of it, and of a part that is another then.
        """
        with torch.no_grad():
            at_rest = self.run(base)
            moved = {}
            for part in which:
                values = list(base)
                values[part.call] = base[part.call].clone()
                values[part.call][self._cut(part)] += self._step(part)[self._cut(part)]
                calls = self.run(values)
                moved[part] = [
                    _flat(a.inputs) - _flat(b.inputs) for a, b in zip(calls, at_rest, strict=True)
                ]
                if shown is not None:
                    reached = [bool((m.abs() > LEAST).any()) for m in moved[part]]
                    shown |= {
                        (part, one)
                        for one in self.parts
                        if reached[one.call]
                        and _differ(calls[one.call], at_rest[one.call], self._cut(one))
                    }
        return moved

    def _cut(self, part: Part) -> Slice:
        return self.calls_on[part.call].cuts[part.slice]

    def _step(self, part: Part) -> Tensor:
        """Return the same step of a part in every run."""
        generator = torch.Generator().manual_seed(part.call * 1000 + part.slice)
        like = self.on[part.call]
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    def _flows(self, base: list[Any]) -> dict[Part, set[Part]]:
        """Return for each part the parts to which its gradient goes."""
        values = self._leaves(base)
        leaves = [v for v in values if isinstance(v, Tensor)]
        index = [c for c, v in enumerate(values) if isinstance(v, Tensor)]
        calls = self.run(values)
        found: dict[Part, set[Part]] = defaultdict(set)
        for part in self.parts:
            call = calls[part.call]
            if part.call == 0 or not isinstance(call.output, Tensor):
                continue
            chosen = call.output[call.cuts[part.slice]]
            if not chosen.requires_grad:
                continue
            total = self._weigh([chosen])
            grads = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
            for c, grad in zip(index, grads, strict=True):
                if grad is not None:
                    for s, cut in enumerate(self.calls_on[c].cuts):
                        if bool((grad[cut] != 0).any()):
                            found[part].add(Part(c, s))
        return found

    def _feeds(self) -> dict[Part, Tensor]:
        """Return which of a call's inputs send a gradient from each of its slices."""
        self.reading = True
        calls = self.run(self._leaves(self.on))
        self.reading = False
        found = {}
        for c, call in enumerate(calls[1:-1], 1):
            inputs = [t for t in call.inputs if t.requires_grad]
            for s, cut in enumerate(call.cuts):
                feeds = torch.zeros_like(_flat(call.inputs), dtype=torch.bool)
                outputs = [t[cut] for t in _tensors(call.output) if t.requires_grad]
                if inputs and outputs:
                    grads = torch.autograd.grad(
                        self._weigh(outputs), inputs, allow_unused=True, retain_graph=True
                    )
                    by_input = dict(zip(map(id, inputs), grads, strict=True))
                    each = [by_input.get(id(t)) for t in call.inputs]
                    feeds = (
                        _flat(
                            [
                                torch.zeros_like(t) if grad is None else grad
                                for t, grad in zip(call.inputs, each, strict=True)
                            ]
                        )
                        != 0
                    )
                found[Part(c, s)] = feeds
        for s, cut in enumerate(calls[-1].cuts):
            mask = torch.zeros_like(calls[-1].output, dtype=torch.bool)
            mask[cut] = True
            found[Part(len(calls) - 1, s)] = mask.flatten()
        return found

    def _add_feeds(self, moved: dict[Part, list[Tensor]], shown: set[tuple[Part, Part]]) -> None:
        """Count what changes a slice without sending a gradient from it."""
        for sender, part in shown:
            places = moved[sender][part.call].abs() > LEAST
            if not bool((places & self.feeds[part]).any()):
                self.feeds[part] = self.feeds[part] | places

    def _same(self) -> dict[Part, Part]:
        """Return the head's parts that pass a tower's on."""
        at = {call.block.path: c for c, call in enumerate(self.calls_on)}
        if "head" not in at:
            return {}
        head, towers = self.calls_on[at["head"]], self.calls_on[at["towers"]]
        return {
            Part(at["head"], s): Part(at["towers"], s)
            for s, (a, b) in enumerate(zip(head.cuts, towers.cuts, strict=False))
            if torch.equal(head.output[a], towers.output[b])
        }

    def _leaves(self, base: list[Any]) -> list[Any]:
        return _each(list(base), lambda t: t.detach().clone().requires_grad_(True))

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64)

    def _weigh(self, tensors: list[Tensor]) -> Tensor:
        """Return a sum in which nothing cancels."""
        return torch.stack([(tensor * self._noise(tensor)).sum() for tensor in tensors]).sum()


def _tensors(value: Any) -> list[Tensor]:
    """Return all tensors in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for one in value for t in _tensors(one)] if isinstance(value, list | tuple) else []


def _each(value: Any, change: Any) -> Any:
    """Return the same tuples, lists and dicts with changed tensors of floats."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _each(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_each(one, change) for one in value)
    return value


def _flat(tensors: list[Tensor]) -> Tensor:
    kept = [t.detach().double().flatten() for t in tensors]
    # What is masked out is infinite before and after.
    return torch.cat(kept).nan_to_num(posinf=0.0, neginf=0.0) if kept else torch.zeros(0)


def _differ(a: Call, b: Call, cut: Slice) -> bool:
    """Whether two calls returned something else in a slice."""
    return any(
        float((x[cut] - y[cut]).abs().max()) > LEAST
        for x, y in zip(_tensors(a.output), _tensors(b.output), strict=True)
        if x[cut].numel()
    )


def _meet(moved: Tensor, feeds: Tensor) -> Tensor | None:
    """Return where something moved that counts, None if nowhere."""
    places = (moved.abs() > LEAST) & feeds
    return places if bool(places.any()) else None
