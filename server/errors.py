"""What can go wrong in the server.

::

    ServerError
    ├── SettingsError          a setting that does not hold
    ├── ListenError            an address cannot be listened on
    ├── StateError             the data folder or the state in it cannot be used
    │   ├── StateLockedError   another server holds it
    │   └── StateVersionError  it was written by a newer pathgrade
    ├── AuditBrokenError       a chain of audit rows that does not hold
    ├── BackupError            a backup that cannot be made, read or taken
    ├── TokenError             an enrolment token that is unknown, expired or used up
    ├── NameTakenError         another agent has enrolled under that name
    ├── CredentialError        a connection that shows no certificate of an enrolled agent
    │   ├── CertificateOverError   the certificate is over, or not in force yet: renewing helps
    │   └── ChallengeOverError     what was signed is no challenge of now: asking for another helps
    ├── NotYoursError          a batch that speaks for someone else
    ├── BodyError              a request body that cannot be taken
    │   ├── BodySizeError      too large, as sent or expanded
    │   ├── BodyEncodingError  a Content-Encoding this server does not read
    │   └── BodySlowError      it did not arrive in time
    ├── BusyError              no room for another request right now
    ├── AlertError             an alert, a silence or a receiver that there is not
    ├── DeliveryError          a receiver that did not take an alert
    ├── DemandError            something that people ask for and that cannot be had
    ├── PolicyChangedError     a policy that is set in place of one that is not there any more
    ├── IdentityError          another's word on who somebody is, and it does not hold
    │   └── IdentityAwayError  the one who would say it does not answer
    └── AskError               a command asked a running server in vain
        ├── ServerAwayError    nobody answers at that URL
        ├── TokenFileError     the token that the command was given cannot be used
        └── RefusedError       it answered with a problem, or with something else
            └── DeniedError    the problem is who asks: no token, or one that may not do this
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ServerError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what a command ends with (sysexits.h)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class SettingsError(ServerError):
    """A setting that does not hold."""

    exit_code = 78


class ListenError(ServerError):
    """An address cannot be listened on."""

    exit_code = 69


class StateError(ServerError):
    """The data folder, or the state in it, cannot be read or written."""

    exit_code = 74


class StateLockedError(StateError):
    """Another server holds the data folder."""

    exit_code = 75


class StateVersionError(StateError):
    """The state was written by a newer pathgrade."""


class AuditBrokenError(ServerError):
    """A chain of audit rows does not hold: one was changed, taken out or put in behind the server's back."""

    exit_code = 65


class BackupError(ServerError):
    """A backup cannot be made, read or taken."""

    exit_code = 74


class TokenError(ServerError):
    """An enrolment token that is unknown, expired or used up."""

    exit_code = 77


class NameTakenError(ServerError):
    """Another agent, with another certificate, has enrolled under that name."""


class CredentialError(ServerError):
    """A connection that shows no certificate, or one of no enrolled agent, or of one that was revoked."""


class CertificateOverError(CredentialError):
    """The certificate is over, or not in force yet: renewing it helps."""


class ChallengeOverError(CredentialError):
    """What was signed is no challenge of now: the server was restarted, its clock set, or the way is slow."""


class NotYoursError(ServerError):
    """A batch that speaks for another agent or tenant."""


class BodyError(ServerError):
    """A request body that cannot be taken."""


class BodySizeError(BodyError):
    """A body too large, as sent or expanded."""


class BodyEncodingError(BodyError):
    """A Content-Encoding this server does not read."""


class BodySlowError(BodyError):
    """A body that did not arrive in time."""


class TooManyTriesError(ServerError):
    """Too many tries from one address failed."""


class BusyError(ServerError):
    """No room for another request right now."""


class DemandError(ServerError):
    """Tests, a mark, a tag, an account or a token that cannot be had now."""

    exit_code = 65


class PolicyChangedError(ServerError):
    """Somebody else set the policy meanwhile: what was made of the older one is not taken."""

    exit_code = 65

    def __init__(self, *, known: int) -> None:
        super().__init__(
            f"the policy is version {known} by now, and this was made from another",
            remedy="look at it again: pathgrade policy show; then set it once more",
        )


class IdentityError(ServerError):
    """What an OpenID Connect provider says of a person does not hold, or gives them no role here."""


class IdentityAwayError(IdentityError):
    """The OpenID Connect provider does not answer."""


class AlertError(ServerError):
    """An alert, a silence or a receiver that there is not, or that cannot be had; ``status`` is HTTP's."""

    def __init__(self, message: str, *, remedy: str = "", status: int = 404) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class DeliveryError(ServerError):
    """A receiver did not take an alert. ``again``: it may if it is tried again, from ``asked_s`` on."""

    def __init__(
        self, message: str, *, remedy: str = "", again: bool = True, asked_s: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.again = again
        self.asked_s = asked_s


class AskError(ServerError):
    """A command asked a running server in vain."""


class ServerAwayError(AskError):
    """Nobody answers at that URL."""

    exit_code = 69


class RefusedError(AskError):
    """The server answered with a problem, or what answers is not a pathgrade server."""

    exit_code = 65


class DeniedError(RefusedError):
    """The server does not know who asks (401), or does not let them (403)."""

    exit_code = 77


class TokenFileError(AskError):
    """The token that the command was given cannot be used: not one, or others can read it."""

    exit_code = 77


@contextmanager
def backup_errors(doing: str, remedy: str) -> Iterator[None]:
    """Raise ``BackupError`` for what the disk does not do, with the file where it is named."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise BackupError(f"{doing}: {error.strerror or error}{where}", remedy=remedy) from error
