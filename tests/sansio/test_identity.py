"""Who the client is: what is removed, what is believed, and how the backend is told."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config.specs import Limits
from stickyproxy.model import Peer, RequestHead
from stickyproxy.sansio.forwarding import forward_request, request_id_of
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.networks import NOBODY, Networks

PROXIES = Networks(["10.0.0.0/8", "2001:db8:ffff::/48"])
PROXY = Peer("10.0.0.1", 5000)
STRANGER = Peer("192.0.2.7", 5000)


def head_of(*fields: str, host: str = "example.org") -> RequestHead:
    lines = ["GET / HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return parse_request_head("\r\n".join(lines).encode("latin-1"), Limits())


def told(identity: Identity, *fields: str, host: str = "example.org") -> dict[str, str]:
    """What the backend is told, by lower-case names."""
    sent = forward_request(head_of(*fields, host=host), identity, hide=None, request_id=b"made")
    pairs = [line.split(": ", 1) for line in sent.decode("latin-1").split("\r\n")[1:-2]]
    names = [name.lower() for name, _ in pairs]
    assert len(set(names)) == len(names), "a field of ours is there twice"
    return {name.lower(): value for name, value in pairs}


# Networks


@pytest.mark.parametrize(
    ("cidr", "address", "expected"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::10.0.0.1", False),
        ("::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:0DB8:0:0::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "192.0.2.7", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "192.0.2.7", False),
        ("0.0.0.0/0", "unix", False),
        ("::/0", "", False),
        ("0.0.0.0/0", "192.0.2.7 ", False),
        ("0.0.0.0/0", "192.0.2.07", False),
    ],
)
def test_addresses_in_networks(cidr: str, address: str, expected: bool) -> None:
    """An address is in a network however it is written; what is no address is in none."""
    assert (address in Networks([cidr])) is expected


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "unix", "", "10.0.0"])
def test_bad_networks_are_refused(cidr: str) -> None:
    """A mistake in a list of networks is an error, not a hole."""
    with pytest.raises(ValueError):
        Networks([cidr])


def test_no_networks_hold_nobody() -> None:
    """By default nobody is trusted."""
    assert "127.0.0.1" not in NOBODY
    assert not NOBODY
    assert repr(Networks(["10.0.0.0/8", "::1"])) == "<Networks 10.0.0.0/8 ::1/128>"


# From anyone


@pytest.mark.parametrize(
    ("peer", "secure", "address", "node"),
    [
        ("192.0.2.7", False, "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", True, "192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", False, "2001:db8::7", '"[2001:db8::7]"'),
        ("::ffff:192.0.2.7", False, "192.0.2.7", "192.0.2.7"),
        ("fe80::7%eth0", False, "fe80::7", '"[fe80::7]"'),
    ],
)
def test_the_backend_is_told(peer: str, secure: bool, address: str, node: str) -> None:
    """The backend learns the client's address, scheme, host and port, by the old names and by RFC 7239."""
    identity = Identity(Peer(peer, 5000), 8080, secure)
    proto = "https" if secure else "http"
    assert told(identity) == {
        "host": "example.org",
        "x-forwarded-for": address,
        "x-forwarded-proto": proto,
        "x-forwarded-host": "example.org",
        "x-forwarded-port": "8080",
        "x-real-ip": address,
        "forwarded": f"for={node};host=example.org;proto={proto}",
        "x-request-id": "made",
        "via": "1.1 stickyproxy",
    }
    assert identity.client() == identity.client(head_of()) == address
    assert identity.secure() is identity.secure(head_of()) is secure


def test_a_client_on_a_unix_socket() -> None:
    """A client without an address is "unknown", and is not trusted by any network."""
    identity = Identity(Peer("unix", 0), 0, False, Networks(["0.0.0.0/0", "::/0"]))
    fields = told(identity, "X-Forwarded-For: 203.0.113.9")
    assert identity.client(head_of("X-Forwarded-For: 203.0.113.9")) == "unix"
    assert not identity.trusted
    assert fields["x-forwarded-for"] == "unknown"
    assert fields["forwarded"] == "for=unknown;host=example.org;proto=http"
    assert "x-real-ip" not in fields


@pytest.mark.parametrize(
    ("host", "quoted"),
    [
        ("example.org", "example.org"),
        ("example.org:81", '"example.org:81"'),
        ("[2001:db8::1]:81", '"[2001:db8::1]:81"'),
    ],
)
def test_host_is_quoted_in_forwarded_where_needed(host: str, quoted: str) -> None:
    """A host that is no token is quoted in Forwarded, and plain in X-Forwarded-Host."""
    fields = told(Identity(STRANGER, 80, False), host=host)
    assert fields["forwarded"] == f"for=192.0.2.7;host={quoted};proto=http"
    assert fields["x-forwarded-host"] == host


