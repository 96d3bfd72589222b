"""What can go wrong in the agent.

::

    AgentError
    ├── ConfigError            a configuration that does not hold
    ├── JoinError              this host's files or unit cannot be set up
    ├── IdentityError          the key or certificate cannot be read or written
    ├── FolderError            the data folder cannot be used, or another agent uses it
    ├── PrivilegesError        root or a capability cannot be given up, or one that is needed is not held
    ├── SockDiagError          the kernel does not list its TCP sockets
    ├── EnrolmentError         the server does not let this agent in
    ├── CredentialRefusedError the server no longer knows this agent: it must enrol again
    ├── AuthorityMovedError    the server's authority is another now, and is kept: begin anew with it
    ├── ServerSilentError      the server cannot be reached, or cannot take this now; trying again helps
    │   ├── ServerUnprovenError    whoever answers is not the server of the token, or of the enrolment
    │   └── OutboxError        the outbox cannot be read or tidied now: as good as a silent server
    ├── LocalError             this host's agent cannot be asked for its sessions
    │   ├── LocalRefusedError  it does not answer this user
    │   ├── LocalAnswerError   it does not take the question, or its answer cannot be read
    │   └── SessionUnknownError    no session, or more than one, has that id
    ├── DeepError              a deep trace cannot be made
    │   └── DeepDeniedError    it needs a capability that is not held
    ├── PeerUnknownError       no identity key is pinned for that name
    └── MeshError              an active test cannot go on
        ├── TrustError         an order, or the peer it names, is not proven: nothing is sent
        ├── SignallingError    the peer, or the way to it through the server, broke off
        ├── RungError          one rung of the ladder did not connect
        ├── PeerCertificateError   the peer's DTLS certificate is not the enrolled one
        ├── GrantSpentError    all that the grant allows was sent, and the test was not over
        └── PeerSilentError    the peer stopped answering on a connected path
"""

from __future__ import annotations


class AgentError(Exception):
    """Base. ``remedy`` says what to try; ``exit_code`` is what a command ends with (sysexits.h)."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigError(AgentError):
    """A configuration that does not hold."""

    exit_code = 78


class JoinError(AgentError):
    """The files or the unit of this host cannot be set up."""

    exit_code = 77


class IdentityError(AgentError):
    """The key or certificate cannot be read or written."""

    exit_code = 77


class FolderError(AgentError):
    """The data folder cannot be used, or another agent uses it."""

    exit_code = 73


class PrivilegesError(AgentError):
    """Root or a capability cannot be given up, or one that is needed is not held."""

    exit_code = 77


class SockDiagError(AgentError):
    """The kernel does not list its TCP sockets, or not those that were asked for."""

    exit_code = 69


class EnrolmentError(AgentError):
    """The server does not let this agent in: its token or its name is refused."""

    exit_code = 77


class CredentialRefusedError(AgentError):
    """The server no longer knows this agent: it must enrol again."""

    exit_code = 77


class AuthorityMovedError(AgentError):
    """The server's authority is another now, and is kept. Never ends the agent: it begins anew with it."""


class ServerSilentError(AgentError):
    """The server cannot be reached, or cannot take this now; trying again helps. Never ends the agent."""

    exit_code = 69

    def __init__(self, message: str, *, retry_s: float = 0) -> None:
        super().__init__(message)
        self.retry_s = retry_s  # not before, if the server said so


class ServerUnprovenError(ServerSilentError):
    """Whoever answers is not the server of the token, or of the enrolment: another is in its place.

    Nothing secret was sent. It ends an agent that is not enrolled yet.
    """

    exit_code = 76

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class OutboxError(ServerSilentError):
    """A batch cannot be read or removed now, and stays where it is. Never ends the agent.

    For the uploader the same as a server that is away: said once, and tried again.
    """

    exit_code = 74


class LocalError(AgentError):
    """The agent of this host cannot be asked for its sessions: most often, none runs."""

    exit_code = 69


class LocalRefusedError(LocalError):
    """The agent of this host does not answer this user."""

    exit_code = 77


class LocalAnswerError(LocalError):
    """The agent does not take the question, or its answer cannot be read."""

    exit_code = 65


class SessionUnknownError(LocalError):
    """No session, or more than one, has an id that begins so."""

    exit_code = 65


class DeepError(AgentError):
    """A deep trace cannot be made: a name that does not resolve, or a helper that did not end well."""

    exit_code = 69


class DeepDeniedError(DeepError):
    """A deep trace needs CAP_NET_RAW, which this process does not have."""

    exit_code = 77


class PeerUnknownError(AgentError):
    """No identity key is pinned for that name."""

    exit_code = 65


class MeshError(AgentError):
    """An active test cannot go on. Becomes the ``error`` of a reading; never ends the agent."""

    exit_code = 69


class TrustError(MeshError):
    """An order, or the peer it names, is not proven: nothing is sent to anyone.

    ``reason`` is what refusals are counted by (``agent.mesh.trust.Reason``).
    """

    exit_code = 77

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class SignallingError(MeshError):
    """The peer gave up, said something unexpected, or did not answer through the server."""


class RungError(MeshError):
    """One rung of the ladder did not connect; the message is the reason shown to people."""


class PeerCertificateError(MeshError):
    """The peer's DTLS certificate is not the enrolled one: nothing is measured with it."""


class GrantSpentError(MeshError):
    """All bytes that the grant allows were sent, and the test was not over: no more is sent."""


class PeerSilentError(MeshError):
    """The peer stopped answering on a path that was connected."""
