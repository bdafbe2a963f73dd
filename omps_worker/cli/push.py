# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that do by hand what the worker does by itself, and undo it: push, push-zip, delete."""

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
    TRANSIENT,
    USAGE,
    Command,
    as_json,
    dry_run_option,
    exit_code_of,
    name_of,
    not_empty,
    readable_at_once,
    say,
    say_json,
    tell,
    with_site,
)
from omps_worker.common.names import organization_name_fault, repository_name_fault
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from pydantic import SecretStr

    from omps_worker.bootstrap import Site
    from omps_worker.common.model import Outcome
    from omps_worker.common.push_request import PushRequest
    from omps_worker.publishing.pending import PendingMessage


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """The worst of several: failed or skipped before transient before done."""
    from omps_worker.common.model import Status

    codes = {DONE}
    for outcome in outcomes:
        if outcome.status is Status.FAILED and outcome.error is not None:
            codes.add(exit_code_of(outcome.error))
        elif outcome.status is Status.SKIPPED:
            codes.add(FAILED)
    return next(code for code in (USAGE, FAILED, TRANSIENT, DONE) if code in codes)


def _version(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from omps_worker.destinations.app_registry import versions

    if value is None or versions.is_valid(value) or value in (versions.INCREMENT, versions.CSV):
        return value
    raise click.BadParameter(f"{value!r} is not three integers joined by dots, like 1.0.0; nor increment, nor csv.")


def _token(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> SecretStr | None:
    from omps_worker.configuration.settings.organizations import SecretFile, header_fault

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
    type=click.Path(path_type=Path),
    callback=_token,
    help='A file with the whole Authorization value, "basic …"; otherwise as the configuration says.',
)


def _wishes(command: Command) -> Command:
    """Adds the options that say what is to be pushed where; the command gets them as a Request."""

    def wished(**options: Any) -> Any:
        from omps_worker.common.push_request import PushRequest

        names = ("organization", "repository", "version", "new_release", "dry_run", "authorization")
        request = PushRequest(**{name: options.pop(name) for name in names})
        if request.authorization is not None and request.organization is None:
            raise click.UsageError("--token-file is for one organization: give --organization too.")
        return command(request=request, **options)

    wished.__name__, wished.__doc__ = command.__name__, command.__doc__
    wished.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        token_option,
        dry_run_option,
        click.option("--new-release", is_flag=True, help="Make a release even of unchanged or superseded content."),
        click.option(
            "--version",
            callback=_version,
            help="The version of the release; otherwise as the mapping says, or the next one.",
        ),
        click.option(
            "--repository", callback=name_of(repository_name_fault), help="The repository that the packageName must be."
        ),
        click.option(
            "--organization", callback=name_of(organization_name_fault), help="Push there, whatever the mapping says."
        ),
    ):
        wished = option(wished)
    return wished  # type: ignore[return-value]


@click.command()
@click.argument("nvr", callback=not_empty)
@_wishes
@click.option("--held", is_flag=True, help="Even if the mapping holds the build.")
@as_json
@with_site
def push(site: Site, nvr: str, request: PushRequest, held: bool, json_output: bool) -> None:
    """Publish one build now; without an organization the mapping decides where."""
    request = replace(request, held=held)
    _show(f"publishing {nvr}", lambda: site.push(nvr, request), json_output, request.dry_run)


@click.command("push-zip")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path), callback=readable_at_once
)
@_wishes
@as_json
@with_site
def push_zip(site: Site, file: Path, request: PushRequest, json_output: bool) -> None:
    """Publish an archive of operator manifests, a zip, now.

    Without an organization the mapping decides where, as for a build of which nothing is known.
    """
    _show(f"publishing {file}", lambda: site.push_archive(file, request), json_output, request.dry_run)


@click.command()
@click.argument("organization", callback=name_of(organization_name_fault))
@click.argument("repository", callback=name_of(repository_name_fault))
@click.argument("version", required=False)
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask first.")
@token_option
@as_json
@with_site
def delete(
    site: Site,
    organization: str,
    repository: str,
    version: str | None,
    dry_run: bool,
    yes: bool,
    authorization: SecretStr | None,
    json_output: bool,
) -> None:
    """Delete one release of a package, or all of them. The repository stays.

    Says before which messages may publish it again: those that wait for their next attempt, and parked ones.
    """
    from omps_worker.publishing.pending import warning_lines

    package = f"{organization}/{repository}"
    what = f"release {version} of {package}" if version else package
    needs_yes = not (dry_run or yes)
    if needs_yes and not sys.stdin.isatty():
        raise click.UsageError("Give --yes to delete where there is no terminal to ask on.")
    pending, unknown = _pending(site, organization, repository)
    for line in warning_lines(pending, package):
        tell(line)
    if unknown:
        tell(f"It is not known what else may publish {package} again: {unknown}")
    if needs_yes:
        question = f"Delete {what}?" if version else f"Delete all releases of {what}?"
        click.confirm(one_line(question), abort=True, err=True)

    def delete_now() -> tuple[list[Outcome], list[dict[str, Any]]]:
        outcomes, bodies = site.delete(organization, repository, version, authorization=authorization, dry_run=dry_run)
        more = {
            "pending": None if unknown and not pending else [one.as_json() for one in pending],
            "pending_unknown": unknown,
        }
        return outcomes, [{**body, **more} for body in bodies]

    _show(f"deleting {what}", delete_now, json_output, dry_run)


def _pending(site: Site, organization: str, repository: str) -> tuple[list[PendingMessage], str | None]:
    """What may publish the package again, and why that is not known, if so; what a look finds odd goes to stderr."""
    from omps_worker.cli.progress import Progress

    with Progress() as progress:
        progress.show("looking for messages about it")
        return site.pending(organization, repository, lambda text: tell(f"note: {text}"))


def _show(
    what: str, act: Callable[[], tuple[list[Outcome], list[dict[str, Any]]]], json_output: bool, dry_run: bool
) -> None:
    """Do it, show what came of it, and exit."""
    from omps_worker.cli.progress import Progress

    with Progress() as progress:
        progress.show(what)
        outcomes, bodies = act()
    if json_output:
        say_json(bodies)
    else:
        from omps_worker.messages.reporting import outcomes_table, warnings_of

        say(outcomes_table(outcomes, dry_run=dry_run))
        for warning in warnings_of(outcomes):
            say(f"warning: {one_line(warning)}")
        if dry_run:
            say("dry run: nothing was changed")
    sys.exit(exit_code(outcomes))
