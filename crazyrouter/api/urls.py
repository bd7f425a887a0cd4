from django.urls import path, re_path

from crazyrouter.api.accounting import BalanceView, UsageCsvView, UsageView
from crazyrouter.api.generations import GenerationsView, GenerationView
from crazyrouter.api.pricing import PricingView
from crazyrouter.api.schema.views import OpenapiView
from crazyrouter.api.views import ModelsView, ModelView, UnknownView

urlpatterns = [
    path("v1/images/generations", GenerationsView.as_view()),
    path("v1/images/generations/<str:generation_id>", GenerationView.as_view()),
    path("v1/models", ModelsView.as_view()),
    path("v1/models/<str:name>", ModelView.as_view()),
    path("v1/balance", BalanceView.as_view()),
    path("v1/usage", UsageView.as_view()),
    path("v1/usage.csv", UsageCsvView.as_view()),
    path("api/pricing", PricingView.as_view()),
    path("openapi.json", OpenapiView.as_view()),
    re_path(r"^v1(?:/|$)", UnknownView.as_view()),
]
