from __future__ import annotations

from django.urls import path

from crazyrouter.files.views import serve_file

urlpatterns = [path("files/<str:name>", serve_file, name="stored-file")]
