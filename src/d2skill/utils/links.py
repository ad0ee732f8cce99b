"""Links in folders of others: by none of them does anything that is written go to another place.

A received run folder may have a link under any name that is written there. `refuse_links` looks through it when it is
opened; `open_unlinked` and `open_new` are for files beside one that was named alone, and for those that come early.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import IO

from d2skill.errors import RunError

_ONLY_MADE = "debug-core.log"  # a link into the user's cache that wandb makes, and never writes to


def refuse_links(folder: Path) -> None:
    """Raises `RunError` if a link in a folder leads out of it; the folder itself may be named by a link."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for name in (*folders, *files):
            if name != _ONLY_MADE:
                refuse_link(Path(place, name), folder)


def refuse_link(path: Path, folder: Path) -> None:
    """Raises `RunError` if a path in a folder is a link that leads out of it."""
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise RunError(
            f"{path} is a link that leads out of the run folder, so that what is written there would change other "
            "files: remove it, or put what it leads to in its place"
        )


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # another process may remove a folder just now
        raise RunError(f"{error.filename} cannot be read ({error.strerror}): allow it, or remove that folder")


def open_unlinked(path: str | Path, flags: int) -> int:
    """Opens a file as an `opener` of `open`; raises `OSError` for a link."""
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, and links are not followed here: remove it", str(path))
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def open_new(path: Path) -> IO[bytes]:
    """Makes a new file and opens it, in place of what was left there."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def remove_folder(path: Path) -> None:
    """Removes a folder if it is there; of a link to one only the link."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
