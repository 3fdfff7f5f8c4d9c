"""What went wrong with a database, in words that hold nothing of its own message: that may quote a password."""

from __future__ import annotations

from pymongo.errors import ConfigurationError, DocumentTooLarge, OperationFailure, PyMongoError

_UNAUTHORIZED = {13, 18, 8000}  # MongoDB's codes for what wrong credentials or a read-only user meet
_TOO_LARGE = {10334, 17419, 17420}
DUPLICATE = 11000


def reason(error: PyMongoError | OSError) -> str:
    """Say what went wrong and what to do, without a word of the driver's own message."""
    numbers = codes(error)
    if isinstance(error, OSError):
        return f"cannot be written ({error.strerror}): make room or name another; nothing of this update is kept"
    if isinstance(error, DocumentTooLarge) or numbers & _TOO_LARGE:
        return "takes no document above MongoDB's 16 MB: it was not written, make it smaller"
    if numbers & _UNAUTHORIZED:
        return "refuses this user: check credentials and role in the settings"
    if isinstance(error, OperationFailure):
        return f"failed with MongoDB's error code {min(numbers)}: look it up in the server's log"
    if isinstance(error, ConfigurationError):
        return f"cannot be opened with its settings ({type(error).__name__}): check the uri and the options"
    return f"is not reachable ({type(error).__name__}): check host, port and network"


def codes(error: PyMongoError | OSError) -> set[int]:
    """Return MongoDB's error codes, those of the single writes of a batch instead of the batch's where given."""
    if not isinstance(error, OperationFailure):
        return set()
    writes = {int(failure["code"]) for failure in (error.details or {}).get("writeErrors", ())}
    return writes or {error.code or 0}
