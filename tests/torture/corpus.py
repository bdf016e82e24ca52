"""All cases of requests, by the table that they stand in: ``REQUESTS[subject]``."""

from __future__ import annotations

import requests_attacks
import requests_chunks
import requests_coding
import requests_fields
import requests_hops
import requests_host
import requests_length
import requests_line
from cases import Case

REQUESTS: dict[str, tuple[Case, ...]] = {
    "line": requests_line.CASES,
    "fields": requests_fields.CASES,
    "host": requests_host.CASES,
    "length": requests_length.CASES,
    "coding": requests_coding.CASES,
    "chunks": requests_chunks.CASES,
    "hops": requests_hops.CASES,
    "attacks": requests_attacks.CASES,
}
