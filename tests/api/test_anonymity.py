"""Nothing of the simulated carrier is visible outside; `tests/anonymity` does the same with all that were recorded."""

from __future__ import annotations

import httpx
import pytest

from tests.anonymity.words import CARRIERS
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
#: Long enough not to stand in a picture by chance.
FORBIDDEN = [word.encode() for word in CARRIERS if len(word) > 5] + [b"wanx", b"/oss/", b"sk-sim", b"request id"]
FAULTS = [
    "",
    "error status=401 code=InvalidApiKey message='DashScope says no'",
    "error status=500 code=InternalError message='ask Alibaba Cloud'",
    "error status=400 code=InvalidParameter message='dashscope dislikes size'",
    "moderation_input",
    "html status=502",
    "throttle",
    "image_error status=403",
]


def find_leaks(response: httpx.Response, extra: list[bytes]) -> list[bytes]:
    shown = response.content + repr(response.headers).encode() + str(response.url).encode()
    return [word for word in FORBIDDEN + extra if word in shown.lower()]


@pytest.mark.parametrize("model", ["qwen-image-plus", "qwen-image-2.0"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_answer_names_a_carrier(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, model: str, fault: str
) -> None:
    # The simulated upstream writes its maker's name into every picture, link and error.
    prompt = f"a cat [[sim: {fault}]]" if fault else "a cat"
    host = str(simulator.port).encode()
    answer = await gateway.post(URL, json={"model": model, "prompt": prompt, "size": "1024x1024"})
    assert find_leaks(answer, [host]) == []
    for item in answer.json().get("data", []):
        path = item["url"].removeprefix("http://127.0.0.1:8000")
        assert path.startswith("/files/qwen_image_")
        picture = await gateway.get(path)
        assert picture.status_code == 200
        assert b"TC260" in picture.content
        assert find_leaks(picture, [host]) == []
