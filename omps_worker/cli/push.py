# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that publish and delete by hand: ``push``, ``push-zip`` and ``delete``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omps_worker.cli.common import (
    DONE,
    FAILED,
    SHOWN,
    TRANSIENT,
    USAGE,
    Command,
    as_json,
    dry_run_option,
    exit_code_of,
    no_named_pipe,
    not_empty,
    print_json,
    print_lines,
    print_to_stderr,
    valid_name,
    with_site,
)
from omps_worker.common.names import (
    catalog_name_fault,
    organization_name_fault,
    package_name_fault,
    repository_name_fault,
)
from omps_worker.common.text import one_line, printable

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.bootstrap import Site
    from omps_worker.common.model import Outcome, Target
    from omps_worker.common.push_request import PushRequest
    from omps_worker.publishing.pending import PendingMessage


_REQUEST = (
    "organization",
    "catalog",
    "repository",
    "version",
    "new_release",
    "new_catalog",
    "dry_run",
    "authorization",
)
"""The options that ``push`` and ``push-zip`` share, which are fields of a PushRequest."""


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code of several outcomes: usage before failed or skipped before transient before done."""
    from omps_worker.common.model import Status

    codes = {DONE}
    for outcome in outcomes:
        if outcome.status is Status.FAILED and outcome.error is not None:
            codes.add(exit_code_of(outcome.error))
        elif outcome.status is Status.SKIPPED:
            codes.add(FAILED)
    return next(code for code in (USAGE, FAILED, TRANSIENT, DONE) if code in codes)


def _version(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from omps_worker.destinations import versions

    if value is None or versions.is_valid(value) or value in (versions.INCREMENT, versions.CSV):
        return value
    raise click.BadParameter(f"{value!r} is not a version: three integers joined by dots (1.0.0), increment or csv.")


def _token(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> SecretStr | None:
    from omps_worker.configuration.settings.secrets import SecretFile, header_fault

    if value is None:
        return None
    file = SecretFile(value, header_fault, "--token-file")
    token = file.value_or_none()
    if token is None:
        raise click.BadParameter(f"{value} {file.fault}.")
    return token


token_option = click.option(
    "--token-file",
    "authorization",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_token,
    help='File with the whole Authorization value, "basic …". Default: the credentials in the configuration.',
)


def _push_options(command: Command) -> Command:
    """Add the options that ``push`` and ``push-zip`` share; the command gets them as ``request``, a PushRequest."""

    def wrapper(**options: Any) -> Any:
        from omps_worker.common.push_request import PushRequest

        request = PushRequest(**{name: options.pop(name) for name in _REQUEST})
        if request.organization is not None and request.catalog is not None:
            raise click.UsageError("--organization and --catalog exclude each other: push to one after the other.")
        if request.new_catalog and request.catalog is None:
            raise click.UsageError("--new-catalog applies to one catalog: give --catalog as well.")
        if request.authorization is not None and request.organization is None:
            raise click.UsageError("--token-file applies to one organization: give --organization as well.")
        if request.version is not None and request.catalog is not None:
            raise click.UsageError("--version is for organizations: the version of a bundle is that of its CSV.")
        if request.repository is not None and request.catalog is not None:
            _checked(request.repository, package_name_fault)
        return command(request=request, **options)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        token_option,
        dry_run_option,
        click.option(
            "--new-catalog",
            is_flag=True,
            help="Make a new catalog if the image there was not written by omps-worker. "
            "What it holds is no longer at the tag.",
        ),
        click.option(
            "--new-release",
            is_flag=True,
            help="Make a new release even if the content is already released or superseded.",
        ),
        click.option(
            "--version",
            callback=_version,
            metavar="VERSION",
            help="Version of the release: 1.2.3, increment or csv. Default: as the mapping says, or increment.",
        ),
        click.option(
            "--repository",
            metavar="NAME",
            callback=valid_name(repository_name_fault),
            help="The repository: the packageName in the manifests. Fail if that is a different name.",
        ),
        click.option(
            "--catalog",
            metavar="NAME",
            callback=valid_name(catalog_name_fault),
            help="Publish to this catalog, whatever the mapping says.",
        ),
        click.option(
            "--organization",
            metavar="NAME",
            callback=valid_name(organization_name_fault),
            help="Push to this organization, whatever the mapping says.",
        ),
    ):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]


@click.command()
@click.argument("nvr", callback=not_empty)
@_push_options
@click.option("--held", is_flag=True, help="Publish the build even if the mapping holds it.")
@as_json
@with_site
def push(site: Site, nvr: str, request: PushRequest, held: bool, json_output: bool) -> None:
    """Publish a build now.

    Does what the worker would do on receiving the build's message. Without --organization and --catalog, the mapping
    decides where the build goes.
    """
    request = replace(request, held=held)
    _show(f"publishing {nvr}", lambda: site.push(nvr, request), json_output, request.dry_run)


@click.command("push-zip")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path), callback=no_named_pipe
)
@_push_options
@as_json
@with_site
def push_zip(site: Site, file: Path, request: PushRequest, json_output: bool) -> None:
    """Publish a zip archive of operator manifests now.

    Nothing is known about its build, so without --organization or --catalog only a rule with `match: {}` can decide
    where it goes.
    """
    _show(f"publishing {file}", lambda: site.push_archive(file, request), json_output, request.dry_run)


@click.command()
@click.argument("organization", required=False, metavar="ORGANIZATION")
@click.argument("repository", required=False, metavar="REPOSITORY")
@click.argument("version", required=False)
@click.option(
    "--catalog",
    metavar="NAME",
    callback=valid_name(catalog_name_fault),
    help="Delete from this catalog. The arguments are then PACKAGE [VERSION].",
)
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation. Required without a terminal.")
@token_option
@as_json
@with_site
def delete(
    site: Site,
    organization: str | None,
    repository: str | None,
    version: str | None,
    catalog: str | None,
    dry_run: bool,
    yes: bool,
    authorization: SecretStr | None,
    json_output: bool,
) -> None:
    """Delete one release of a repository, or all of them.

    The repository stays. With --catalog, take one bundle, or the whole package, out of a catalog; the images stay.
    Before it asks for confirmation, the command lists the messages that may publish the package again: those that are
    waiting for a retry, and parked ones.
    """
    from omps_worker.publishing.pending import warning_lines

    target, version = _to_delete(organization, repository, version, catalog, authorization)
    site.check_configured(target.organization, target.catalog, authorization)
    package, things = target.label, "releases" if catalog is None else "bundles"
    what = f"{'release' if catalog is None else 'version'} {version} of {package}" if version else package
    needs_yes = not (dry_run or yes)
    if needs_yes and not sys.stdin.isatty():
        raise click.UsageError(f"This deletes {things}: --yes is required without a terminal.")
    pending, unknown = _pending(site, target)
    for line in warning_lines(pending, target):
        print_to_stderr(line)
    if unknown:
        print_to_stderr(f"Not all messages that may publish {package} again are known: {unknown}")
    if needs_yes:
        question = f"Delete {what}?" if version else f"Delete all {things} of {what}?"
        click.confirm(one_line(question), abort=True, err=True)

    def delete_now() -> tuple[list[Outcome], list[dict[str, Any]]]:
        outcomes, bodies = site.delete(target, version, authorization=authorization, dry_run=dry_run)
        more = {
            "pending": None if unknown and not pending else [one.as_json() for one in pending],
            "pending_unknown": unknown,
        }
        return outcomes, [{**body, **more} for body in bodies]

    _show(f"deleting {what}", delete_now, json_output, dry_run)


def _to_delete(
    first: str | None, second: str | None, third: str | None, catalog: str | None, authorization: SecretStr | None
) -> tuple[Target, str | None]:
    """Return the package that the arguments of ``delete`` mean, and the version or None. Raises click.UsageError."""
    from omps_worker.common.model import Target

    if catalog is not None and (first is None or third is not None):
        problem = "Missing argument 'PACKAGE'" if first is None else "Too many arguments"
        raise click.UsageError(f"{problem}: with --catalog, the arguments are PACKAGE [VERSION].")
    if first is None or (second is None and catalog is None):
        missing = "ORGANIZATION" if first is None else "REPOSITORY"
        raise click.UsageError(
            f"Missing argument '{missing}'. With --catalog NAME, the arguments are PACKAGE [VERSION]."
        )
    version = third if catalog is None else second
    if version is not None and not version.strip():
        raise click.UsageError("The version must not be empty. Without it, all versions are deleted.")
    if catalog is None:
        organization, repository = (
            _checked(first, organization_name_fault),
            _checked(second or "", repository_name_fault),
        )
        return Target(organization, repository), version
    if authorization is not None:
        raise click.UsageError("--token-file applies to an organization.")
    return Target(None, _checked(first, package_name_fault), catalog=catalog), version


def _checked(name: str, fault: Callable[[str], str | None]) -> str:
    name = name.strip()
    if not name:
        raise click.UsageError("A name must not be empty.")
    if reason := fault(name):
        raise click.UsageError(f"{printable(name, SHOWN)} {reason}.")
    return name


def _pending(site: Site, target: Target) -> tuple[list[PendingMessage], str | None]:
    """Return the messages that may publish the package again, and why not all of them are known, or None.

    Notes about the search go to standard error.
    """
    from omps_worker.cli.progress import Progress

    with Progress() as progress:
        progress.show("searching for messages that may publish it again")
        return site.pending(target, lambda text: print_to_stderr(f"note: {text}"))


def _show(
    activity: str, action: Callable[[], tuple[list[Outcome], list[dict[str, Any]]]], json_output: bool, dry_run: bool
) -> None:
    """Run ``action`` while ``activity`` is shown as its progress, print the outcomes, and exit with their code."""
    from omps_worker.cli.progress import Progress

    with Progress() as progress:
        progress.show(activity)
        outcomes, bodies = action()
    if json_output:
        print_json(bodies)
    else:
        from omps_worker.messages.reporting import outcomes_table, warnings_of

        print_lines(outcomes_table(outcomes, dry_run=dry_run))
        for warning in warnings_of(outcomes):
            print_lines(f"warning: {one_line(warning)}")
        if dry_run:
            print_lines("dry run: nothing was changed")
    sys.exit(exit_code(outcomes))
