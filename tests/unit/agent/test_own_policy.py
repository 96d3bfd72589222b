"""Two whole agents and a real server: what one's own policy refuses, the other and the server are told."""

from __future__ import annotations

import asyncio
from typing import Any

from agent.mesh.stamps import StampingLoop
from agent.own_policy import OwnRules
from analytics.measurement import Letter, Rung
from analytics.wire import MeshSwitch

SAID = "not tested: nurse's own policy refuses this test: pacs is none of its peers"


def test_a_test_that_a_hosts_own_policy_refuses_is_told_plainly(
    place: Any, agent_of: Any, until: Any, online: Any
) -> None:
    async def scenario() -> None:
        async with place.serving() as server:
            nurse = place.config(
                "nurse",
                token=place.token(),
                site="ward",
                mesh=True,
                policy=OwnRules(peers=["site:ward"]),
            )
            pacs = place.config("pacs", token=place.token(), site="cellar", mesh=True)
            async with agent_of(nurse) as one, agent_of(pacs):
                await until(lambda: online(server, "nurse") and online(server, "pacs"), one)
                await until(lambda: server.core.status().paths_measured == 2, one)
                rows = {row.src: row for row in server.core.report("generic").paths}
                assert (rows["nurse"].rung, rows["nurse"].error) == (Rung.NONE, SAID)
                assert rows["nurse"].grade.reason == SAID
                assert SAID in rows["pacs"].error
                assert {row.grade.letter for row in rows.values()} == {Letter.UNKNOWN}

                def counted() -> Any:
                    vitals = server.core.agent("nurse").vitals
                    return vitals and vitals.latest.grants_refused.get("own-policy-peer")

                # Answered by Health, which is due only every 30 s.
                server.core._hub.get("nurse").say(MeshSwitch(on=True))
                await until(counted, one)

    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(scenario())
