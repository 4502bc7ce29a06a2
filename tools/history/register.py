"""Whether the operations on one key fit into an order: a search for a register that can be absent.

Events are taken in the order of time. What is kept is every *place* where the register could be:
its state, and which operations in flight have taken effect. When an operation ends, each place must
have let it take effect, or lead to one that does; when no place is left, there is no order.

What keeps the places few, all without loss:

1. An operation that changes nothing takes effect as soon as the state allows it.
2. One that changes something waits until its end, or until another needs its effect: nobody could
   tell an earlier moment. A set that waits may instead vanish behind a later one (*hidden*).
3. Values are unique, so the state that a read needs names the write that makes it. Values that
   nobody reads are one state, PRESENT.
4. What has an unknown outcome takes effect only right before an operation that needs it. A place
   that got by with fewer of them replaces one that is the same otherwise.

After Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), and Lowe, "Testing for
Linearizability" (2017).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tools.history.operation import Answer, Kind, Operation

ABSENT = -2
PRESENT = -1
"""Some value that no read of the history returns."""
ANY = -3
"""What an operation needs that can take effect in any state."""
STEPS_MAX = 2_000_000
"""Places looked at for one key, before the search gives up undecided."""

REQUIREMENTS = {
    (Kind.ADD, Answer.YES): ABSENT,
    (Kind.ADD, Answer.NO): PRESENT,
    (Kind.ADD, Answer.UNKNOWN): ABSENT,
    (Kind.GET, Answer.NO): ABSENT,
    (Kind.DELETE, Answer.YES): PRESENT,
    (Kind.DELETE, Answer.NO): ABSENT,
    (Kind.EXISTS, Answer.YES): PRESENT,
    (Kind.EXISTS, Answer.NO): ABSENT,
}


class UndecidedError(Exception):
    """The search was given up: too many orders are possible."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Where the search found that no order is left."""

    last: Operation
    """The operation that could not take effect before its end."""
    states: tuple[int, ...]
    """Where the register could have been right before: values, PRESENT or ABSENT."""


class Place(NamedTuple):
    """Where the register could be; masks have a bit for each operation in flight."""

    state: int
    done: int
    hidden: int
    """Sets that may count as overwritten before anybody saw them."""


class Flight:
    """An operation in flight, as the search sees it."""

    __slots__ = ("bit", "effect", "ends", "hides", "kind", "needs", "operation")

    def __init__(self, operation: Operation, bit: int, effect: int | None, needs: int) -> None:
        """Note what it needs, and what it leaves behind; None: nothing changes."""
        self.operation = operation
        self.bit = bit
        self.effect = effect
        self.needs = needs
        self.ends = operation.ended is not None
        self.kind = operation.kind
        self.hides = effect is not None and operation.kind is not Kind.ADD

    def fits(self, state: int) -> bool:
        """Whether it can take effect in this state."""
        needs = self.needs
        return needs in (state, ANY) or (needs == PRESENT and state != ABSENT)


def contradiction_in(operations: Sequence[Operation]) -> Contradiction | None:
    """Return why the operations on one key fit into no order; None where they do.

    The key is absent before the first. Raises UndecidedError.
    """
    return Search(operations).run()


