# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of errors.

::

    WorkerError
    ├── SettingsError                    the configuration is invalid; lists every fault
    │   └── MappingError                 the mapping file is invalid
    ├── MessageError                     a message cannot be decoded, or names no build
    ├── ContentError                     the content of the build is at fault
    │   ├── OMPSUploadedFileError        the archive
    │   ├── PackageValidationError       the manifests
    │   └── OMPSInvalidVersionFormat     the version that they or the mapping request
    ├── BuildSystemError                 Koji's answer, or a missing answer
    │   ├── KojiNVRBuildNotFound         (transient if a message says that the build exists)
    │   ├── KojiBuildMismatch            a message and Koji disagree about which build it is
    │   ├── KojiNotAnOperatorImage
    │   ├── KojiManifestsArchiveNotFound
    │   └── KojiError                    Koji cannot be reached, or lags behind (transient)
    ├── GatingError                      Greenwave's answer about a build
    │   ├── GreenwaveUnsatisfiedError    the build has not passed its gates (transient during `patience`)
    │   └── GreenwaveError               Greenwave cannot be reached, or its answer is invalid (transient)
    ├── RegistryError                    the app registry's answer
    │   ├── QuayAuthorizationError       a token, or its permissions (transient)
    │   ├── QuayCourierError             a push failed
    │   ├── QuayPackageError             querying a package, deleting from it or making it public failed
    │   └── QuayPackageNotFound
    ├── ImageRegistryError               the image registry's answer, or the catalog in it
    │   ├── CatalogError                 the registry cannot be reached, or refuses (most are transient)
    │   ├── CatalogAuthorizationError    credentials, or their permissions (transient)
    │   ├── CatalogConflict              another program changed the catalog meanwhile (transient)
    │   ├── CatalogPackageNotFound       the catalog does not have the package, or the bundle
    │   └── CatalogNotOurs               the image is not a catalog of omps-worker, or the package is damaged
    ├── RequestError                     a request to the REST API
    │   ├── OMPSAuthorizationHeaderRequired
    │   ├── InvalidOrganizationName      the name is not a valid name of an organization
    │   ├── OMPSExpectedFileError
    │   ├── RequestEntityTooLarge
    │   ├── RequestTimeout               the body did not arrive in time
    │   ├── InvalidIdempotencyKey
    │   ├── RequestAbandoned             the client has disconnected
    │   ├── ServiceBusy                  too many requests are waiting (transient)
    │   └── ServiceStopping
    ├── BrokerError                      RabbitMQ
    │   ├── BrokerUnavailable            the broker cannot be reached (transient)
    │   ├── BrokerBlocked                the broker accepts no messages, because of an alarm (transient)
    │   └── BrokerRefused                the broker refuses the login, a queue or an exchange
    ├── OrganizationPaused               the mapping pauses the organization (transient)
    ├── BuildHeld                        the mapping holds the build
    ├── PackageBusy                      another push to the package is under way (transient)
    ├── PoisonMessage                    the message makes workers die
    ├── RegistryReplacementError         replace_registry needs too much time or memory with these manifests
    ├── StorageError                     the local disk (transient)
    ├── ResourcesExhausted               no more threads, processes, memory or open files (transient)
    └── UnexpectedError                  an unexpected error; its traceback is in the log

