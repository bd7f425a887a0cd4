"""The open net, as far as a test can have one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_socket
from yarl import URL

from providers import egress, transport
from providers.egress import Guard, Reach
from tests.providers.names import PUBLIC

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


class AnyPort(Guard):
    """The guard of the product, for servers that can have neither port 443 nor a certificate."""

    def judge(self, url: URL, *, stranger: bool = False) -> Reach:
        usual = (url.raw_host, url.port) not in self._allowance.pairs
        return super().judge(url.with_scheme("https").with_port(443) if usual else url, stranger=stranger)

    def check(self, reach: Reach, address: str, port: int) -> None:
        super().check(reach, address, 443)


@pytest.fixture
def open_net(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One address counts as public, and every port as that of https; everything else is as it is."""
    real = egress.is_public
    pytest_socket.socket_allow_hosts([PUBLIC, *LOOPBACK], allow_unix_socket=True)
    for module in (egress, transport):
        monkeypatch.setattr(module, "is_public", lambda address: address == PUBLIC or real(address))
    monkeypatch.setattr(transport, "Guard", AnyPort)
    yield
    pytest_socket.socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
