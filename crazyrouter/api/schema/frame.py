"""The frame of an operation's description: its answers with its errors, and how parameters are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

from crazyrouter.api.schema.answers import Error
from crazyrouter.api.schema.faults import group_errors
from crazyrouter.api.schema.fields import NO_NUL

F = TypeVar("F", bound=Callable[..., Any])


def describe(operation: str, summary: str, *, tag: str, gives: Mapping[Any, Any], **more: Any) -> Callable[[F], F]:
    """An operation with its answers; each status among its errors has the envelope."""
    errors = dict.fromkeys(group_errors(operation), Error)
    return extend_schema(operation_id=operation, summary=summary, tags=[tag], responses={**errors, **gives}, **more)


def give(answer: Any, description: str) -> OpenApiResponse:
    return OpenApiResponse(answer, description=description)


def take(name: str, where: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    required = where == OpenApiParameter.PATH
    return OpenApiParameter(name, schema, where, required=required, description=description)


def ask(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    return take(name, OpenApiParameter.QUERY, schema, description)


def read_header(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    return take(name, OpenApiParameter.HEADER, schema, description)


def bound(least: int, largest: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": largest, "default": default}


def limit_text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, "pattern": NO_NUL}


def subclass(view: Any) -> type[APIView]:
    """A class of its own to describe: what is served is left alone."""
    return type(view.__name__, (view,), {})
