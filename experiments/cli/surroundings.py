"""What a command finds around it: closed or narrow streams, a full disk, places that may not be written.

Nothing of it is the user's mistake in typing, nor a bug: it ends in one line and exit code 1.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.runs.signals import HANGUP, stop_request

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and start again"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "name a place that you may write, or get the right"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files, as ulimit -n 1024"),
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EIO: "the disk or the network does not answer as it should",
}


def prepare_streams() -> None:
    """Replace closed streams by the null device, and let the others print `?` for symbols that they do not have.

    A closed descriptor has to be taken: else the next file to be opened would become the output of this process.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            if null != descriptor:
                os.dup2(null, descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a test or a notebook has put another
            stream.reconfigure(errors="replace")


@contextmanager
def environment_errors_in_one_line() -> Iterator[None]:
    """Inside the block, an error of the surroundings becomes one line on stderr and exit code 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has left, as head does
        drop_output(1)
        sys.exit(1)
    except OSError as error:
        if stop_request.number == HANGUP:  # the terminal is gone: writing to it is an I/O error
            drop_output(1, 2)
            sys.exit(stop_request.exit_code)
        if error.errno not in REMEDIES:
            raise
        drop_output(1)
        place = f"{error.filename}: " if error.filename else ""
        _exit(f"{place}{error.strerror}; {REMEDIES[error.errno]}")
    except MemoryError:
        _exit("there is not enough memory; choose less data, a smaller model, or another machine")
    except UnicodeEncodeError as error:
        symbols = ascii(error.object[error.start : error.end])
        _exit(f"{symbols} cannot be written in this locale ({error.encoding}); start it with PYTHONUTF8=1")


def drop_output(*descriptors: int) -> None:
    """Send what is left of the output to the null device: else Python complains once more at its end."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _exit(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
