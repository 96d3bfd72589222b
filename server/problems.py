"""Which HTTP status an error of the agent listener is: one table."""

from __future__ import annotations

from typing import Final

from analytics.errors import (
    AnalyticsError,
    BatchError,
    LakeError,
    MessageError,
    SchemaVersionError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from server.api.problem import Problem
from server.errors import (
    AuditBrokenError,
    BodyEncodingError,
    BodyError,
    BodySizeError,
    BodySlowError,
    BusyError,
    CertificateOverError,
    ChallengeOverError,
    CredentialError,
    DemandError,
    IdentityAwayError,
    IdentityError,
    NameTakenError,
    NotYoursError,
    ServerError,
    StateError,
    TokenError,
    TooManyTriesError,
)

PROBLEMS: Final[dict[type[Exception], tuple[int, str]]] = {
    CertificateOverError: (401, "The certificate is over"),
    ChallengeOverError: (503, "The challenge is over"),
    CredentialError: (401, "Unknown credential"),
    TokenError: (401, "The token is refused"),
    NotYoursError: (403, "Not yours to send"),
    TooManyTriesError: (429, "Too many tries failed"),
    BodySlowError: (408, "The body did not arrive in time"),
    NameTakenError: (409, "The name is taken"),
    BodySizeError: (413, "The body is too large"),
    BodyEncodingError: (415, "The body's encoding is not known"),
    BodyError: (400, "The body broke off"),
    SchemaVersionError: (422, "The batch's schema version is not known"),
    BatchError: (400, "The batch is malformed"),
    MessageError: (400, "The request is malformed"),
    IdentityAwayError: (503, "The login provider does not answer"),
    IdentityError: (403, "The login did not hold"),
    DemandError: (409, "That cannot be had"),
    AuditBrokenError: (500, "The audit log does not hold"),
    BusyError: (503, "The server is busy"),
    StoreBusyError: (503, "The server is busy"),
    StoreFullError: (507, "The server's disk is full"),
    LakeError: (503, "The lake cannot be reached"),
    StoreError: (500, "The server cannot store"),
    StateError: (503, "The server cannot write its state"),
}

RETRY_AFTER_S: Final = {429: 10, 503: 2, 507: 30}
"""When to come again, where coming again helps."""


def problem_of(error: ServerError | AnalyticsError) -> Problem:
    """Say an error over HTTP: that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            status, title = PROBLEMS[kind]
            return Problem(status=status, title=title, detail=str(error), remedy=error.remedy)
    return Problem(status=500, title="The server failed", remedy="the server's log has the cause")


def headers_of(problem: Problem) -> dict[str, str]:
    """Tell the sender when to come again."""
    wait_s = RETRY_AFTER_S.get(problem.status)
    return {} if wait_s is None else {"Retry-After": str(wait_s)}
