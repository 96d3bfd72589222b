"""A trace from this host to a service: ``hops --deep``."""

from __future__ import annotations

from analytics.command_line import print_json, show


def traced(target: str, chosen: dict[str, bool], flows: int, *, json: bool) -> None:
    """Trace by the protocols that are true in ``chosen``, by all where none is."""
    from agent import deep
    from agent.mesh.treatment import PROTOCOLS

    made = deep.trace(target, [protocol for protocol in PROTOCOLS if chosen[protocol]], flows=flows)
    if json:
        return print_json(made)
    return show(deep.shown(made))
