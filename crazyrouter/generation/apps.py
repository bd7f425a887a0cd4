from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "crazyrouter.generation"
    label = "generation"
    verbose_name = "Generations"
