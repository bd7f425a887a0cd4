"""Pictures behind signed links."""

from __future__ import annotations

import io
import re

import httpx
import pytest
from PIL import Image

from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


@pytest.fixture
def link(generate: Submit) -> str:
    return generate().json()["output"]["choices"][0]["message"]["content"][0]["image"]


def xml_code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/xml"
    found = re.search(r"<Code>(\w+)</Code>", answer.text)
    assert found
    return answer.status_code, found[1]


def test_the_picture(link: str, bare: httpx.Client, simulator: RunningSimulator) -> None:
    assert link.startswith(f"{simulator.base_url}/oss/dashscope-result-sim/")
    answer = bare.get(link)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content)
    picture = Image.open(io.BytesIO(answer.content))
    picture.load()
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (512, 512))
    head = bare.head(link)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    assert head.headers["etag"] == answer.headers["etag"]


def test_the_query_needs_its_escapes(link: str) -> None:
    query = link.partition("?")[2]
    assert re.fullmatch(r"Expires=\d{10}&OSSAccessKeyId=\w+&Signature=[\w%]+%3D", query)
    assert "%2B" in query
    assert "%2F" in query


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("%2F", "/"),
        ("%3D", "="),
        ("%2B", "+"),
        ("%2B", "%2b"),
        (r"Expires=(\d+)", r"Expires=9\1"),
        (r"(Expires=\d+)&(OSSAccessKeyId=\w+)", r"\2&\1"),
        ("$", "&extra=1"),
        (r"&OSSAccessKeyId=\w+", ""),
        (r"sim/(\w)", r"sim/x\1"),
    ],
)
def test_a_link_that_was_touched(link: str, bare: httpx.Client, pattern: str, replacement: str) -> None:
    touched = re.sub(pattern, replacement, link, count=1)
    assert touched != link
    assert xml_code(bare.get(touched)) == (403, "SignatureDoesNotMatch")


def test_no_query_at_all(link: str, bare: httpx.Client) -> None:
    assert xml_code(bare.get(link.partition("?")[0])) == (403, "AccessDenied")


def test_a_credential_is_one_too_many(link: str, bare: httpx.Client) -> None:
    answer = bare.get(link, headers={"Authorization": "Bearer sk-sim-acme.one"})
    assert xml_code(answer) == (400, "InvalidArgument")


def test_a_link_expires(link: str, bare: httpx.Client, simulator: RunningSimulator) -> None:
    simulator.advance(86_390)
    assert bare.get(link).status_code == 200
    simulator.advance(20)
    expired = bare.get(link)
    assert xml_code(expired) == (403, "AccessDenied")
    assert "Request has expired." in expired.text


def test_a_shorter_life(generate: Submit, bare: httpx.Client, simulator: RunningSimulator) -> None:
    simulator.set_scenario(link_life_s=60)
    link = generate().json()["output"]["choices"][0]["message"]["content"][0]["image"]
    simulator.advance(62)
    assert xml_code(bare.get(link)) == (403, "AccessDenied")


def test_a_picture_that_is_gone(link: str, bare: httpx.Client, simulator: RunningSimulator) -> None:
    simulator.reset()
    assert xml_code(bare.get(link)) == (404, "NoSuchKey")
