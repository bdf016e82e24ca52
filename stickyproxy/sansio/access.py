"""Which addresses may come in. Floor 2, pure.

The most specific network that holds an address decides, whatever the order in which they are written: with
``allow = ["10.0.0.0/8"]`` and ``deny = ["10.6.0.0/16"]``, 10.6.0.1 stays out and 10.7.0.1 comes in. (nginx and HAProxy
take the first that matches.) What is in none of them comes in if nothing is allowed by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from stickyproxy.sansio.networks import address_of, network_of

_BITS = {4: 32, 6: 128}


class AccessList:
    """``admits(address)`` for ``allow`` and ``deny``, networks as text. ValueError for what is none, or is in both.

    What is no address, as the ``"unix"`` of a Unix socket, is in no network. A look-up costs the same for any number
    of networks, and nothing worth mentioning for an address that was asked for before.
    """

    __slots__ = ("_default", "_levels", "admits")

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        verdicts = dict.fromkeys(map(network_of, deny), False)
        for network in map(network_of, allow):
            if verdicts.get(network) is False:
                raise ValueError(f"{network} is allowed and denied")
            verdicts[network] = True
        self._default = not allow
        # By version and length of the prefix, longest first: the verdicts by the prefixes.
        levels: dict[tuple[int, int], dict[int, bool]] = {}
        for network, verdict in verdicts.items():
            shift = _BITS[network.version] - network.prefixlen
            levels.setdefault((network.version, shift), {})[int(network.network_address) >> shift] = verdict
        self._levels = sorted(levels.items())
        self.admits = lru_cache(maxsize=4096)(self._admits)

    def _admits(self, address: str) -> bool:
        """Whether ``address``, an IP address as text, may come in."""
        parsed = address_of(address)
        if parsed is not None:
            number, version = int(parsed), parsed.version
            for (of, shift), prefixes in self._levels:
                if of == version:
                    verdict = prefixes.get(number >> shift)
                    if verdict is not None:
                        return verdict
        return self._default
