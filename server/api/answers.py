"""What each route under ``/v1`` answers with: one table, from which the API's description is completed."""

from __future__ import annotations

from typing import Any, Final

from analytics.compare import Comparison
from analytics.explain import Explanation
from analytics.measurement import Flow
from analytics.overview import AgentPaths
from analytics.passive import Applications
from analytics.policy import Policy
from analytics.report import Member, PathDetail, Service, Verdict
from analytics.sla import SlaReport
from analytics.timeline import Timeline
from server.accounts.people import Account
from server.accounts.tokens import AccessToken, MadeToken
from server.alerts.model import Alert, ReceiverStatus, Silence
from server.api.accounts import Me, NewTenant
from server.api.agent_info import AgentInfo, Listener
from server.api.alert_door import AlertList, ReceiverTest
from server.api.audits import AuditEntry
from server.api.controls import Budgets, MeshSwitches
from server.api.core import Status
from server.api.doors import Mark, MeshRun
from server.api.listed import PathList
from server.api.policy_door import PolicyCheck
from server.api.sla_shapes import SlaKey
from server.settings_told import SettingTold

ANSWERS: Final[dict[tuple[str, str], Any]] = {
    ("get", "/v1/access-tokens"): list[AccessToken],
    ("post", "/v1/access-tokens"): MadeToken,
    ("get", "/v1/accounts"): list[Account],
    ("post", "/v1/accounts"): Account,
    ("patch", "/v1/accounts/{name}"): Account,
    ("get", "/v1/agents"): list[Member],
    ("get", "/v1/agents/{name}"): AgentInfo,
    ("get", "/v1/agents/{name}/paths"): AgentPaths,
    ("get", "/v1/agents/{name}/tags"): list[str],
    ("post", "/v1/agents/{name}/tags"): list[str],
    ("get", "/v1/alerts"): AlertList,
    ("get", "/v1/alerts/receivers"): list[ReceiverStatus],
    ("post", "/v1/alerts/receivers/{name}/test"): ReceiverTest,
    ("post", "/v1/alerts/{id}/ack"): Alert,
    ("get", "/v1/applications"): Applications,
    ("get", "/v1/audit"): list[AuditEntry],
    ("get", "/v1/budgets"): Budgets,
    ("post", "/v1/budgets"): Budgets,
    ("get", "/v1/diff"): Comparison,
    ("get", "/v1/flows"): list[Flow],
    ("get", "/v1/me"): Me,
    ("get", "/v1/mesh/marks"): list[Mark],
    ("post", "/v1/mesh/marks"): list[Mark],
    ("post", "/v1/mesh/runs"): MeshRun,
    ("get", "/v1/mesh/runs/{id}"): MeshRun,
    ("get", "/v1/mesh/switches"): MeshSwitches,
    ("post", "/v1/mesh/switches"): MeshSwitches,
    ("get", "/v1/paths"): PathList,
    ("get", "/v1/paths/{src}/{dst}"): PathDetail,
    ("get", "/v1/paths/{src}/{dst}/explain"): Explanation,
    ("get", "/v1/paths/{src}/{dst}/timeline"): Timeline,
    ("get", "/v1/policy"): Policy,
    ("put", "/v1/policy"): Policy,
    ("get", "/v1/policy/check"): PolicyCheck,
    ("get", "/v1/profiles"): list[str],
    ("get", "/v1/services"): list[Service],
    ("post", "/v1/services"): list[Service],
    ("get", "/v1/services/seen"): list[Listener],
    ("get", "/v1/settings"): list[SettingTold],
    ("get", "/v1/silences"): list[Silence],
    ("post", "/v1/silences"): Silence,
    ("get", "/v1/sla"): SlaReport,
    ("get", "/v1/sla/key"): SlaKey,
    ("get", "/v1/status"): Status,
    ("get", "/v1/tenants"): list[str],
    ("post", "/v1/tenants"): NewTenant,
    ("get", "/v1/verdict"): Verdict,
}

OF_NO_TYPE: Final = {
    ("get", "/v1/audit.csv"): "a table",
    ("get", "/v1/audit/export"): "a file",
    ("get", "/v1/events"): "a stream of events",
    ("get", "/v1/export/{table}"): "a file",
    ("get", "/v1/matrix"): "packed cells",
    ("get", "/v1/receipts"): "a file",
    ("delete", "/v1/access-tokens/{name}"): "nothing",
    ("delete", "/v1/accounts/{name}"): "nothing",
    ("delete", "/v1/agents/{name}"): "nothing",
    ("delete", "/v1/silences/{id}"): "nothing",
}
"""Routes that answer with something else, and with what."""
