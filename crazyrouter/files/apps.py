from django.apps import AppConfig
from django.core.checks import register


class FilesConfig(AppConfig):
    name = "crazyrouter.files"
    label = "files"
    verbose_name = "Stored images"

    def ready(self) -> None:
        from crazyrouter.files.checks import check_file_ttl

        register(check_file_ttl)