def test_the_next_request_names_another_host() -> None:
    """Each request of a connection is told with its own host."""
    identity = Identity(STRANGER, 80, False)
    assert [told(identity, host=host)["x-forwarded-host"] for host in ("a", "b", "b", "a")] == ["a", "b", "b", "a"]


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "x-forwarded-for", "X-FORWARDED-PROTO", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP",
     "Forwarded", "X_Forwarded_For", "X-Forwarded_For", "X-Forwarded-Ssl", "X-Forwarded-Prefix", "Client-IP",
     "True-Client-IP", "Front-End-Https", "CF-Connecting-IP", "X-Original-Forwarded-For", "X-Original-URL",
     "X-Rewrite-URL", "X-Forwarded-User", "Remote_User", "X-Remote-Addr", "X~Forwarded+For", "X.Request.Id"],
)  # fmt: skip
def test_what_a_stranger_says_is_removed(name: str) -> None:
    """Nobody but a trusted proxy can tell the backend who or where the client is."""
    identity = Identity(STRANGER, 80, False, PROXIES)
    assert told(identity, f"{name}: 203.0.113.66") == told(identity)
    assert identity.client(head_of(f"{name}: 203.0.113.66")) == "192.0.2.7"


# From a trusted peer


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.9,garbage,10.0.0.2", "10.0.0.2"),
        ("203.0.113.9, garbage", "10.0.0.1"),
        ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.9,", "10.0.0.1"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:DB8::9", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("2001:db8::9, 2001:db8:ffff::1", "2001:db8::9"),
        ("::ffff:203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
        ("203.0.113.9:_hidden", "203.0.113.9"),
        ("[2001:db8::9]:_p1", "2001:db8::9"),
        ("_hidden, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.9,,10.0.0.2", "10.0.0.2"),
        ("203.0.113.9;10.0.0.2", "10.0.0.1"),
        ("203.0.113.9\t,\t10.0.0.2", "203.0.113.9"),
        ("0xcb007109", "10.0.0.1"),
        ("3405803785", "10.0.0.1"),
        ("[203.0.113.9]", "203.0.113.9"),
        ("[2001:db8::9", "10.0.0.1"),
        ("2001:db8::9]:80", "10.0.0.1"),
        ("[fe80::9%25eth0]", "10.0.0.1"),
        ("203.0.113.999", "10.0.0.1"),
        ("203.0.113.09", "10.0.0.1"),
        ('"203.0.113.9"', "10.0.0.1"),
        ("unix", "10.0.0.1"),
        ("1" * 5000, "10.0.0.1"),
        (", ".join(["203.0.113.9"] + ["10.0.0.2"] * 100), "10.0.0.2"),
    ],
)
def test_the_client_behind_trusted_proxies(chain: str, client: str) -> None:
    """The client is the rightmost address that is no trusted proxy; garbage ends the walk."""
    identity = Identity(PROXY, 80, False, PROXIES)
    fields = told(identity, f"X-Forwarded-For: {chain}")
    assert identity.client(head_of(f"X-Forwarded-For: {chain}")) == client
    assert fields["x-real-ip"] == client
    assert fields["x-forwarded-for"] == f"{chain}, 10.0.0.1"


