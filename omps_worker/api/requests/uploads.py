# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiving an uploaded file, with limits on size and time that apply while it arrives.

The file is not kept in memory: it is written to a private temporary directory piece by piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from typing import IO
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from omps_worker.common import machine
from omps_worker.common.errors import (
    OMPSExpectedFileError,
    OMPSUploadedFileError,
    RequestEntityTooLarge,
    RequestTimeout,
    StorageError,
)
from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.model import UploadedArchive
from omps_worker.manifests.uploaded_archive import base_name

log = logging.getLogger(__name__)

FIELD = "file"
"""The field of the form that contains the archive."""

EXTENSION = ".zip"

_PARAMETERS = re.compile(rb';[ \t]*([^ \t=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)', re.DOTALL)
"""Matches the parameters of a header, but nothing inside a quoted string."""

_CHARSETS = {b"utf-8": "utf-8", b"iso-8859-1": "latin-1"}
"""The character sets of RFC 5987."""

PARTS = 100
"""The maximum number of parts of a form; OMPS's clients send one."""


class Upload:
    """A received file, on disk until ``close``."""

    def __init__(self) -> None:
        self._directory = ScratchDirectory()
        self.path = self._directory.path / "upload.zip"
        """The path of the file."""
        self.archive = UploadedArchive("", "")
        """The file name that the client sent, and the checksum; set when the upload is complete."""

    def close(self) -> None:
        """Delete the file."""
        self._directory.remove()


def check_length(announced: str | None, max_bytes: int) -> None:
    """Raise RequestEntityTooLarge if the Content-Length announces more than ``max_bytes``."""
    if announced is not None and announced.isascii() and announced.isdigit() and _larger(announced, max_bytes):
        raise _too_large(max_bytes)


def _larger(announced: str, max_bytes: int) -> bool:
    # int() refuses a number with thousands of digits.
    return len(announced) > 20 or int(announced) > max_bytes


def extended_name(disposition: bytes) -> str | None:
    """Return the ``filename*`` of a Content-Disposition (RFC 5987, RFC 6266); None if it is missing or unreadable.

    The form parser ignores it. OMPS did not, and clients use it for names that are not ASCII.
    """
    for key, value in _PARAMETERS.findall(disposition):
        charset, *more = value.strip(b' \t"').split(b"'", 2)
        if key.lower() == b"filename*" and len(more) == len(("language", "value")):
            with contextlib.suppress(LookupError):
                return unquote_to_bytes(more[1]).decode(_CHARSETS[charset.lower()], "replace")
    return None


async def receive(content_type: str | None, body: AsyncIterator[bytes], *, max_bytes: int, seconds: float) -> Upload:
    """Return the file in a multipart form; the caller must close it.

    Raises OMPSExpectedFileError, OMPSUploadedFileError (wrong extension), RequestEntityTooLarge if the body has more
    than ``max_bytes``, RequestTimeout if it takes more than ``seconds``, and StorageError.
    """
    try:
        upload = Upload()
        try:
            with upload.path.open("wb") as file:
                form = _Form(content_type, file)
                await asyncio.wait_for(_read(body, form, max_bytes), seconds)
            upload.archive = form.check()
        except BaseException:
            upload.close()
            raise
    except asyncio.TimeoutError:
        raise RequestTimeout(f"The request's body did not arrive within {seconds:g} seconds.") from None
    except FormParserError:
        raise OMPSExpectedFileError(f'No field "{FIELD}": the body is not a multipart form.') from None
    except OSError as error:
        machine.log_failure(log, error, "an upload could not be stored", stored=True)
        raise StorageError.wrap(error) from error
    return upload


async def _read(body: AsyncIterator[bytes], form: _Form, max_bytes: int) -> None:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        form.feed(piece)


def _too_large(max_bytes: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The request is larger than the limit of {max_bytes} bytes.")


class _Form:
    """Parses a multipart form, and stores the first file in the field FIELD."""

    def __init__(self, content_type: str | None, file: IO[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise OMPSExpectedFileError(f'No field "{FIELD}": the request is not multipart/form-data.')
        self._file = file
        self._parts = 0
        self._header = self._disposition = b""
        self._value = b""
        self._wanted = self._found = self._complete = False
        self._name = ""
        self._digest = hashlib.sha256()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_header,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._check_headers,
                "on_part_data": self._store,
                "on_part_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Parse the next piece. Raises FormParserError, OMPSExpectedFileError, OMPSUploadedFileError."""
        self._parser.write(piece)

    def check(self) -> UploadedArchive:
        """Return the name and the checksum of the file. Raises OMPSExpectedFileError if it is missing or incomplete."""
        if not self._found:
            raise OMPSExpectedFileError(f'No field "{FIELD}"')
        if not self._complete:
            raise OMPSExpectedFileError(f'The field "{FIELD}" is cut off: the form has no end.')
        return UploadedArchive(self._name, self._digest.hexdigest())

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS:
            raise OMPSExpectedFileError(f"The form has more than {PARTS} parts.")
        self._disposition = b""

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _check_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = extended_name(self._disposition)
        if name is None and b"filename" in options:
            name = options[b"filename"].decode("utf-8", "replace")
        has_field_name = options.get(b"name") == FIELD.encode() and not self._found
        if has_field_name and name is None and b"filename*" in self._disposition.lower():
            raise OMPSExpectedFileError(f'The name of the file in the field "{FIELD}" cannot be read (RFC 5987).')
        self._wanted = has_field_name and name is not None
        if name is None or not self._wanted:
            return
        self._found = True
        if not name:
            raise OMPSExpectedFileError(f'No selected "{FIELD}"')
        if not name.lower().endswith(EXTENSION):
            raise OMPSUploadedFileError(f"The name of the uploaded file does not end with {EXTENSION}.")
        self._name = base_name(name)

    def _store(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            piece = data[start:end]
            self._digest.update(piece)
            self._file.write(piece)

    def _end(self) -> None:
        if self._wanted:
            self._complete, self._wanted = True, False
