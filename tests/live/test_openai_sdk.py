"""The official OpenAI SDK, unmodified, against the production server process."""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Iterator
from io import BytesIO

import openai
import pytest
from PIL import Image

from billing.keys import revoke_key
from billing.models import Account, ApiKey
from providers.models import Channel
from tests.books import count_rows, read_violations
from tests.server import RunningServer
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

MODELS = ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"]


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@pytest.fixture
def client(server: RunningServer, customer: Customer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=customer.secret, max_retries=0) as sdk:
        yield sdk


def open_picture(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        return picture.format, picture.size


def download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["Content-Type"] == "image/png"
        return response.read()


def test_every_model_gives_a_url_and_base64(client: openai.OpenAI) -> None:
    for model in MODELS:
        by_url = client.images.generate(model=model, prompt="A cat 猫", size="1024x1024", response_format="url")
        assert by_url.data is not None
        assert len(by_url.data) == 1
        url = by_url.data[0].url
        assert url is not None
        assert open_picture(download(url)) == ("PNG", (1024, 1024))
        inline = client.images.generate(model=model, prompt="A cat 猫", size="1024x1024", response_format="b64_json")
        assert inline.data is not None
        assert open_picture(base64.b64decode(inline.data[0].b64_json or "")) == ("PNG", (1024, 1024))
    assert count_rows() == {"generations": 8, "attempts": 8, "images": 8, "charges": 8, "held": 0}
    assert Account.objects.get(name="alice").balance_micros == 100_000_000 - 2 * 1_400_000
    assert read_violations() == []


def test_four_at_once(client: openai.OpenAI, simulator: RunningSimulator) -> None:
    answer = client.images.generate(
        model="qwen-image-2.0", prompt="cats", n=4, size="512x512", extra_body={"seed": 7, "negative_prompt": "dogs"}
    )
    assert answer.data is not None
    assert len({item.url for item in answer.data}) == 4
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 4, "charges": 4, "held": 0}
    fanned = client.images.generate(model="qwen-image-max", prompt="cats", n=4, response_format="b64_json")
    assert fanned.data is not None
    assert len(fanned.data) == 4
    assert count_rows() == {"generations": 2, "attempts": 5, "images": 8, "charges": 8, "held": 0}
    assert simulator.totals()["submissions"] == 5
    assert read_violations() == []


async def test_the_async_client(server: RunningServer, customer: Customer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=customer.secret, max_retries=0) as sdk:
        answer = await sdk.images.generate(model="qwen-image-2.0", prompt="a cat", n=2, size="512x512")
        assert answer.data is not None
        assert len(answer.data) == 2
        models = await sdk.models.list()
        assert sorted(model.id for model in models.data) == sorted(MODELS)
        assert (await sdk.models.retrieve("qwen-image-max")).id == "qwen-image-max"


def test_each_error_class(client: openai.OpenAI, server: RunningServer, customer: Customer) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(model="qwen-image-max", prompt="a cat", size="256x256")
    assert (bad.value.code, bad.value.param, bad.value.type) == ("invalid_value", "size", "invalid_request_error")
    assert (bad.value.request_id or "").startswith("req_")
    with pytest.raises(openai.BadRequestError) as moderated:
        client.images.generate(model="qwen-image-max", prompt="a cat [[sim: moderation_input]]")
    assert moderated.value.code == "moderation_blocked"
    assert (moderated.value.request_id or "").startswith("gen_")
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(model="qwen-image-edit-2509", prompt="a cat")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="sk-cr-nobody").images.generate(model="qwen-image-max", prompt="a cat")
    assert stranger.value.code == "invalid_api_key"
    with pytest.raises(openai.InternalServerError) as broken:
        client.images.generate(model="qwen-image-max", prompt="a cat [[sim: html status=502]]")
    assert (broken.value.status_code, broken.value.code) == (502, "upstream_failed")
    Account.objects.update(balance_micros=0)
    with pytest.raises(openai.PermissionDeniedError) as poor:
        client.images.generate(model="qwen-image-max", prompt="a cat")
    assert poor.value.code == "insufficient_quota"
    Account.objects.update(balance_micros=10**9)
    with pytest.raises(openai.RateLimitError) as busy:
        client.images.generate(model="qwen-image-max", prompt="a cat [[sim: throttle]]")
    assert busy.value.code == "rate_limit_exceeded"


def test_the_sdk_does_not_buy_again_by_itself(
    server: RunningServer, customer: Customer, simulator: RunningSimulator
) -> None:
    retrying = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=customer.secret)
    with retrying as sdk, pytest.raises(openai.InternalServerError):
        sdk.images.generate(model="qwen-image-2.0", prompt="a cat [[sim: html status=502]]", size="512x512")
    assert simulator.totals()["submissions"] == 1


def test_a_change_in_the_admin_takes_effect_within_two_seconds(
    client: openai.OpenAI, customer: Customer, simulator: RunningSimulator
) -> None:
    import time

    def order() -> None:
        client.images.generate(model="qwen-image-2.0", prompt="a cat", size="512x512")

    order()
    channel = Channel.objects.get(kind="dashscope_sync")
    channel.enabled = False
    channel.save()
    time.sleep(2)
    with pytest.raises(openai.InternalServerError) as gone:
        order()
    assert gone.value.code == "no_channel_available"
    channel.enabled = True
    channel.save()
    time.sleep(2)
    order()
    revoke_key(ApiKey.objects.get(pk=customer.key_id))
    time.sleep(2)
    with pytest.raises(openai.AuthenticationError):
        order()