def test_several_lists_are_one() -> None:
    """X-Forwarded-For in several fields is one list, in their order."""
    identity = Identity(PROXY, 80, False, PROXIES)
    fields = ("X-Forwarded-For: 198.51.100.1", "X-Forwarded-For:", "x-forwarded-for: 203.0.113.9, 10.0.0.2")
    assert identity.client(head_of(*fields)) == "203.0.113.9"
    assert told(identity, *fields)["x-forwarded-for"] == "198.51.100.1, 203.0.113.9, 10.0.0.2, 10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "client", "chain", "written"),
    [
        ("for=203.0.113.9", "203.0.113.9", "203.0.113.9, ", "for=203.0.113.9"),
        (
            "For=203.0.113.9;Proto=https , FOR=10.0.0.2",
            *("203.0.113.9", "203.0.113.9, 10.0.0.2, ", "for=203.0.113.9;proto=https, for=10.0.0.2"),
        ),
        (
            'for="[2001:db8::9]:4711";by=_x, for=10.0.0.2',
            *("2001:db8::9", "2001:db8::9, 10.0.0.2, ", 'for="[2001:db8::9]:4711";by=_x, for=10.0.0.2'),
        ),
        (
            "for=[2001:db8::9]:_port;host=shop:81",
            *("2001:db8::9", "2001:db8::9, ", 'for="[2001:db8::9]:_port";host="shop:81"'),
        ),
        ('for="203.0.113.\\9"', "203.0.113.9", "203.0.113.9, ", "for=203.0.113.9"),
        ('for=203.0.113.9;x="a\\"b, for=\\\\"', "203.0.113.9", "203.0.113.9, ", 'for=203.0.113.9;x="a\\"b, for=\\\\"'),
        (
            "for=203.0.113.9,,;, for=10.0.0.2,",
            "203.0.113.9",
            "203.0.113.9, 10.0.0.2, ",
            "for=203.0.113.9, for=10.0.0.2",
        ),
        ("for=198.51.100.1, for=203.0.113.9", "203.0.113.9", "203.0.113.9, ", "for=198.51.100.1, for=203.0.113.9"),
        (
            "for=203.0.113.9, for=_hidden, for=10.0.0.2",
            *("10.0.0.2", "10.0.0.2, ", "for=203.0.113.9, for=_hidden, for=10.0.0.2"),
        ),
        ("for=unknown", "10.0.0.1", "", "for=unknown"),
        ("proto=https", "10.0.0.1", "", "proto=https"),
        ('for="203.0.113.9', "10.0.0.1", "", ""),
        ('for=", for="[2001:db8::9]"', "10.0.0.1", "", ""),
        ("for=203.0.113.9;for=203.0.113.10", "10.0.0.1", "", ""),
        ("203.0.113.9", "10.0.0.1", "", ""),
        ("for = 203.0.113.9", "10.0.0.1", "", ""),
        ("for=203.0.113.9" + ";" * 8200, "10.0.0.1", "", ""),
    ],
)
def test_the_client_by_forwarded(forwarded: str, client: str, chain: str, written: str) -> None:
    """Forwarded alone tells the client too; X-Forwarded-For is written from it. A broken one is dropped."""
    identity = Identity(PROXY, 80, False, PROXIES)
    own = "for=10.0.0.1;host=example.org;proto=http"
    fields = told(identity, f"Forwarded: {forwarded}")
    assert identity.client(head_of(f"Forwarded: {forwarded}")) == client
    assert fields["x-real-ip"] == client
    assert fields["x-forwarded-for"] == f"{chain}10.0.0.1"
    assert fields["forwarded"] == (f"{written}, {own}" if written else own)


def test_the_lists_do_not_contradict_each_other() -> None:
    """A Forwarded that came through a proxy which knows X-Forwarded-For only does not reach the backend."""
    identity = Identity(PROXY, 80, False, PROXIES)
    own = "for=10.0.0.1;host=example.org;proto=http"
    fields = told(identity, "X-Forwarded-For: 203.0.113.9, 10.0.0.2", "Forwarded: for=192.0.2.66;proto=https")
    assert fields["forwarded"] == f"for=203.0.113.9;host=example.org;proto=http, for=10.0.0.2, {own}"
    fields = told(identity, "X-Forwarded-For: unknown", "Forwarded: for=192.0.2.66")
    assert fields["forwarded"] == own


@pytest.mark.parametrize(
    ("fields", "sure"),
    [
        ([], True),
        (["X-Forwarded-Proto: https"], True),
        (["X-Forwarded-For: 203.0.113.9"], True),
        (["X-Forwarded-For: garbage, 203.0.113.9, 10.0.0.2"], True),
        (["X-Forwarded-For: 10.0.0.3, 10.0.0.2"], True),
        (["X-Forwarded-For: " + ", ".join(["10.0.0.2"] * 32)], True),
        (["X-Forwarded-For: " + ", ".join(["10.0.0.2"] * 33)], False),
        (["X-Forwarded-For: 203.0.113.9, garbage"], False),
        (["X-Forwarded-For: garbage, 10.0.0.2"], False),
        (["X-Forwarded-For: unknown"], False),
        (["X-Forwarded-For: 203.0.113.9", 'Forwarded: "'], True),
        (["Forwarded: for=203.0.113.9"], True),
        (["Forwarded: for=203.0.113.9, for=_hidden"], False),
        (["Forwarded: proto=https"], False),
        (['Forwarded: for=", for=203.0.113.9'], False),
        (["Forwarded: ,"], False),
    ],
)
def test_whether_the_client_is_known(fields: list[str], sure: bool) -> None:
    """Where a trusted proxy's word names nobody, rules about addresses get to know that."""
    assert Identity(PROXY, 80, False, PROXIES).sure(head_of(*fields)) is sure
    assert Identity(STRANGER, 80, False, PROXIES).sure(head_of(*fields))


