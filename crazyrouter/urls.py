from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("crazyrouter.api.urls")),
    path("", include("crazyrouter.files.urls")),
    path("admin/", admin.site.urls),
]
