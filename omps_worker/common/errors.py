# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can go wrong, as one tree.

::

    WorkerError
    ├── SettingsError                    the configuration; names every fault it found
    │   └── MappingError                 the mapping file
    ├── MessageError                     a message that cannot be read, or that names no build
    ├── ContentError                     what the build carries is at fault
    │   ├── OMPSUploadedFileError        the archive
    │   ├── PackageValidationError       the manifests
    │   └── OMPSInvalidVersionFormat     the version they or the mapping ask for
    ├── BuildSystemError                 what Koji says, or that it says nothing
    │   ├── KojiNVRBuildNotFound         (transient where a message says that there is one)
    │   ├── KojiBuildMismatch            a message means another build than Koji, by the same id
    │   ├── KojiNotAnOperatorImage
    │   ├── KojiManifestsArchiveNotFound
    │   └── KojiError                    Koji cannot be reached, or lags behind (transient)
    ├── GatingError                      what Greenwave says of a build
    │   ├── GreenwaveUnsatisfiedError    its gates are not passed (transient while patience lasts)
    │   └── GreenwaveError               it cannot be reached, or makes no sense (transient)
    ├── RegistryError                    what the app registry says
    │   ├── QuayAuthorizationError       a token, or its rights (transient)
    │   ├── QuayCourierError             a push failed
    │   ├── QuayPackageError             looking at a package, deleting from it, or making it public, failed
    │   └── QuayPackageNotFound
    ├── RequestError                     a request to the REST API
    │   ├── OMPSAuthorizationHeaderRequired
    │   ├── InvalidOrganizationName      nothing can be called that
    │   ├── OMPSExpectedFileError
    │   ├── RequestEntityTooLarge
    │   ├── RequestTimeout               its body does not arrive
    │   ├── InvalidIdempotencyKey
    │   ├── RequestAbandoned             nobody waits for it any more
    │   ├── ServiceBusy                  too many wait already (transient)
    │   └── ServiceStopping
    ├── BrokerError                      RabbitMQ
    │   ├── BrokerUnavailable            it is away (transient)
    │   ├── BrokerBlocked                it takes no messages: an alarm of its own (transient)
    │   └── BrokerRefused                it refuses the login, a queue or an exchange
    ├── OrganizationPaused               the mapping says so (transient, for as long as it does)
    ├── BuildHeld                        the mapping says so
    ├── PackageBusy                      somebody else is pushing to the package (transient)
    ├── PoisonMessage                    workers die of the message
    ├── RegistryReplacementError         replace_registry takes too long, or too much memory, with these manifests
    ├── StorageError                     this machine's own disk (transient)
    ├── ResourcesExhausted               this machine has no more threads, processes, memory or open files (transient)
    └── UnexpectedError                  what nobody thought of; its traceback is in the log

Names below the sub-bases are those of OMPS, so that clients and dashboards written for
it keep working. Each error knows whether trying again can help: ``transient``.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from omps_worker.common.error_details import limited, why
from omps_worker.common.faults import Fault as Fault
from omps_worker.common.text import with_single_stops
from omps_worker.common.tracebacks import let_go

Kind = TypeVar("Kind", bound="WorkerError")

MESSAGE_LIMIT = 4096
"""How many characters an error's message may have; what comes from outside may be longer."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system says of a disk that takes no more."""

_NO_THREAD = "can't start new thread"
"""The text of the RuntimeError that Python raises then."""


class WorkerError(Exception):
    """The root of the tree.

    ``message`` is one sentence for a person. It never holds a secret, a local path that the
    reader did not configure, or a traceback. ``details`` is JSON for a program. ``transient``
    says whether the same work may succeed later; ``retry_after`` is the number of seconds that
    the peer asked to be left alone, if it did. ``counts``: a try that ends like this was one;
    otherwise the work never began, and trying again is no further attempt. ``gives_up``: that comes to an
    end after some time; ``reason``: what results call it while it is tried again, if not by its name.
    """

    transient = False
    counts = True
    gives_up = True
    reason: str | None = None

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        transient: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        if len(message) > MESSAGE_LIMIT:
            message = message[: MESSAGE_LIMIT - 1] + "…"
        self.message = with_single_stops(message)
        super().__init__(self.message)
        self.details: dict[str, Any] = limited(details or {})
        self.retry_after = retry_after
        if transient is not None:
            self.transient = transient

    @property
    def name(self) -> str:
        """The name that results and REST replies carry, e.g. ``KojiNVRBuildNotFound``."""
        return type(self).__name__

    def as_value(self: Kind) -> Kind:
        """This error, fit to be kept: with nothing left of the way that it came; see ``let_go``."""
        let_go(self)
        return self


