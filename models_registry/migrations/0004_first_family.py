from django.db import migrations

FAMILY = {
    "slug": "qwen",
    "title": "Qwen Image",
    "summary": "Text-to-image models that draw posters, products and people, and set Chinese and English lettering.",
    "notes": "This first batch sells text-to-image alone. Whatever else the models can do upstream has no public "
    "interface yet.\n"
    "Editing is a capability of its own, to be decided separately: the edit model qwen-image-edit-2509 is not part of "
    "this batch.",
}


def gather_known_models(apps, schema_editor):
    """What was sold before there were families belongs to the first of them."""
    known = apps.get_model("models_registry", "ImageModel").objects.filter(name__startswith="qwen-image", family=None)
    if known.exists():
        family, _ = apps.get_model("models_registry", "ModelFamily").objects.get_or_create(
            slug=FAMILY["slug"], defaults=FAMILY
        )
        known.update(family=family)


class Migration(migrations.Migration):
    dependencies = [("models_registry", "0003_model_families")]

    operations = [migrations.RunPython(gather_known_models, migrations.RunPython.noop)]
