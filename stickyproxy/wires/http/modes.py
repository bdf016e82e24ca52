"""What the bytes of a client are: the states of its connection. Floor 4.

HEAD → BODY → ANSWER → HEAD … for requests with content, HEAD → ANSWER → HEAD … without; from ANSWER to TUNNEL by a 101;
to LINGER from HEAD when nothing more is wanted, from BODY and ANSWER by the last answer; to CLOSED from everywhere.
"""

from __future__ import annotations

import enum

#: Seconds of silence after which a client that has the last answer of its connection is let go of.
QUIET = 5.0
#: Seconds after an answer, or the accept, in which the client's next request is still awaited when a connection drains:
#: it may be on its way, and to close upon it would be its failure.
LAST_CALL = 1.0


class Mode(enum.Enum):
    """What the client's bytes are."""

    HEAD = "head"  # a request's head, or nothing yet
    BODY = "body"  # the body of the request that is being exchanged
    ANSWER = "answer"  # the next requests: this one is whole, its answer is not
    TUNNEL = "tunnel"  # the relay's
    LINGER = "linger"  # thrown away: the last answer is written
    CLOSED = "closed"
