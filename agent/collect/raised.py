"""What a collector raised, in words for the person who wrote it: the error, and where in the code it was.

Promise: nothing here raises, and no value of a variable is in what it returns; the error's own words are.
"""

from __future__ import annotations

import os
import traceback

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def words(error: BaseException) -> str:
    """Return the kind of an error and its words, and the last line outside of Limpet that it went through, if any."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(_OWN)]
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def whole(error: BaseException) -> str:
    """Return the traceback."""
    return "".join(traceback.format_exception(error))
