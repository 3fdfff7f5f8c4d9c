"""The error for input that a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Input refused; the message names the offending value and the remedy, in one line.

    The command line prints the message and leaves with exit code 2; from Python it is an ordinary
    `ValueError`.
    """


class BadDocumentError(InputError):
    """A stored document that fits no model of its kind; readers of many leave it out and name it."""


class LeftOutWarning(UserWarning, InputError):  # noqa: N818 - a warning, unless warnings are errors
    """Says which documents of a store were left out, and why; where warnings are errors it is an `InputError`."""


class BusyError(InputError):
    """What another process holds at this moment; the same call may succeed a little later."""