Where OMPS had the error, it keeps OMPS's name, so that clients and dashboards written for OMPS
keep working. ``transient`` of an error says whether a retry can help.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from omps_worker.common.error_base import MESSAGE_LIMIT as MESSAGE_LIMIT
from omps_worker.common.error_base import WorkerError as WorkerError
from omps_worker.common.error_details import system_reason
from omps_worker.common.faults import Fault as Fault
from omps_worker.common.image_registry_errors import CatalogAuthorizationError as CatalogAuthorizationError
from omps_worker.common.image_registry_errors import CatalogConflict as CatalogConflict
from omps_worker.common.image_registry_errors import CatalogError as CatalogError
from omps_worker.common.image_registry_errors import CatalogNotOurs as CatalogNotOurs
from omps_worker.common.image_registry_errors import CatalogPackageNotFound as CatalogPackageNotFound
from omps_worker.common.image_registry_errors import ImageRegistryError as ImageRegistryError
from omps_worker.common.tracebacks import drop_tracebacks

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""The error numbers of a disk that cannot be written to."""

_NO_THREAD = "can't start new thread"
"""The text of the RuntimeError that Python raises if the system refuses a new thread."""


class SettingsError(WorkerError):
    """The configuration is invalid. ``faults`` has every fault, not only the first.

    Transient if it is raised during the work on a build: a secret or an organization may be available at the next
    attempt.
    """

    def __init__(self, faults: Sequence[Fault], *, transient: bool = False) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults), transient=transient)


class MappingError(SettingsError):
    """The mapping file is invalid."""


class MessageError(WorkerError):
    """A message cannot be decoded, or reports a complete build without naming it."""


class ContentError(WorkerError):
    """The content of a build is at fault: only another build can fix it."""


class OMPSUploadedFileError(ContentError):
    """The archive is not a zip, is damaged, encrypted or too large, or has members that are refused."""


class PackageValidationError(ContentError):
    """The app registry does not accept such manifests, or a catalog would not be valid with them.

    ``details["validation_info"]`` holds operator-courier's result, ``{errors, warnings}``. It is empty if there is no
    result.
    """


class OMPSInvalidVersionFormat(ContentError):
    """A version is not three dot-separated integers without leading zeros."""


class BuildSystemError(WorkerError):
    """Koji's answer is the problem, or there is no answer."""


class KojiNVRBuildNotFound(BuildSystemError):
    """Koji has no such build. Transient if a message says that the build exists."""


class KojiBuildMismatch(BuildSystemError):
    """A message has the id of one build and the name of another: it is about no build of this Koji."""


class KojiNotAnOperatorImage(BuildSystemError):
    """The build exists, but is not an operator image or is not complete."""


class KojiManifestsArchiveNotFound(BuildSystemError):
    """The build claims to have an archive of manifests, but Koji has no archive of that name.

    Or it is a bundle build for a catalog, and Koji does not name its image by a digest.
    """


class KojiError(BuildSystemError):
    """Koji cannot be reached, its answer is invalid, or it does not have data yet that it must have.

    ``lacking``: the hub does not have the call or its argument, so it can never answer. ``absent``: the file server
    does not have a file that the hub lists. ``insisted``: the worker has already waited and asked again. ``refused``:
    the hub rejected the call. ``misplaced``: something else is at the place of the file.
    """

    transient = True
    lacking = refused = misplaced = False
    absent = False
    insisted = False


class GatingError(WorkerError):
    """Greenwave's answer is the problem; ``details["greenwave_response"]`` holds it, or {} if there is none."""


class GreenwaveUnsatisfiedError(GatingError):
    """The build has not passed its gates; tests may still be running."""


class GreenwaveError(GatingError):
    """Greenwave cannot be reached, or its answer is not a decision."""

    transient = True


class RegistryError(WorkerError):
    """The app registry's answer is the problem; ``details["quay_response"]`` holds it as JSON."""


class QuayAuthorizationError(RegistryError):
    """The registry does not permit the operation with these credentials.

    Transient: once the token is renewed or has the permission, the same work succeeds. A token that was read while its
    file was being written causes this error, too.
    """

    transient = True


class QuayCourierError(RegistryError):
    """The registry did not accept a release.

    ``conflict``: it already has that version. ``ambiguous``: it may have accepted the release nevertheless, so query it
    before pushing again. ``pending``: it may still accept the release later.
    """

    conflict = False
    ambiguous = False
    pending = False


class QuayPackageError(RegistryError):
    """Querying a package, making it public or deleting from it failed."""


class QuayPackageNotFound(RegistryError):
    """The package, or this release of it, does not exist."""


class RequestError(WorkerError):
    """A request that cannot be served as it is: the client must change it."""


class OMPSAuthorizationHeaderRequired(RequestError):
    """The request has no Authorization header, which is the token for the registry."""


class InvalidOrganizationName(RequestError):
    """The organization in a request is not a valid name of an organization."""


class OMPSExpectedFileError(RequestError):
    """The request contains no file."""


class RequestEntityTooLarge(RequestError):
    """The body of the request is too large."""


class RequestTimeout(RequestError):
    """The body of the request did not arrive in time."""


