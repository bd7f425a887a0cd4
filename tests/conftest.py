"""Fixtures for every suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx
import pytest
import pytest_socket
from django.db import connection
from django.test.utils import setup_databases, teardown_databases

from tests.reset import reset_database
from tests.shop import Customer, open_shop
from tests.simulator.running import RunningSimulator


@pytest.fixture(autouse=True, scope="session")
def closed_sockets() -> None:
    """No test reaches further than this machine."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


#: Forms of the admin and refusals that write nothing; the admin's every page is still opened on both databases.
ONE_DATABASE_SHOWS_IT = {"test_billing.py", "test_channels.py", "test_catalogue.py", "test_validation.py"} | {
    # What leaves the house does not hang on where the rows are.
    "test_canary.py",
    "test_public_face.py",
    "test_words.py",
    # Nor what customers' libraries and the documented examples do.
    "test_litellm.py",
    "test_langchain.py",
    "test_documented_examples.py",
    # Nor what a browser shows; a newcomer's whole way is walked on both.
    "test_admin.py",
    "test_playground.py",
    "test_playground_changes.py",
    "test_playground_page.py",
    "test_playground_trouble.py",
    "test_quality.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever touches the database runs again on PostgreSQL, unless it goes through the ORM's forms alone."""
    for item in items:
        touches = {"database", "db", "transactional_db"} & set(getattr(item, "fixturenames", ()))
        if touches and item.path.name not in ONE_DATABASE_SHOWS_IT:
            item.add_marker("database")


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: Any
) -> Iterator[None]:
    """Always make the test database: pytest-django would only do so for its own marks and fixtures."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases={"default": None})
    yield
    with django_db_blocker.unblock():
        hang_up_threads()
        teardown_databases(made, verbosity=0)


def hang_up_threads() -> None:
    """Executor threads keep their connections while the process lives; PostgreSQL drops no database that has one."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture
def database(django_db_setup: Any, django_db_blocker: Any) -> Iterator[None]:
    """A migrated database that every thread sees, emptied afterwards: for what commits for itself."""
    with django_db_blocker.unblock():
        yield
        reset_database()


@pytest.fixture(scope="session")
def simulated_upstream() -> Iterator[RunningSimulator]:
    with RunningSimulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(simulated_upstream: RunningSimulator) -> RunningSimulator:
    """An upstream at rest: no rule, an empty bill, no latency."""
    simulated_upstream.reset()
    return simulated_upstream


@pytest.fixture
def customer(database: None, simulator: RunningSimulator, settings: Any) -> Customer:
    """A shop that sells all four models through the simulator; this is who buys."""
    settings.EGRESS_ALLOW = [f"127.0.0.1:{simulator.port}"]
    return open_shop(simulator.base_url)


@pytest.fixture
async def gateway(customer: Customer) -> AsyncIterator[httpx.AsyncClient]:
    """The ASGI application, called in this process, with the customer's key."""
    from crazyrouter.asgi import application
    from crazyrouter.generation.runtime import close_runtime

    transport = httpx.ASGITransport(app=cast("Any", application), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=customer.headers) as client:
        client.event_hooks["response"].append(hold_against_description)
        yield client
    await close_runtime()


async def hold_against_description(response: httpx.Response) -> None:
    """Whatever a test asks for: an answer that openapi.json does not describe fails it."""
    from tests.api.contract import find_operation, list_breaches

    operation = find_operation(response.request.method, response.request.url.path)
    if operation is not None:
        breaches = list_breaches(operation, response.status_code, response.headers, await response.aread())
        assert breaches == [], (operation["operationId"], response.status_code, breaches)