def relevant(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yield the operations that say something: no failed ones, and no reads without an answer."""
    for operation in operations:
        if operation.answer is Answer.FAILED:
            continue
        if operation.kind.writing or operation.answer is not Answer.UNKNOWN:
            yield operation


class Search:
    """One search; it runs once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        """Take the operations on one key, in any order."""
        self._operations = list(relevant(operations))
        self._read = {
            operation.value
            for operation in self._operations
            if operation.kind is Kind.GET and operation.answer is Answer.YES
        }
        self._places = {Place(ABSENT, 0, 0)}
        self._flights: dict[int, Flight] = {}
        self._reads: dict[int, Flight] = {}
        """In flight, with an end, changing nothing."""
        self._writes: dict[int, Flight] = {}
        """In flight, with an end, changing something."""
        self._unknown: dict[int, Flight] = {}
        """Without an end, by the value that somebody reads."""
        self._unknown_sets: list[Flight] = []
        self._unknown_deletes: list[Flight] = []
        self._endless = 0
        """The bits of all without an end."""
        self._free_bits: list[int] = []
        self._bits_used = 0
        self._steps = 0

    def run(self) -> Contradiction | None:
        """Take all events, a call before an end of the same time."""
        events: list[tuple[int, int, int]] = []
        for index, operation in enumerate(self._operations):
            events.append((operation.called, 0, index))
            if operation.ended is not None:
                events.append((operation.ended, 1, index))
        events.sort()
        for _, ending, index in events:
            if not ending:
                self._begin(index)
                continue
            states = tuple(sorted({place.state for place in self._places}))
            self._end(self._flights.pop(index))
            if not self._places:
                return Contradiction(self._operations[index], states)
        return None

    # Events.

    def _begin(self, index: int) -> None:
        flight = self._flight_of(self._operations[index])
        self._flights[index] = flight
        if not flight.ends:
            self._note_unknown(flight)
        elif flight.effect is None:
            self._reads[flight.bit] = flight
            self._places = {
                Place(place.state, place.done | flight.bit, place.hidden)
                if flight.fits(place.state)
                else place
                for place in self._places
            }
        else:
            self._writes[flight.bit] = flight

    def _flight_of(self, operation: Operation) -> Flight:
        if self._free_bits:
            bit = self._free_bits.pop()
        else:
            bit = 1 << self._bits_used
            self._bits_used += 1
        found = operation.kind is Kind.GET and operation.answer is Answer.YES
        if found or operation.answer is Answer.WRONG:
            # A state that no write makes stands for wrong bytes.
            needs = -4 if operation.value is None else operation.value
        else:
            needs = REQUIREMENTS.get((operation.kind, operation.answer), ANY)
        return Flight(operation, bit, self._effect_of(operation), needs)

    def _effect_of(self, operation: Operation) -> int | None:
        if not operation.kind.writing or operation.answer is Answer.NO:
            return None
        if operation.kind is Kind.DELETE:
            return ABSENT
        assert operation.value is not None
        assert operation.value >= 0
        return operation.value if operation.value in self._read else PRESENT

    def _note_unknown(self, flight: Flight) -> None:
        self._endless |= flight.bit
        if flight.effect == ABSENT:
            self._unknown_deletes.append(flight)
        elif flight.effect == PRESENT:
            self._unknown_sets.append(flight)
        elif flight.effect is not None:
            self._unknown[flight.effect] = flight

    def _end(self, flight: Flight) -> None:
        ended: set[Place] = set()
        waiting = []
        bit = flight.bit
        for place in self._places:
            if place.done & bit:
                ended.add(without(place, bit))
                continue
            if place.hidden & bit:
                ended.add(without(place, bit))
            waiting.append(place)
        if waiting:
            self._lead_on(waiting, flight, ended)
        (self._reads if flight.effect is None else self._writes).pop(bit)
        self._free_bits.append(bit)
        self._places = ended if len(ended) < 2 else self._best(ended)

    def _best(self, places: set[Place]) -> set[Place]:
        """Return the places that no other is as good as with fewer unknown effects."""
        alike: dict[tuple[int, int, int], list[int]] = {}
        for place in places:
            same = (place.state, place.done & ~self._endless, place.hidden)
            alike.setdefault(same, []).append(place.done & self._endless)
        return {
            Place(state, done | used, hidden)
            for (state, done, hidden), choices in alike.items()
            for used in choices
            if not any(other != used and other & used == other for other in choices)
        }

    # From place to place.

    def _lead_on(self, stack: list[Place], flight: Flight, ended: set[Place]) -> None:
        """Add to *ended* every place, without the flight, that these lead to."""
        seen = set(stack)
        while stack:
            place = stack.pop()
            self._steps += 1
            if self._steps > STEPS_MAX:
                raise UndecidedError(f"more than {STEPS_MAX} places")
            if flight.effect is not None and flight.fits(place.state):
                ended.add(without(self._after(place, flight), flight.bit))
            for write in self._candidates(place, flight):
                after = self._after(place, write)
                if after.done & flight.bit:
                    ended.add(without(after, flight.bit))
                elif after not in seen:
                    seen.add(after)
                    stack.append(after)

    def _after(self, place: Place, write: Flight) -> Place:
        state, done, hidden = write.effect, place.done | write.bit, place.hidden
        assert state is not None
        for bit, read in self._reads.items():
            if not done & bit and read.fits(state):
                done |= bit
        if write.hides:
            for bit, other in self._writes.items():
                if not done & bit and other.kind is Kind.SET:
                    hidden |= bit
        return Place(state, done, hidden & ~done)

    def _candidates(self, place: Place, last: Flight) -> Iterator[Flight]:
        """Yield the writes that may have to take effect before *last* does."""
        state, done = place.state, place.done
        wanted = self._wanted(place)
        for bit, write in self._writes.items():
            if done & bit or write is last or not write.fits(state):
                continue
            # A set is only worth its while for who needs it; others may have to be hidden.
            if write.kind is not Kind.SET or self._serves(write.effect, state, wanted):
                yield write
        for value in wanted:
            unknown = self._unknown.get(value)
            if unknown is not None and not done & unknown.bit and unknown.fits(state):
                yield unknown
        if state == ABSENT and PRESENT in wanted:
            yield from first_unused(self._unknown_sets, done)
            for unknown in self._unknown.values():
                if not done & unknown.bit and unknown.effect not in wanted:
                    yield unknown
        if state != ABSENT and (ABSENT in wanted or self._addable(wanted)):
            yield from first_unused(self._unknown_deletes, done)

    def _wanted(self, place: Place) -> set[int]:
        """Return what operations in flight need and do not have."""
        state, done = place.state, place.done
        wanted = {read.needs for bit, read in self._reads.items() if not done & bit}
        for bit, write in self._writes.items():
            if not done & bit and not write.fits(state):
                wanted.add(write.needs)
        return wanted

    @staticmethod
    def _serves(effect: int | None, state: int, wanted: set[int]) -> bool:
        return effect in wanted or (state == ABSENT and PRESENT in wanted)

    def _addable(self, wanted: set[int]) -> bool:
        """Whether an addition of unknown outcome would make a wanted state."""
        return any(
            value in self._unknown and self._unknown[value].kind is Kind.ADD for value in wanted
        )


def without(place: Place, bit: int) -> Place:
    """Return a place that has forgotten an operation."""
    return Place(place.state, place.done & ~bit, place.hidden & ~bit)


def first_unused(unknown: Sequence[Flight], done: int) -> Iterator[Flight]:
    """Yield one of operations that can stand for each other, if one is left."""
    for flight in unknown:
        if not done & flight.bit:
            yield flight
            return
