# SPDX-License-Identifier: GPL-3.0-or-later
"""Periodic checks of every catalog: whether its image registry answers and accepts the login.

A check reads the list of tags of the catalog, which an update does not disturb, and changes nothing. A catalog that
does not exist yet is well: the first push makes it. Some registries (Quay) refuse to say whether a repository exists;
then the account is checked by itself, and the catalog is well unless it could be read before.

Because registries count refused logins, a refused one is tried again only when it is another, or after ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omps_worker.common.errors import CatalogAuthorizationError, CatalogError, WorkerError
from omps_worker.common.text import one_line
from omps_worker.monitoring.destination_probes import LOGIN_SECONDS, DestinationProbes
from omps_worker.monitoring.health import ANSWER_SECONDS

if TYPE_CHECKING:
    from omps_worker.configuration.settings.catalogs import CatalogSettings
    from omps_worker.configuration.settings.models import WorkerSettings
    from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
    from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient

MOST_CALLS = 3
"""The most calls that a check takes: the list of tags, and an account at the registries of the catalog and bundles."""

LOOKUP_SECONDS = 30.0
"""How long looking up the name of a registry may take in addition, which has no timeout.

Meanwhile nothing new is known of other catalogs, but they stay as they were.
"""


@dataclass(frozen=True, slots=True)
class _Denial:
    """What is not asked again for a while: about a login that was not accepted, or a repository that is hidden.

    ``trouble`` is why the login was not accepted; None if it was, but the repository is hidden.
    """

    login: tuple[Credentials | None, ...]
    at: float
    trouble: str | None


class CatalogProbes(DestinationProbes):
    """Checks ``catalogs`` in turn, and knows what is wrong with each; see DestinationProbes.

    ``client_of`` returns the client with which a catalog is checked. ``needed`` returns the names of the catalogs that
    the mapping publishes to. ``clock`` returns seconds.
    """

    def __init__(
        self,
        catalogs: Mapping[str, CatalogSettings],
        client_of: Callable[[CatalogSettings], ImageRegistryClient],
        needed: Callable[[], Collection[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        patience = MOST_CALLS * ANSWER_SECONDS + LOOKUP_SECONDS
        super().__init__("catalog", catalogs, needed, patience=patience, clock=clock)
        self._catalogs = dict(catalogs)
        self._clients = {name: client_of(catalog) for name, catalog in catalogs.items()}
        self._denials: dict[str, _Denial] = {}
        self._shown: set[str] = set()

    @classmethod
    def of(cls, worker: WorkerSettings, seconds: float, needed: Callable[[], Collection[str]]) -> CatalogProbes:
        """Return the checks of a site's catalogs, which wait ``seconds`` for each answer.

        They share no connections and no tokens with the clients that do the work.
        """

        def client_of(catalog: CatalogSettings) -> ImageRegistryClient:
            # Importing it takes time that a site without catalogs need not spend.
            from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient

            timeout = min(seconds, catalog.timeout)
            return ImageRegistryClient(catalog.credentials, timeout=timeout, ca_bundle=worker.ca_bundle)

        return cls(worker.catalogs, client_of, needed)

    @staticmethod
    def nothing_publishable(message: str) -> CatalogError:
        """Return the error that says so."""
        return CatalogError(message, transient=True)

    def _trouble(self, name: str) -> str | None:
        try:
            return self._check(name)
        except WorkerError as error:
            return one_line(error.message)

    def _check(self, name: str) -> str | None:
        from omps_worker.destinations.catalog import access_checks

        catalog, client, now = self._catalogs[name], self._clients[name], self._clock()
        login = tuple(catalog.credentials(each) for each in access_checks.registries(catalog))
        denial = self._denials.get(name)
        if denial is not None and (denial.login != login or now - denial.at >= LOGIN_SECONDS):
            denial = None
        if denial is not None and denial.trouble is not None:
            return denial.trouble
        denied = None
        if denial is None:
            try:
                access_checks.check_repository(client, catalog)
                self._shown.add(name)
            except CatalogAuthorizationError as error:
                # Nobody can make a repository without a login, and one that was there does not hide by itself.
                if name in self._shown or login[0] is None:
                    denied = one_line(error.message)
                else:
                    denial = _Denial(login, now, None)
        try:
            access_checks.check_accounts(client, catalog, read=denied is None and denial is None)
        except CatalogAuthorizationError as error:
            denial = _Denial(login, now, one_line(error.message))
        if denial is None:
            self._denials.pop(name, None)
            return denied
        self._denials[name] = denial
        return denial.trouble