class InvalidIdempotencyKey(RequestError):
    """The header Idempotency-Key of a request is invalid."""


class RequestAbandoned(RequestError):
    """The client disconnected before the work for its request was begun."""


class ServiceBusy(RequestError):
    """Too many requests are already waiting."""

    transient = True


class ServiceStopping(RequestError):
    """The service stopped before the request was finished; its outcome is not known."""


class BrokerError(WorkerError):
    """RabbitMQ is the problem."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached, or the connection to it was lost."""

    transient = True


class BrokerBlocked(BrokerError):
    """The broker accepts no messages, because it is short of memory or disk space."""

    transient = True


class BrokerRefused(BrokerError):
    """The broker refuses the login, a queue that has other arguments, or a missing exchange."""


class OrganizationPaused(WorkerError):
    """The key ``pause`` of the mapping names the organization or catalog. Retried without a time limit."""

    transient = True
    counts = False
    reason = "paused"
    gives_up = False


class BuildHeld(WorkerError):
    """The key ``hold`` of the mapping names the build."""


class PackageBusy(WorkerError):
    """Another push to the package was under way for as long as this work could wait."""

    transient = True
    counts = False


class PoisonMessage(WorkerError):
    """Workers died repeatedly while this message alone was in flight. ``deaths``: how often."""

    deaths = 0


class RegistryReplacementError(WorkerError):
    """The regular expressions of ``replace_registry`` need too much time or memory with the manifests of this build.

    Retrying does not help: only another expression or another build can fix it.
    """


class StorageError(WorkerError):
    """A temporary file could not be written (usually because the disk is full), or a process could not be started."""

    transient = True

    @classmethod
    def wrap(cls, error: OSError) -> StorageError:
        """Return a StorageError for ``error``, which occurred with temporary files. It does not name the path."""
        return cls(f"Temporary files could not be written where TMPDIR points: {system_reason(error)}.")


class ResourcesExhausted(WorkerError):
    """The machine or the container has no more threads, memory or open files; the work is not at fault."""

    transient = True

    @classmethod
    def of_threads(cls) -> ResourcesExhausted:
        """Return the error for a thread that could not be started."""
        return cls(
            "No further thread can be started: raise the limit (pids of the container, TasksMax of the unit, "
            "ulimit -u), or run fewer other programs."
        )

    @classmethod
    def meant_by(cls, exception: BaseException) -> ResourcesExhausted | None:
        """Return the ResourcesExhausted that ``exception`` stands for, or None if it has another cause."""
        if isinstance(exception, MemoryError):
            return cls("There is no more memory: provide more, or lower concurrency or the limits of archives.")
        if isinstance(exception, RuntimeError) and str(exception) == _NO_THREAD:
            return cls.of_threads()
        if isinstance(exception, OSError) and exception.errno in (errno.EMFILE, errno.ENFILE):
            return cls("No further file can be opened: raise the limit (LimitNOFILE of the unit, ulimit -n).")
        if isinstance(exception, OSError) and exception.errno in (errno.ENOMEM, errno.EAGAIN):
            return cls("This machine has no more memory or processes: raise the limits, or run fewer other programs.")
        return None


class UnexpectedError(WorkerError):
    """An unexpected exception. The message contains only its type, because its text may contain anything."""

    @classmethod
    def wrap(cls, exception: BaseException) -> UnexpectedError:
        """Return an UnexpectedError for ``exception`` and drop its traceback; log the traceback before."""
        drop_tracebacks(exception)
        kind = type(exception).__name__
        return cls(f"An unexpected {kind} interrupted the work; the log has its traceback.")


def unexpected_error(exception: BaseException) -> WorkerError:
    """Return the WorkerError for an ``exception`` that is not one; log the traceback where it is caught.

    It is a ResourcesExhausted or a StorageError if the machine is at fault, and an UnexpectedError otherwise.
    """
    known: WorkerError | None = ResourcesExhausted.meant_by(exception)
    if known is None and isinstance(exception, OSError) and exception.errno in NO_ROOM:
        known = StorageError.wrap(exception)
    if known is None:
        return UnexpectedError.wrap(exception)
    drop_tracebacks(exception)
    return known