def test_forwarded_is_written_from_the_old_names() -> None:
    """Where the proxy before us knows X-Forwarded-* only, Forwarded tells the believed part of the same."""
    fields = told(
        Identity(PROXY, 8080, False, PROXIES),
        "X-Forwarded-For: 198.51.100.66, 2001:db8::9, 10.0.0.2",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example:444",
    )
    assert fields["forwarded"] == (
        'for="[2001:db8::9]";host="shop.example:444";proto=https, for=10.0.0.2, '
        "for=10.0.0.1;host=example.org;proto=http"
    )


def test_scheme_and_host_by_forwarded() -> None:
    """Where the proxy before us knows Forwarded only, the old names tell what the client asked with."""
    identity = Identity(PROXY, 8080, False, PROXIES)
    sent = "Forwarded: for=203.0.113.9;proto=https;host=shop.example, for=10.0.0.2;proto=http;host=inner"
    fields = told(identity, sent)
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-host"] == "shop.example"
    assert fields["x-forwarded-port"] == "443"
    assert identity.secure(head_of(sent))


@pytest.mark.parametrize(
    ("sent", "proto", "secure"),
    [
        (["https"], "https", True),
        (["HTTPS"], "https", True),
        (["wss"], "wss", True),
        (["ws"], "ws", False),
        (["http"], "http", False),
        (["javascript"], "http", False),
        (["https, http"], "http", False),
        (["https", "https"], "http", False),
        ([""], "http", False),
    ],
)
def test_the_scheme_is_believed(sent: list[str], proto: str, secure: bool) -> None:
    """One known X-Forwarded-Proto of a trusted proxy is believed."""
    identity = Identity(PROXY, 8080, False, PROXIES)
    fields = [f"X-Forwarded-Proto: {value}" for value in sent]
    assert told(identity, *fields)["x-forwarded-proto"] == proto
    assert identity.secure(head_of(*fields)) is secure


@pytest.mark.parametrize(
    ("fields", "host", "expected"),
    [
        ([], "example.org", "8080"),
        (["X-Forwarded-Port: 444"], "example.org", "444"),
        (["X-Forwarded-Port: 99999"], "example.org", "8080"),
        (["X-Forwarded-Port: -1"], "example.org", "8080"),
        (["X-Forwarded-Port: 1", "X-Forwarded-Port: 2"], "example.org", "8080"),
        (["X-Forwarded-Proto: https"], "example.org", "443"),
        (["X-Forwarded-Proto: https"], "example.org:8443", "8443"),
        (["X-Forwarded-Proto: http"], "example.org", "80"),
        (["X-Forwarded-Host: shop.example:82"], "example.org", "82"),
        (["X-Forwarded-Host: shop.example"], "example.org", "80"),
        (["X-Forwarded-For: 203.0.113.9"], "example.org", "8080"),
    ],
)
def test_the_port_belongs_to_what_was_asked(fields: list[str], host: str, expected: str) -> None:
    """X-Forwarded-Port makes one URL with scheme and host: ours where the proxy before us tells neither."""
    assert told(Identity(PROXY, 8080, False, PROXIES), *fields, host=host)["x-forwarded-port"] == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["shop.example"], "shop.example"),
        (["shop.example:82"], "shop.example:82"),
        (["[2001:db8::1]:82"], "[2001:db8::1]:82"),
        (['a"b'], "example.org"),
        (["a, b"], "example.org"),
        (["a/b"], "example.org"),
        (["a", "b"], "example.org"),
    ],
)
def test_the_host_is_believed(sent: list[str], expected: str) -> None:
    """One well-formed X-Forwarded-Host of a trusted proxy is believed; Host itself stays as it came."""
    fields = told(Identity(PROXY, 8080, False, PROXIES), *[f"X-Forwarded-Host: {value}" for value in sent])
    assert fields["x-forwarded-host"] == expected
    assert fields["host"] == "example.org"


def test_other_fields_of_a_trusted_proxy_pass() -> None:
    """What a trusted proxy tells beside our fields reaches the backend; its X-Real-IP is replaced by what is proven."""
    sent = (
        "X-Forwarded-Prefix: /shop",
        "X-Real-IP: 203.0.113.66",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded_Ssl: on",
    )
    fields = told(Identity(PROXY, 8080, False, PROXIES), *sent)
    assert fields["x-forwarded-prefix"] == "/shop"
    assert fields["x-real-ip"] == "203.0.113.9"
    assert "x-forwarded_ssl" not in fields


