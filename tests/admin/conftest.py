"""A world of rows, and the people who look at it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.admin.world import World, build_world


@pytest.fixture
def world(db: None) -> World:
    return build_world()


@pytest.fixture
def olga(world: World) -> Client:
    """The operator: may do everything."""
    client = Client()
    client.force_login(world.operator)
    return client


@pytest.fixture
def victor(world: World) -> Client:
    """The viewer: staff who may look at everything and touch nothing."""
    viewer = User.objects.create_user("victor", password="correct horse battery", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    return client
