from django.urls import path

from crazyrouter.pages.views import show_errors

urlpatterns = [path("docs/errors", show_errors, name="errors")]
