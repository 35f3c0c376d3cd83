"""The transaction machine as a page for people, made from its tables so that the two cannot differ.

`render` returns the text of `docs/machine.md`: a Mermaid state diagram of what changes a state, then all tables."""

from collections import defaultdict
from collections.abc import Iterable

from zentra.runtime.intents.machine import ENTER, MOVES, TIMEOUTS
from zentra.runtime.intents.vocabulary import SETTLED, Fact, State

__all__ = ["render"]

_HEAD = """# The transaction machine

Generated from `runtime/intents/machine.py`. Rewrite it with:

    .venv/bin/python -c 'from zentra.runtime.intents.diagram import render; print(render(), end="")' > docs/machine.md

A state is a lifecycle (what tenants see) and, behind a slash, a step inside it. A pair of state and fact that stands in
no table here is refused and changes nothing.
"""


def render() -> str:
    """Return the whole page, ending in a newline."""
    return "\n".join([_HEAD, *_diagram(), *_moves(), *_echoes(), *_states()]) + "\n"


def _diagram() -> list[str]:
    """Return the moves that change the state, one arrow per pair of states."""
    arrows: defaultdict[tuple[State, State], list[str]] = defaultdict(list)
    for (state, fact), move in MOVES.items():
        if move.to is not state:
            arrows[state, move.to].append(fact)
    lines = ["```mermaid", "stateDiagram-v2", "    direction TB"]
    lines += [f'    state "{state}" as {state.name}' for state in State if state.step]
    lines.append(f"    [*] --> {State.ACCEPTED.name}")
    lines += [f"    {start.name} --> {end.name}: {', '.join(facts)}" for (start, end), facts in arrows.items()]
    lines += [f"    {State.REVERSED.name} --> [*]", "```", ""]
    return lines


def _moves() -> list[str]:
    lines = ["## What moves it", "", "| state | fact | to | event | effects |", "|---|---|---|---|---|"]
    for (state, fact), move in MOVES.items():
        if not _is_family(fact):
            to = "*stays*" if move.to is state else f"`{move.to}`"
            lines.append(f"| `{state}` | `{fact}` | {to} | `{move.topic}` | {_words(move.effects)} |")
    return [*lines, ""]


def _echoes() -> list[str]:
    lines = [
        "## What is recorded and leaves it where it is",
        "",
        "| fact | in | event | effects |",
        "|---|---|---|---|",
    ]
    for fact in Fact:
        if _is_family(fact):
            rows = {state: move for (state, known), move in MOVES.items() if known is fact}
            move = next(iter(rows.values()))
            lines.append(f"| `{fact}` | {_family_name(rows)} | `{move.topic}` | {_words(move.effects)} |")
    return [*lines, ""]


def _states() -> list[str]:
    lines = ["## What a state asks for", "", "What is asked for again comes in pauses that double, up to an hour.", ""]
    lines += ["| state | on entry | asked again after |", "|---|---|---|"]
    own = {State.REVIEW: "the review's expiry", State.SUBMITTED: "the rail's poll interval and deadline"}
    own[State.HELD] = "the hold's expiry"
    for state in State:
        entry, timeout = ENTER.get(state), TIMEOUTS.get(state)
        again = f"{timeout.seconds:g} s: `{timeout.effect}`" if timeout else own.get(state, "-")
        lines.append(f"| `{state}` | {_words([entry] if entry else [])} | {again} |")
    return lines


def _is_family(fact: Fact) -> bool:
    """Return whether `fact` never changes a state and means the same wherever it is allowed."""
    rows = [(state, move) for (state, known), move in MOVES.items() if known is fact]
    return len(rows) > 1 and all(move.to is state and move[1:] == rows[0][1][1:] for state, move in rows)


def _family_name(states: Iterable[State]) -> str:
    chosen = frozenset(states)
    if chosen == frozenset(State):
        return "every state"
    if chosen == SETTLED:
        return "every settled state"
    return ", ".join(f"`{state}`" for state in State if state in chosen)


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "-"
