"""What the public can buy: families of models, models, their sizes, their prices, and how far each is verified."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

#: A name is one part of an address, and stands in examples as it is; `.md` is the same page as Markdown.
check_name = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._:-]*(?<!\.md)\Z",
    "letters, digits and . _ : - only, the first one a letter or digit, no .md at the end",
)


class ModelFamily(models.Model):
    """Models that are documented together: their page is `/docs/images/{slug}`."""

    slug = models.SlugField(
        max_length=40, unique=True, help_text="The last part of the page's address: whoever changes it breaks links."
    )
    title = models.CharField(max_length=100)
    summary = models.TextField(blank=True, help_text="What they are, in a sentence or two; plain text.")
    notes = models.TextField(blank=True, help_text="What belongs to the offer and what does not: one note a line.")
    position = models.PositiveSmallIntegerField(default=0, help_text="Order in which families are listed.")
    history = HistoricalRecords()

    class Meta:
        verbose_name = "model family"
        verbose_name_plural = "model families"
        ordering = ["position", "slug"]

    def __str__(self) -> str:
        return self.title


class ImageModel(models.Model):
    """One public model name. The published facts stand here; routing has its own (`providers.Offer`)."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active: listed and served"
        HIDDEN = "hidden", "Hidden: neither listed nor served"
        RETIRED = "retired", "Retired: no longer sold"

    class Shape(models.TextChoices):
        SYNC = "sync", "sync generation"
        ASYNC = "async", "async generation"

    class Verified(models.TextChoices):
        VERIFIED = "verified", "verified"
        BETA = "beta", "Beta"

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[check_name],
        help_text="The public model id, as customers send it.",
    )
    family = models.ForeignKey(
        ModelFamily,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="models",
        help_text="Where it is documented. Without one it has only a page of its own.",
    )
    title = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    execution_shape = models.CharField(
        max_length=5, choices=Shape.choices, help_text="The published fact. Routing goes by each offer's own shape."
    )
    capability = models.CharField(max_length=32, default="text-to-image")
    verification = models.CharField(max_length=10, choices=Verified.choices, default=Verified.BETA, editable=False)
    default_size = models.CharField(max_length=11, help_text="WIDTHxHEIGHT; used for `auto` and when size is absent.")
    max_n = models.PositiveSmallIntegerField("maximum n", default=1)
    prompt_limit = models.PositiveIntegerField(default=800, help_text="Unicode code points.")
    negative_prompt_limit = models.PositiveIntegerField(default=500, help_text="Unicode code points.")
    # A free pixel range; all empty where only the listed sizes are sold.
    min_pixels = models.PositiveIntegerField(null=True, blank=True)
    max_pixels = models.PositiveIntegerField(null=True, blank=True)
    multiple = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Both sides are multiples of this.")
    min_side = models.PositiveSmallIntegerField(null=True, blank=True)
    max_side = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    history = HistoricalRecords()

    class Meta:
        verbose_name = "model"
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(max_n__gte=1, max_n__lte=10), name="model_max_n_sane"),
            models.CheckConstraint(
                condition=Q(min_pixels=None, max_pixels=None, multiple=None, min_side=None, max_side=None)
                | Q(min_pixels__gte=1, max_pixels__gte=F("min_pixels"), multiple__gte=1, max_side__gte=F("min_side")),
                name="model_size_range_whole_or_absent",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ImageSize(models.Model):
    """A size that customers may ask for; `render_*` is what an upstream is asked for where that differs."""

    model = models.ForeignKey(ImageModel, on_delete=models.CASCADE, related_name="sizes")
    width = models.PositiveSmallIntegerField()
    height = models.PositiveSmallIntegerField()
    render_width = models.PositiveSmallIntegerField(null=True, blank=True)
    render_height = models.PositiveSmallIntegerField(null=True, blank=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="Order in which the sizes are listed.")

    class Meta:
        verbose_name = "size"
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["model", "width", "height"], name="one_size_once"),
            models.CheckConstraint(
                condition=Q(width__gte=64, width__lte=4096, height__gte=64, height__lte=4096), name="size_sane"
            ),
            models.CheckConstraint(
                condition=Q(render_width=None, render_height=None)
                | Q(render_width__gte=F("width"), render_height__gte=F("height")),
                name="render_size_whole_and_not_smaller",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def clean(self) -> None:
        """Resampling keeps the aspect: a render size of another shape would distort every picture."""
        if self.width and self.height and self.render_width and self.render_height:
            asked, rendered = self.width / self.height, self.render_width / self.render_height
            if abs(asked / rendered - 1) > 0.02:
                raise ValidationError("the render size must have the same aspect as the public size (within 2 %)")


class Price(models.Model):
    """A price version: appended with a date from which it holds, never edited."""

    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="prices")
    amount_micros = models.BigIntegerField("price per image (micro-CNY)", help_text="10⁻⁶ CNY; ¥0.20 is 200000.")
    currency = models.CharField(max_length=3, default="CNY", editable=False)
    effective_from = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=150, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-effective_from", "-id"]
        constraints = [models.CheckConstraint(condition=Q(amount_micros__gt=0), name="price_positive")]

    def __str__(self) -> str:
        return f"{self.model_id} v{self.pk}"


class Verification(models.Model):
    """One recorded move between Beta and verified: who, when, why. Append-only."""

    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="verifications")
    from_state = models.CharField(max_length=10, choices=ImageModel.Verified.choices)
    to_state = models.CharField(max_length=10, choices=ImageModel.Verified.choices)
    reason = models.TextField()
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"
