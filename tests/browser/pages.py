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
    "relay": "/paths/clinic/pacs",
    "unreachable": "/paths/home/office-1",
    "flows": "/flows",
    "alerts": "/alerts",
    "diff": "/diff",
    "agents": "/agents",
    "agent": "/agents/radiologist",
    "services": "/services",
    "audit": "/audit",
    "settings": "/settings",
    "nothing": "/nope",
}

EVERY_LETTER = {
    ("home", "office-1"): Letter.UNREACHABLE,
    ("home", "office-2"): Letter.F,
    ("office-1", "home"): Letter.C,
    ("office-2", "home"): Letter.UNKNOWN,
}
"""So that each letter is on a page."""
