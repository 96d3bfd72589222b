"""All kinds of profiles, by the struct that the rules file is read into. Pure."""

from __future__ import annotations

from typing import Any, Final

from analytics.kinds.call import CALL
from analytics.kinds.interaction import INTERACTION
from analytics.kinds.kind import Kind
from analytics.kinds.objective import OBJECTIVE
from analytics.kinds.response import RESPONSE
from analytics.kinds.study import STUDY
from analytics.rules.load import (
    CallProfile,
    InteractionProfile,
    ObjectiveProfile,
    Profile,
    ResponseProfile,
    StudyProfile,
)

KINDS: Final[dict[type, Kind[Any]]] = {
    StudyProfile: STUDY,
    ResponseProfile: RESPONSE,
    InteractionProfile: INTERACTION,
    CallProfile: CALL,
    ObjectiveProfile: OBJECTIVE,
}


def kind_of(profile: Profile) -> Kind[Any]:
    """The kind of a profile."""
    return KINDS[type(profile)]