class SettingsError(WorkerError):
    """The configuration cannot be used. Holds every fault, not only the first.

    Transient where work under way meets it: a secret or an organization may be there at the next try.
    """

    def __init__(self, faults: Sequence[Fault], *, transient: bool = False) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults), transient=transient)


class MappingError(SettingsError):
    """The mapping file cannot be used."""


class MessageError(WorkerError):
    """A message that cannot be decoded, or that speaks of a complete build without naming it."""


class ContentError(WorkerError):
    """The content of a build is at fault: only another build can mend it."""


class OMPSUploadedFileError(ContentError):
    """The archive is no zip, is damaged, encrypted, too large, or has members that are refused."""


class PackageValidationError(ContentError):
    """The manifests are not what an app registry takes.

    ``details["validation_info"]`` holds operator-courier's verdict, ``{errors, warnings}``,
    or nothing when it came to none.
    """


class OMPSInvalidVersionFormat(ContentError):
    """A version is not three dot-separated integers without leading zeros."""


class BuildSystemError(WorkerError):
    """Koji's answer, or its absence."""


class KojiNVRBuildNotFound(BuildSystemError):
    """Koji knows no such build. Transient where a message says that there is one."""


class KojiBuildMismatch(BuildSystemError):
    """A message gives the id of one build and the name of another: it speaks of no build of this Koji."""


class KojiNotAnOperatorImage(BuildSystemError):
    """The build exists and is not an operator image, or is not complete."""


class KojiManifestsArchiveNotFound(BuildSystemError):
    """The build says it has an archive of manifests, and Koji has none of that name."""


class KojiError(BuildSystemError):
    """Koji could not be reached, answered with something that is no answer, or does not have yet what it must have.

    ``lacking``: its hub has no such call, or the call no such argument: it will never answer this question.
    ``absent``: its file server does not have a file that the hub lists. ``insisted``: it was waited for and asked
    again already. ``refused``: its hub said no to a question. ``misplaced``: where it should be is something else.
    """

    transient = True
    lacking = refused = misplaced = False
    absent = False
    insisted = False


class GatingError(WorkerError):
    """Greenwave's answer; ``details["greenwave_response"]`` holds it, or {} if it was none."""


class GreenwaveUnsatisfiedError(GatingError):
    """The build has not passed its gates; tests may still be running."""


class GreenwaveError(GatingError):
    """Greenwave could not be reached, or answered with something that is no decision."""

    transient = True


class RegistryError(WorkerError):
    """The app registry's answer; ``details["quay_response"]`` holds what it said, as JSON."""


class QuayAuthorizationError(RegistryError):
    """The registry does not let these credentials do this.

    Somebody renews the token or gives it the right, and then the same work succeeds. Also a token that
    was read while its file was being written looks like this.
    """

    transient = True


class QuayCourierError(RegistryError):
    """The registry did not take a release.

    ``conflict``: because it has that version already. ``ambiguous``: it may have taken it all the
    same, so look before pushing again. ``pending``: it may even take it yet, in a while.
    """

    conflict = False
    ambiguous = False
    pending = False


class QuayPackageError(RegistryError):
    """Looking at a package, making it public, or deleting from it failed."""


class QuayPackageNotFound(RegistryError):
    """The package, or the release of it, does not exist."""


class RequestError(WorkerError):
    """A request that cannot be served as it is: whoever sent it must send another."""


class OMPSAuthorizationHeaderRequired(RequestError):
    """The request has no Authorization header, which is the token for the registry."""


class InvalidOrganizationName(RequestError):
    """A request is for an organization that nothing can be called."""


class OMPSExpectedFileError(RequestError):
    """The request brings no file."""


