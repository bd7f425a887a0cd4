"""fal's queue, over plain HTTP."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.simulator.conftest import FAL_APP, FAL_HEADERS, KEY, Submit
from tests.simulator.running import RunningSimulator


def ask(client: httpx.Client, url: str, method: str = "GET") -> httpx.Response:
    return client.request(method, url, headers=FAL_HEADERS)


def fetch_response(client: httpx.Client, submitted: httpx.Response) -> httpx.Response:
    return ask(client, submitted.json()["response_url"])


def test_a_request_has_its_own_urls_below_the_root_of_its_app(simulator: RunningSimulator, enqueue: Submit) -> None:
    answer = enqueue()
    body = answer.json()
    root = f"{simulator.base_url}/fal/fal-ai/qwen-image-2/requests/{body['request_id']}"
    assert (answer.status_code, answer.headers["x-fal-request-id"]) == (200, body["request_id"])
    assert body == {
        "status": "IN_QUEUE",
        "request_id": body["request_id"],
        "response_url": root,
        "status_url": f"{root}/status",
        "cancel_url": f"{root}/cancel",
        "queue_position": 0,
    }


def test_from_the_queue_to_the_pictures(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client, bare: httpx.Client
) -> None:
    simulator.set_scenario(latency_s={"fal": 10})
    urls = enqueue("a cat", num_images=2, seed=7, enable_prompt_expansion=False).json()
    waiting = ask(client, urls["status_url"])
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["queue_position"]) == (202, "IN_QUEUE", 0)
    early = ask(client, urls["response_url"])
    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    simulator.advance(5)
    running = ask(client, urls["status_url"] + "?logs=1")
    assert (running.status_code, running.json()["status"], running.json()["logs"]) == (202, "IN_PROGRESS", [])
    simulator.advance(6)
    over = ask(client, urls["status_url"])
    assert (over.status_code, over.json()["status"], over.json()["logs"]) == (200, "COMPLETED", None)
    assert over.json()["metrics"] == {"inference_time": 8.0}
    assert "error" not in over.json()
    result = ask(client, urls["response_url"]).json()
    assert set(result) == {"images", "seed", "timings", "prompt", "has_nsfw_concepts"}
    assert (result["seed"], result["prompt"], result["has_nsfw_concepts"]) == (7, "a cat", [False, False])
    assert [{**image, "url": ""} for image in result["images"]] == [
        {"url": "", "width": 512, "height": 512, "content_type": "image/png"}
    ] * 2
    link = result["images"][1]["url"]
    assert link.startswith(f"{simulator.base_url}/fal/files/")
    assert Image.open(io.BytesIO(bare.get(link).content)).size == (512, 512)
    simulator.advance(6 * 86_400)
    assert bare.get(link).status_code == 200


def test_the_bill_names_it_as_the_carrier_does(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client
) -> None:
    request_id = enqueue(num_images=2).json()["request_id"]
    order, first, second = simulator.bill()["entries"]
    assert (order["endpoint"], order["model"], order["n"], order["size"]) == ("fal", FAL_APP, 2, "512x512")
    assert (order["request_id"], order["task_id"], order["account"]) == (request_id, request_id, "acme")
    assert (first["cost"], second["cost"]) == ("0.26", "0.26")


@pytest.mark.parametrize("size", ["square_hd", {"width": 1024, "height": 1024}, None])
def test_sizes(enqueue: Submit, client: httpx.Client, size: Any) -> None:
    (image,) = fetch_response(client, enqueue(image_size=size)).json()["images"]
    assert (image["width"], image["height"]) == (1024, 1024)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_formats(enqueue: Submit, client: httpx.Client, bare: httpx.Client, kind: str) -> None:
    (image,) = fetch_response(client, enqueue(output_format=kind)).json()["images"]
    assert image["content_type"] == f"image/{kind}"
    assert Image.open(io.BytesIO(bare.get(image["url"]).content)).format == kind.upper()


def test_a_picture_in_the_response(enqueue: Submit, client: httpx.Client) -> None:
    (image,) = fetch_response(client, enqueue(sync_mode=True)).json()["images"]
    head, _, text = image["url"].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (512, 512)


@pytest.mark.parametrize(
    ("fields", "field", "kind"),
    [
        ({"prompt": ""}, "prompt", "missing"),
        ({"num_images": 7}, "num_images", "less_than_equal"),
        ({"num_images": 0}, "num_images", "greater_than_equal"),
        ({"num_images": "2"}, "num_images", "int_type"),
        ({"image_size": "big"}, "image_size", "value_error"),
        ({"image_size": {"width": 100, "height": 100}}, "image_size", "value_error"),
        ({"image_size": {"width": 1024}}, "image_size", "value_error"),
        ({"output_format": "gif"}, "output_format", "literal_error"),
        ({"sync_mode": 1}, "sync_mode", "bool_type"),
        ({"negative_prompt": 5}, "negative_prompt", "string_type"),
    ],
)
def test_a_wrong_input_is_taken_and_told_by_the_response(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client, fields: dict, field: str, kind: str
) -> None:
    submitted = enqueue(**fields)
    assert submitted.status_code == 200
    simulator.advance(1)
    status = ask(client, submitted.json()["status_url"]).json()
    assert (status["status"], "error" in status) == ("COMPLETED", False)
    answer = fetch_response(client, submitted)
    (detail,) = answer.json()["detail"]
    assert (answer.status_code, detail["loc"], detail["type"]) == (422, ["body", field], kind)
    assert set(detail) == {"loc", "msg", "type", "url", "ctx", "input"}
    assert simulator.totals()["images"] == 0
    simulator.set_scenario(late_validation=False)
    assert enqueue(**fields).status_code == 422


@pytest.mark.parametrize("directive", ["moderation_input late=true", "moderation_output", "partial ok=0"])
def test_what_the_model_refuses_is_told_by_the_response_alone(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client, directive: str
) -> None:
    submitted = enqueue(f"a cat [[sim: {directive}]]")
    status = ask(client, submitted.json()["status_url"]).json()
    assert (status["status"], "error" in status, "error_type" in status) == ("COMPLETED", False, False)
    answer = fetch_response(client, submitted)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "content_policy_violation")
    assert answer.headers["x-fal-retryable"] == "false"
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("InternalError.Algo", "internal_error", 500),
        ("InternalError.Timeout", "request_timeout", 504),
        ("ModelUnavailable", "runner_scheduling_failure", 503),
        ("runner_disconnected", "runner_disconnected", 503),
        ("startup_timeout", "startup_timeout", 504),
        ("bad_request", "bad_request", 400),
    ],
)
def test_completed_and_failed(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client, code: str, kind: str, status: int
) -> None:
    submitted = enqueue(f"a cat [[sim: failed code={code} message=sorry]]")
    told = ask(client, submitted.json()["status_url"])
    assert told.status_code == 200
    assert (told.json()["status"], told.json()["error"], told.json()["error_type"]) == ("COMPLETED", "sorry", kind)
    answer = fetch_response(client, submitted)
    assert (answer.status_code, answer.json()) == (status, {"detail": "sorry", "error_type": kind})
    assert answer.headers["x-fal-error-type"] == kind
    assert simulator.totals() | {"cost": ""} == {
        "submissions": 1,
        "accepted": 1,
        "refused": 0,
        "images": 0,
        "cost": "",
        "currency": "CNY",
    }


def test_a_request_that_never_ends_runs_into_a_timeout(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client
) -> None:
    submitted = enqueue("a cat [[sim: never_ends status=PENDING]]")
    simulator.advance(3 * 3600 - 10)
    assert ask(client, submitted.json()["status_url"]).json()["status"] == "IN_QUEUE"
    simulator.advance(20)
    assert ask(client, submitted.json()["status_url"]).json()["error_type"] == "request_timeout"


def test_fewer_and_flagged_and_no_pictures(simulator: RunningSimulator, enqueue: Submit, client: httpx.Client) -> None:
    result = fetch_response(client, enqueue("a [[sim: partial ok=2]]", num_images=4)).json()
    assert (len(result["images"]), result["has_nsfw_concepts"]) == (2, [False, False])
    flagged = fetch_response(client, enqueue("a [[sim: image_flagged]]")).json()
    assert (len(flagged["images"]), flagged["has_nsfw_concepts"]) == (1, [True])
    assert fetch_response(client, enqueue("a [[sim: no_results]]")).json()["images"] == []
    assert simulator.totals()["images"] == 3
    assert fetch_response(client, enqueue("a [[sim: no_data billed=true]]")).json() == {}
    assert simulator.totals()["images"] == 4


def test_faults_of_status_and_of_response_are_told_apart(enqueue: Submit, client: httpx.Client) -> None:
    submitted = enqueue("a cat [[sim: poll_error status=503 times=1]] [[sim: html at=result times=1]]")
    urls = submitted.json()
    assert [ask(client, urls["status_url"]).status_code for _ in range(2)] == [503, 200]
    assert [ask(client, urls["response_url"]).status_code for _ in range(2)] == [502, 200]
    odd = enqueue("a cat [[sim: status value=SLEEPING]]").json()
    assert ask(client, odd["status_url"]).json()["status"] == "SLEEPING"


def test_cancel(simulator: RunningSimulator, enqueue: Submit, client: httpx.Client) -> None:
    simulator.set_scenario(latency_s=10)
    waiting, running = enqueue().json(), None
    answer = ask(client, waiting["cancel_url"], "PUT")
    assert (answer.status_code, answer.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    told = ask(client, waiting["status_url"]).json()
    assert (told["status"], told["error_type"]) == ("COMPLETED", "client_cancelled")
    assert ask(client, waiting["response_url"]).status_code == 499
    running = enqueue().json()
    simulator.advance(5)
    assert ask(client, running["cancel_url"], "PUT").status_code == 202
    assert ask(client, running["status_url"]).json()["status"] == "IN_PROGRESS"
    simulator.advance(6)
    late = ask(client, running["cancel_url"], "PUT")
    assert (late.status_code, late.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert simulator.totals()["images"] == 1
    unknown = ask(client, "/fal/fal-ai/qwen-image-2/requests/none/cancel", "PUT")
    assert (unknown.status_code, unknown.json()) == (404, {"status": "NOT_FOUND"})


def test_a_request_is_known_to_its_account_under_its_root(enqueue: Submit, client: httpx.Client) -> None:
    urls = enqueue().json()
    full = f"/fal/{FAL_APP}/requests/{urls['request_id']}/status"
    assert ask(client, full).status_code == 404
    elsewhere = urls["status_url"].replace("qwen-image-2", "qwen-image-max")
    assert ask(client, elsewhere).status_code == 404
    foreign = client.get(urls["status_url"], headers={"Authorization": "Key sk-sim-other.id:secret"})
    assert foreign.status_code == 404
    same = client.get(urls["status_url"], headers={"Authorization": "Key sk-sim-acme.id:secret"})
    assert same.status_code == 200
    native = client.get(f"/api/v1/tasks/{urls['request_id']}").json()
    assert native["output"]["task_status"] == "UNKNOWN"


@pytest.mark.parametrize("value", ["", f"Bearer {KEY}", "Key nobody:secret", "Key"])
def test_keys(enqueue: Submit, value: str) -> None:
    answer = enqueue(headers={"Authorization": value})
    assert (answer.status_code, "Authentication is required" in answer.json()["detail"]) == (401, True)


def test_configured_keys(simulator: RunningSimulator, enqueue: Submit) -> None:
    simulator.set_scenario(accounts={"fal-one": ["b1f2:5c3d"]})
    assert enqueue(headers={"Authorization": "Key b1f2:5c3d"}).status_code == 200
    assert simulator.bill()["images_by_account"] == {"fal-one": 1}


def test_an_app_that_is_not_there(enqueue: Submit, client: httpx.Client) -> None:
    answer = enqueue(model="fal-ai/nothing")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Application 'fal-ai/nothing' not found"})
    assert client.get("/fal/any").json() == {"detail": "Not Found"}


def test_an_empty_purse_and_a_full_house(enqueue: Submit) -> None:
    locked = enqueue("a [[sim: error code=Arrearage status=403]]")
    assert (locked.status_code, "Exhausted balance" in locked.json()["detail"]) == (403, True)
    assert enqueue("a [[sim: throttle]]").status_code == 429


def test_requests_wait_in_line_where_few_may_run(
    simulator: RunningSimulator, enqueue: Submit, client: httpx.Client
) -> None:
    simulator.set_scenario(latency_s=10, limits={"async_concurrency": 1, "when_full": "queue"})
    urls = [enqueue().json()["status_url"] for _ in range(3)]
    assert [ask(client, url).json()["queue_position"] for url in urls] == [0, 1, 2]
    simulator.advance(15)
    assert [ask(client, url).json()["status"] for url in urls] == ["COMPLETED", "IN_PROGRESS", "IN_QUEUE"]