def test_requests_of_a_trusted_connection_are_told_apart() -> None:
    """A proxy serves many clients over one connection: each request has its own."""
    identity = Identity(PROXY, 80, False, PROXIES)
    heads = [head_of(f"X-Forwarded-For: 203.0.113.{number}") for number in (1, 2, 1)]
    assert [identity.client(head) for head in [*heads, head_of()]] == [
        "203.0.113.1", "203.0.113.2", "203.0.113.1", "10.0.0.1",
    ]  # fmt: skip


TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
NODE = st.ip_addresses().map(str) | st.sampled_from(
    ["10.0.0.2", "unknown", "[::1]:80", "1.2.3.4:5", '"', "for=", ";", ","]
)
LISTS = (
    TEXT | st.lists(NODE, max_size=6).map(", ".join) | st.lists(NODE, max_size=6).map(lambda n: ",for=".join(["", *n]))
)


@given(LISTS, LISTS, LISTS, LISTS)
def test_whatever_a_trusted_proxy_sends(chain: str, forwarded: str, host: str, proto: str) -> None:
    """The client is an address whatever was sent, and our element stands readable at the end of both lists."""
    identity = Identity(PROXY, 80, False, PROXIES)
    sent = (
        f"X-Forwarded-For: {chain}", f"Forwarded: {forwarded}", f"X-Forwarded-Host: {host}",
        f"X-Forwarded-Proto: {proto}",
    )  # fmt: skip
    fields = told(identity, *sent)
    client = identity.client(head_of(*sent))
    assert str(ip_address(client)) == client == fields["x-real-ip"]
    assert fields["x-forwarded-for"].rpartition(",")[2].strip() == "10.0.0.1"
    assert fields["x-forwarded-proto"] in {"http", "https", "ws", "wss"}
    assert re.fullmatch(r"[A-Za-z0-9._~%:\[\]-]+", fields["x-forwarded-host"])
    pairs = r"""(?:[!#$%&'*+.^_`|~\w-]+=(?:"(?:[^"\\]|\\.)*"|[^\s",;\\]+))?"""
    assert re.fullmatch(
        rf"(?:{pairs}[ \t]*[;,][ \t]*)*for=10\.0\.0\.1;host=example\.org;proto=http", fields["forwarded"]
    )


SPELLINGS = st.sampled_from(
    [b"X-Forwarded-For", b"x-forwarded-for", b"X_Forwarded_For", b"X-Forwarded_For", b"X.Forwarded.For", b"Forwarded",
     b"FORWARDED", b"X-Real-IP", b"X~Real-Ip", b"X-Real_IP", b"X-Request-ID", b"X_REQUEST_ID", b"X-Forwarded-Host",
     b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Forwarded-Ssl", b"True-Client-IP", b"X-Original-URL",
     b"X-Forwarded-User", b"x+forwarded-proto", b"Remote_User"]
)  # fmt: skip
VALUES = st.binary(max_size=50).map(lambda data: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", data)) | LISTS.map(
    lambda text: text.encode("latin-1")
)


def head_with(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    return parse_request_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n%b\r\n" % lines, Limits())


@given(st.lists(st.tuples(SPELLINGS, VALUES), max_size=6))
def test_whatever_a_stranger_sends(fields: list[tuple[bytes, bytes]]) -> None:
    """Not one byte of what a stranger says of himself reaches the backend, and he stays who he is."""
    head, nothing = head_with(fields), head_with([])
    identity = Identity(STRANGER, 80, False, PROXIES)
    assert request_id_of(head, identity, b"made") == b"made"
    assert forward_request(head, identity, None, b"made") == forward_request(nothing, identity, None, b"made")
    assert (identity.client(head), identity.secure(head), identity.sure(head)) == ("192.0.2.7", False, True)


@given(st.lists(VALUES, max_size=4), st.booleans())
def test_whatever_a_stranger_sends_through_a_proxy(values: list[bytes], old: bool) -> None:
    """Behind a proxy that appends who its client is, nobody becomes another; the most he can be is not known."""
    name, proof = (b"X-Forwarded-For", b"203.0.113.9") if old else (b"Forwarded", b"for=203.0.113.9")
    head = head_with([(name, b", ".join([*values, proof]))])
    identity = Identity(PROXY, 80, False, PROXIES)
    if old:
        assert (identity.client(head), identity.sure(head)) == ("203.0.113.9", True)
    else:
        assert (identity.client(head), identity.sure(head)) in (("203.0.113.9", True), ("10.0.0.1", False))
