from django.apps import AppConfig


class FilesConfig(AppConfig):
    name = "crazyrouter.files"
    label = "files"
    verbose_name = "Stored images"
