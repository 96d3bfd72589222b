"""Every page that the browser tests open: a new page adds a line here. Addresses are of the made-up fleet."""

from analytics.measurement import Letter

PAGES = {
    "overview": "/",
    "generic": "/?profile=generic",
    "past": "/?at=2026-11-23T09:45",
    "matrix": "/matrix",
    "matrix of times": "/matrix?metric=rtt",
    "map": "/map",
    "path": "/paths/radiologist/pacs",
    "path of a week": "/paths/home/pacs/timeline?range=7d",
    "sessions": "/paths/radiologist/pacs/sessions",
    "who signed": "/paths/radiologist/pacs/signed",
    "processes": "/agents/radiologist/processes",
    "relay": "/paths/clinic/pacs",
    "unreachable": "/paths/home/office-1",
    "flows": "/flows",
    "alerts": "/alerts",
    "diff": "/diff",
    "changes": "/diff?before=2026-11-23T13:00Z&after=2026-11-23T20:00Z",
    "sla of nothing yet": "/sla",
    "sla": "/sla?service=PACS&month=2026-11",
    "agents": "/agents",
    "agent": "/agents/radiologist",
    "revoke an agent": "/agents/radiologist/revoke",
    "agent of then": "/agents/clinic?at=2026-11-23T09:45",
    "services": "/services",
    "audit": "/audit",
    "settings": "/settings",
}

FIRST_RUN = {"no account yet": "/login", "first account": "/setup"}
"""Before there is an account."""
BEFORE_LOGIN = {"log in": "/login"}
LOGGED_IN = {"own account": "/account", "accounts and tokens": "/settings/access"}

EVERY_LETTER = {
    ("home", "office-1"): Letter.UNREACHABLE,
    ("home", "office-2"): Letter.F,
    ("office-1", "home"): Letter.C,
    ("office-2", "home"): Letter.UNKNOWN,
}
"""So that each letter is on a page."""
