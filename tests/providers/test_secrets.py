"""A carrier's key is in its header and nowhere else: not in what is printed, raised, kept or written down."""

from __future__ import annotations

import logging
import pickle
import traceback
from typing import Any

import pytest
from cryptography.fernet import Fernet

from providers import credentials
from providers.adapters import get_adapter_class, kinds
from providers.contract import PollFailed, ProviderError
from providers.credentials import CredentialUnreadable
from providers.models import Channel, Credential, add_credential
from providers.routing import load_routes
from providers.transport import NotSent, ReplyLost, Transport
from tests.providers.exchanges import CREDENTIAL, call, play
from tests.providers.upstream import Upstream, hang_up, say, say_json, stop_halfway
from tests.shop import open_channel

ECHO = {"error": {"code": "invalid_api_key", "message": f"no such key: {CREDENTIAL}"}, "authorization": CREDENTIAL}
REPLIES: dict[str, dict[str, Any]] = {
    "an echo": {"status": 401, "json": ECHO},
    "an echo in a success": {"status": 200, "json": ECHO},
    "an echo in a page": {"status": 502, "text": f"<html>{CREDENTIAL}</html>"},
    "an echo in a header": {"status": 302, "text": "", "headers": {"Location": f"https://a.example/?key={CREDENTIAL}"}},
    "a broken connection": {"fault": "hang_up_always"},
    "half an answer": {"fault": "stop_halfway"},
    "no answer": {"fault": "refuse"},
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("kind", kinds())
async def test_no_error_holds_the_key(kind: str, reply: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """With all that caused it, as it would be logged."""
    caplog.set_level(logging.DEBUG)
    outcome, _ = await play(kind, {"call": "submit", "reply": reply})
    assert isinstance(outcome, ProviderError | PollFailed)
    logging.getLogger("test").error("it broke", exc_info=outcome)
    said = "".join(traceback.format_exception(outcome)) + repr(outcome) + repr(vars(outcome)) + caplog.text
    assert CREDENTIAL not in said
    assert CREDENTIAL[:-4] not in said


@pytest.mark.parametrize("credential", ["sk-a\r\nX-Evil: 1-0123456789", "sk-钥匙-0123456789", "sk-\0-0123456789"])
@pytest.mark.parametrize("kind", kinds())
async def test_a_key_that_no_header_can_carry_is_not_shown_either(kind: str, credential: str) -> None:
    async with Upstream(say()) as upstream:
        client = Transport(allow=[upstream.pair])
        adapter = get_adapter_class(kind)(client, credential=credential, base_url=upstream.url, options=None)
        with pytest.raises(ProviderError) as failed:
            await call(adapter, {"call": "submit"})
        await client.aclose()
        assert upstream.received == []
    said = "".join(traceback.format_exception(failed.value))
    assert credential not in said
    assert "0123456789" not in said


@pytest.mark.parametrize("answer", [say_json(ECHO, status=401), hang_up, stop_halfway], ids=["echo", "closed", "half"])
async def test_no_error_of_the_transport_holds_a_header(answer: Any) -> None:
    async with Upstream(answer) as upstream:
        client = Transport(allow=[upstream.pair])
        headers = {"Authorization": f"Bearer {CREDENTIAL}"}
        try:
            reply = await client.post(upstream.url, headers=headers, json={}, read_timeout=5)
            said = repr(client)
            assert reply.status == 401
        except (NotSent, ReplyLost) as error:
            said = "".join(traceback.format_exception(error))
        await client.aclose()
    assert CREDENTIAL not in said


@pytest.mark.parametrize("kind", kinds())
def test_an_adapter_does_not_show_its_key(kind: str) -> None:
    adapter = get_adapter_class(kind)(Transport(), credential=CREDENTIAL, base_url="https://a.example", options=None)
    assert CREDENTIAL not in f"{adapter!r} {adapter} {adapter!a}"


def test_rows_and_routes_show_four_characters(db: None) -> None:
    channel = open_channel("https://a.example", "dashscope_sync", {"qwen-image-max": 1})
    credential = add_credential(channel, CREDENTIAL)
    routes = load_routes()
    shown = f"{credential!r} {credential} {channel!r} {routes!r}"
    assert CREDENTIAL not in shown
    assert credential.ciphertext not in shown
    assert str(credential) == "…cdef"
    assert CREDENTIAL.encode() not in pickle.dumps(list(Credential.objects.values()))
    assert CREDENTIAL not in str(list(Channel.history.values()))


def test_a_key_that_cannot_be_opened_shows_nothing(db: None, settings: Any) -> None:
    channel = open_channel("https://a.example", "dashscope_sync", {})
    credential = add_credential(channel, CREDENTIAL)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CredentialUnreadable) as failed:
        credential.reveal()
    said = "".join(traceback.format_exception(failed.value)) + repr(failed.value)
    assert (CREDENTIAL in said, credential.ciphertext in said, failed.value.__cause__) == (False, False, None)


def test_the_first_of_many_encryption_keys_encrypts_and_all_decrypt(settings: Any) -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [first]
    old = credentials.encrypt(CREDENTIAL)
    settings.CREDENTIAL_KEYS = [second, first]
    new = credentials.encrypt(CREDENTIAL)
    assert (credentials.decrypt(old), credentials.decrypt(new)) == (CREDENTIAL, CREDENTIAL)
    settings.CREDENTIAL_KEYS = [second]
    assert credentials.decrypt(new) == CREDENTIAL
    with pytest.raises(CredentialUnreadable):
        credentials.decrypt(old)
    with pytest.raises(CredentialUnreadable):
        credentials.decrypt("")
