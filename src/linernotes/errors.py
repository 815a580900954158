"""What linernotes says when it cannot go on: one plain sentence that names the file, the value and the
remedy.
"""


class LinernotesError(Exception):
    """The job could not be done (exit code 1). The message is the whole answer a user sees."""


class MissingError(LinernotesError):
    """Something that could have been made before has not been made."""


class UsageError(LinernotesError):
    """What was asked for makes no sense (exit code 2)."""


class LinernotesWarning(UserWarning):
    """The job was done without something. The message says without what, why, and the remedy."""