class RequestEntityTooLarge(RequestError):
    """The request has a larger body than is taken."""


class RequestTimeout(RequestError):
    """The body of the request did not arrive in time."""


class InvalidIdempotencyKey(RequestError):
    """The header Idempotency-Key of a request is none that can be used."""


class RequestAbandoned(RequestError):
    """Whoever sent the request went away before what it asks for was begun."""


class ServiceBusy(RequestError):
    """More requests wait already than the service keeps."""

    transient = True


class ServiceStopping(RequestError):
    """The service stopped before the request was finished; what came of it is not known."""


class BrokerError(WorkerError):
    """RabbitMQ."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached, or went away."""

    transient = True


class BrokerBlocked(BrokerError):
    """The broker takes no messages, as it is short of memory or disk."""

    transient = True


class BrokerRefused(BrokerError):
    """The broker refuses: the login, a queue with other arguments, an exchange that is missing."""


class OrganizationPaused(WorkerError):
    """The key ``pause`` of the mapping names the organization. Waited for without end."""

    transient = True
    counts = False
    reason = "paused"
    gives_up = False


class BuildHeld(WorkerError):
    """The key ``hold`` of the mapping names the build."""


class PackageBusy(WorkerError):
    """Somebody else was pushing to the package for as long as this work could wait."""

    transient = True
    counts = False


class PoisonMessage(WorkerError):
    """Workers died again and again while they had this message, and nothing else, in hand. ``deaths``: how often."""

    deaths = 0


class RegistryReplacementError(WorkerError):
    """Regular expressions of ``replace_registry`` take more than they may with the manifests of this build.

    Only another expression mends it, or another build; so trying again does not help.
    """


class StorageError(WorkerError):
    """This machine could not keep a file for the time of the work, a full disk most of the time, or begin a process."""

    transient = True

    @classmethod
    def wrap(cls, error: OSError) -> StorageError:
        """A StorageError for ``error``, a failure among the temporary files; without the path."""
        return cls(f"Temporary files could not be written where TMPDIR points: {why(error)}.")


class ResourcesExhausted(WorkerError):
    """This machine, or the container, gives no more threads, memory or open files; the work is not at fault."""

    transient = True

    @classmethod
    def of_threads(cls) -> ResourcesExhausted:
        """There are no more threads."""
        return cls(
            "No further thread can be started here: give more (pids of the container, TasksMax of the unit, "
            "ulimit -u), or run less beside it."
        )

    @classmethod
    def meant_by(cls, exception: BaseException) -> ResourcesExhausted | None:
        """What ``exception`` says if it says that something is exhausted, None otherwise."""
        if isinstance(exception, MemoryError):
            return cls("There is no more memory here: give more, or lower concurrency or the limits of archives.")
        if isinstance(exception, RuntimeError) and str(exception) == _NO_THREAD:
            return cls.of_threads()
        if isinstance(exception, OSError) and exception.errno in (errno.EMFILE, errno.ENFILE):
            return cls("No further file can be opened here: raise the limit (LimitNOFILE of the unit, ulimit -n).")
        if isinstance(exception, OSError) and exception.errno in (errno.ENOMEM, errno.EAGAIN):
            return cls("This machine has no more memory or processes to give: give more, or run less beside it.")
        return None


class UnexpectedError(WorkerError):
    """An exception that nobody thought of; the message names its type only, as its text may hold anything."""

    @classmethod
    def wrap(cls, exception: BaseException) -> UnexpectedError:
        """An UnexpectedError for ``exception``, which ends with it; log its traceback before."""
        let_go(exception)
        kind = type(exception).__name__
        return cls(f"An unexpected {kind} interrupted the work; the log has its traceback.")


def unforeseen(exception: BaseException) -> WorkerError:
    """What to make of an ``exception`` that is none of ours; log the traceback where it is caught.

    A ResourcesExhausted or a StorageError where this machine is at fault, and an UnexpectedError otherwise.
    """
    known: WorkerError | None = ResourcesExhausted.meant_by(exception)
    if known is None and isinstance(exception, OSError) and exception.errno in NO_ROOM:
        known = StorageError.wrap(exception)
    if known is None:
        return UnexpectedError.wrap(exception)
    let_go(exception)
    return known
