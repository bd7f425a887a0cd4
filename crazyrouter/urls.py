from django.contrib import admin
from django.urls import include, path

from crazyrouter.ops.health import healthz, readyz

urlpatterns = [
    path("", include("crazyrouter.api.urls")),
    path("", include("crazyrouter.files.urls")),
    path("", include("crazyrouter.pages.urls")),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
]

handler404 = "crazyrouter.pages.views.show_not_found"
