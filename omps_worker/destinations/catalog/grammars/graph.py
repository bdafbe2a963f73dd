# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph of upgrades in a channel: which bundles lead to which.

An entry leads to what it replaces and to what it skips. Walks are loops, not recursion: a channel can have thousands
of entries, and entries that lead to each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Entry = Mapping[str, Any]
"""An entry of a channel: ``name``, and perhaps ``replaces``, ``skips`` and ``skipRange``."""


def targets_of(entry: Entry) -> list[str]:
    """Return what an entry replaces, then what it skips."""
    replaced = entry.get("replaces")
    return [*([replaced] if replaced else []), *(entry.get("skips") or ())]


def heads_of(entries: Iterable[Entry]) -> list[str]:
    """Return the names of the entries that no entry replaces or skips, in their order."""
    entries = list(entries)
    followed = {target for entry in entries for target in targets_of(entry)}
    return [entry["name"] for entry in entries if entry["name"] not in followed]


def reached_from(head: str, entries: Mapping[str, Entry]) -> list[str]:
    """Return the names that a walk from ``head`` reaches, the nearest first.

    Names without an entry are not reached.
    """
    reached = {head: None} if head in entries else {}
    waiting = list(reached)
    for name in waiting:
        for target in targets_of(entries[name]):
            if target in entries and target not in reached:
                reached[target] = None
                waiting.append(target)
    return list(reached)


def chain_fault(entries: Iterable[Entry]) -> str | None:
    """Return why opm refuses the entries of a channel; None if it takes them.

    There is one head. The chain of ``replaces`` from it has no cycle and reaches every entry that nothing skips. The
    chain ends at an entry that is skipped (since opm v1.58), or at one that is not there.
    """
    by_name = {entry["name"]: entry for entry in entries}
    heads = sorted(heads_of(by_name.values()))
    if not heads:
        return "it has no head: each of its entries is replaced or skipped by one of them"
    if len(heads) > 1:
        return f"it has {len(heads)} heads, which nothing replaces or skips: {_shown(heads)}"
    skipped = {name for entry in by_name.values() for name in entry.get("skips") or ()}
    chain = {heads[0]: None}
    current: Entry | None = by_name[heads[0]]
    while current is not None:
        following = current.get("replaces") or ""
        if following in skipped:
            break
        if following in chain:
            cycle = list(chain)
            return f"its chain of replaces is a cycle: {_shown([*cycle[cycle.index(following) :], following], ' -> ')}"
        chain[following] = None
        current = by_name.get(following)
    stranded = sorted(by_name.keys() - chain.keys() - skipped)
    if stranded:
        return f"no chain of replaces from its head {heads[0]} reaches {_shown(stranded)}"
    return None


def _shown(names: list[str], separator: str = ", ", most: int = 10) -> str:
    more = f"{separator}and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more
