"""What linernotes says when it cannot go on: one plain sentence that names the file, the value and the
remedy.
"""

import errno


class LinernotesError(Exception):
    """The job could not be done (exit code 1). The message is the whole answer a user sees."""


class MissingError(LinernotesError):
    """Something that could have been made before has not been made."""


class DamagedError(LinernotesError):
    """A file is there and cannot be read."""


class UsageError(LinernotesError):
    """What was asked for makes no sense (exit code 2)."""


def memory_is_full(error: BaseException) -> bool:
    """Whether that is what an error is about: of Python and NumPy, of the system, of torch."""
    said = str(error).lower()
    by_words = any(words in said for words in ("out of memory", "can't allocate memory"))  # torch's
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or by_words


class LinernotesWarning(UserWarning):
    """The job was done without something. The message says without what, why, and the remedy."""
