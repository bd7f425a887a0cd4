from django.urls import path, re_path

from crazyrouter.pages import views

urlpatterns = [
    path("", views.show_home, name="home"),
    path("models", views.show_models, name="models"),
    path("models.md", views.show_models_text),
    re_path(r"^models/(?P<name>[^/]+)\.md$", views.show_model_text),
    path("models/<str:name>", views.show_model, name="model"),
    path("pricing", views.show_pricing, name="pricing"),
    path("pricing.md", views.show_pricing_text),
    path("playground", views.show_playground, name="playground"),
    path("docs/", views.show_contents, name="docs"),
    re_path(r"^docs/(?P<name>[A-Za-z0-9_/-]+)\.md$", views.show_doc_text),
    re_path(r"^docs/(?P<name>[A-Za-z0-9_/-]*[A-Za-z0-9_-])$", views.show_doc, name="doc"),
    path("llms.txt", views.show_llms),
    path("llms-full.txt", views.show_llms_full),
    path("sitemap.xml", views.show_sitemap),
    path("robots.txt", views.show_robots),
]
