"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: If it cannot be written; a file that was there stays.
    """
    with replacing(path) as made, open(made, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to make the file or folder that is to take the place of `path`.

    It does so at the end, and not at all after an error. A folder takes the
    place of a folder, but a file does not. The folder it is in is made.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    path = path.resolve()  # what a link points to is replaced, not the link
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            why = os.strerror(errno.ENOTDIR)
            raise NotADirectoryError(errno.ENOTDIR, why) from error
        # by its name it can be told what a killed process has left
        prefix = f"{path.name[:50]}.part-"
        with tempfile.TemporaryDirectory("", prefix, path.parent) as folder:
            made = pathlib.Path(folder) / f"made{path.suffix}"
            yield made
            if made.is_dir() and path.is_dir():
                shutil.rmtree(path)
            made.replace(path)
    except OSError as error:
        # of the file that was meant, not of the temporary one
        why = error.strerror or str(error)
        raise OSError(error.errno, why, str(path)) from error
