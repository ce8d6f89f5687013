"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all; its folder is made.

    Raises:
        OSError: If it cannot be written; a file that was there stays.
    """
    path = path.resolve()  # what a link points to is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files private
        os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        # of the file that was meant, not of the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        os.unlink(name)
        raise


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to make the file or folder that is to take the place of `path`.

    It does so at the end, and not at all after an error.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = pathlib.Path(folder) / f"made{path.suffix}"
            yield made
            if path.is_dir():
                shutil.rmtree(path)
            made.replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(error.errno, why, str(path)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
