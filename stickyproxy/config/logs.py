"""Access logs and traces: ``access_log`` and ``trace``, at the top and of frontends. Floor 2.

Sizes are bytes (int), None is "unlimited" or absent.
"""

from __future__ import annotations

from typing import Annotated, Any

import attrs

from stickyproxy.config.mistakes import instead
from stickyproxy.config.units import (
    Count,
    Kind,
    Place,
    Shorthand,
    between,
    expect_filled,
    expect_text,
    found,
    read_path,
    read_size,
    told,
    write_size,
)
from stickyproxy.sansio.loglines import COLUMNS, pieces, reader_of
from stickyproxy.sansio.masking import SECRETS

FORMAT = '"combined", "json", or a format such as "{time} {client} {status} {target}"'
#: A smaller file would be gone before anyone has read it, and rotating would be all that is done.
LEAST = 64 * 1024


def _path(value: object, place: Place) -> str:
    return "-" if value == "-" else str(read_path(value, place))


def _format(value: object, _: Place) -> str:
    form = expect_text(value, FORMAT)
    if form in ("combined", "json"):
        return form
    names = [name for _, name in pieces(form)][:-1]
    if not names:
        raise ValueError(f"expected {FORMAT}; {instead(form, ('combined', 'json'))}")
    for name in names:
        try:
            reader_of(name)
        except KeyError:
            known = [*COLUMNS, "field:NAME"]
            raise ValueError(f'there is no placeholder "{{{name}}}"; {instead(name, known)}') from None
    return form


def _size(value: object, _: Place) -> int:
    size = read_size(value)
    if size < LEAST:
        raise ValueError(f"expected {write_size(LEAST)} or more, found {write_size(size)}")
    return size


def _parameter(value: object, _: Place) -> str:
    return expect_filled(value, "the name of a parameter")


@attrs.frozen
class AccessLog:
    """A line for each request and each tunnel: see [logs](logging.md).

    `access_log = true` is this table with every default, a path is one with that `path`, and `false` is no log. Of a
    frontend, it stands in place of the one at the top as a whole.
    """

    path: Annotated[str, Kind('a path, or "-"', _path)] = attrs.field(
        default="-",
        metadata=told(
            "Where the lines go; `-` is standard output.", "HAProxy `log`, nginx `access_log`, Envoy `access_log`"
        ),
    )
    format: Annotated[str, Kind(FORMAT, _format)] = attrs.field(
        default="combined",
        metadata=told(
            "What a line is like; see [formats](logging.md#formats).",
            "HAProxy `log-format`, nginx `log_format`, Envoy `log_format`",
        ),
    )
    sample: Annotated[float, between(0, 1, 0.01)] = attrs.field(
        default=1.0,
        metadata=told(
            "The share of requests that are logged. Always are: answers of 500 and more, what was not served where it "
            "was bound, upgrades, and tunnels.",
            "nginx `access_log … if=`, Envoy `runtime_filter`",
        ),
    )
    size: Annotated[int | None, Kind("a size of 64KiB or more", _size, write_size)] = attrs.field(
        default=None,
        metadata=told(
            "The file is rotated when it is as large: it becomes `path.1`, that `path.2` … Absent: it is not."
        ),
    )
    keep: Count = attrs.field(default=5, metadata=told("How many files are kept beside `path`. Needs `size`."))
    mask_query: tuple[Annotated[str, Kind("the name of a parameter", _parameter)], ...] = attrs.field(
        default=SECRETS,
        metadata=told(
            "Parameters whose values are `***` in targets and referers, in place of "
            "these; see [secrets](logging.md#secrets)."
        ),
    )
    opens: bool = attrs.field(
        default=False, metadata=told("A line for a TCP connection when it has reached a backend, too. TCP only.")
    )


def _log_table(value: Any) -> dict[str, Any] | None:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str):
        return {"path": value}
    if not isinstance(value, dict):
        raise ValueError(f"expected true, false, a path or a table, found {found(value)}")
    return value


#: What ``access_log`` may be; None: no log.
Log = Annotated[AccessLog | None, Shorthand("true (standard output), false, a path or a table", AccessLog, _log_table)]
