"""GET /openapi.json: the document that is checked in, for this very service."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.contract import DOCUMENT


async def test_it_is_served_with_the_address_of_the_service(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.PUBLIC_BASE_URL = "https://images.test"
    response = await gateway.get("/openapi.json", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["access-control-allow-origin"] == "*"
    served = response.json()
    assert served["servers"] == [{"url": "https://images.test"}]
    assert "crazyrouter.example" not in response.text
    assert served["paths"].keys() == DOCUMENT["paths"].keys()


async def test_a_copy_that_is_the_newest_is_not_sent_again(gateway: httpx.AsyncClient) -> None:
    etag = (await gateway.get("/openapi.json")).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await gateway.get("/openapi.json", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert again.headers["cache-control"] == "no-cache"
        assert "content-type" not in again.headers
    assert (await gateway.get("/openapi.json", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_another_address_is_another_copy(gateway: httpx.AsyncClient, settings: Any) -> None:
    tags = set()
    for address in ("https://one.test", "https://two.test"):
        settings.PUBLIC_BASE_URL = address
        tags.add((await gateway.get("/openapi.json")).headers["etag"])
    assert len(tags) == 2
