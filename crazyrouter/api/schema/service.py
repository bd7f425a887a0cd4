"""What stands beside /v1: delivered files, health, the document itself. Classes stand for views that are functions."""

from __future__ import annotations

from collections.abc import Mapping

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiParameter, extend_schema_view
from rest_framework.views import APIView

from crazyrouter.api.schema.frame import describe, give, read_header, subclass, take
from crazyrouter.files.names import NAME


class Openapi(OpenApiViewExtension):
    target_class = "crazyrouter.api.schema.views.OpenapiView"

    def view_replacement(self) -> type[APIView]:
        return extend_schema_view(
            get=describe(
                "getOpenapi",
                "Read this document",
                tag="Service",
                description="The API as OpenAPI 3.1. Needs no key; `HEAD` works, too.",
                parameters=[read_header("If-None-Match", {"type": "string"}, "The `ETag` of the copy you have.")],
                gives={
                    200: give({"type": "object", "required": ["openapi", "info", "paths"]}, "The document."),
                    304: give(None, "Your copy is the newest."),
                },
            )
        )(subclass(self.target))


class FileView(APIView):
    """Stands for the view of `files`, which is a function."""

    @describe(
        "getFile",
        "Fetch an image",
        tag="Files",
        description="A delivered image, to whoever knows its address, until it expires. Needs no key; `HEAD` and "
        "ranges work, too.",
        parameters=[
            take("name", OpenApiParameter.PATH, {"type": "string", "pattern": f"^{NAME.pattern}$"}, "The file."),
            read_header("Range", {"type": "string", "examples": ["bytes=0-1023"]}, "One range of bytes."),
            read_header("If-Range", {"type": "string"}, "The `ETag` for which the range is meant."),
            read_header("If-None-Match", {"type": "string"}, "The `ETag` of the copy you have."),
        ],
        gives={
            (200, "image/png"): give({"type": "string", "format": "binary"}, "The whole file."),
            (206, "image/png"): give({"type": "string", "format": "binary"}, "The bytes asked for."),
            304: give(None, "Your copy is this very file."),
        },
    )
    def get(self) -> None: ...


class HealthView(APIView):
    """Stands for a function of `ops`."""

    @describe(
        "getHealth",
        "Whether the process answers",
        tag="Service",
        description="For whoever looks after the service.",
        gives={(200, "text/plain"): give({"type": "string", "enum": ["ok\n"]}, "It does.")},
    )
    def get(self) -> None: ...


class ReadinessView(APIView):
    """Stands for a function of `ops`."""

    @describe(
        "getReadiness",
        "Whether the process can serve",
        tag="Service",
        description="For load balancers: whether the database answers and is of this version.",
        gives={
            (200, "text/plain"): give({"type": "string", "enum": ["ok\n"]}, "It can."),
            (503, "text/plain"): give({"type": "string", "enum": ["not ok\n"]}, "It cannot."),
        },
    )
    def get(self) -> None: ...


#: Views that are functions, by the name of their route.
STAND_INS: Mapping[str, type[APIView]] = {"stored-file": FileView, "healthz": HealthView, "readyz": ReadinessView}
