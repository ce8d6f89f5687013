"""Files that are whole or not there."""

from __future__ import annotations

import os
import pathlib
import tempfile


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
