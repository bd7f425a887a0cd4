"""One row per delivered picture. The bytes expire; the row stays, for the books."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class StoredImage(models.Model):
    """A picture that was generated, stored and can be collected under `name`.

    Rows are inserted by the transaction that finishes the generation, as plain SQL: every value is
    given by the writer, none is filled in here.
    """

    name = models.CharField(max_length=80)
    #: The public id of the generation; no foreign key, this app knows nothing above it.
    generation_id = models.CharField(max_length=40)
    slot = models.PositiveSmallIntegerField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            # Not `unique=True`: that would add an index for LIKE, which nobody asks and every insert pays.
            models.UniqueConstraint(fields=["name"], name="stored_image_name_once"),
            models.UniqueConstraint(fields=["generation_id", "slot"], name="stored_image_slot_once"),
            models.CheckConstraint(
                condition=Q(width__gte=1, height__gte=1, bytes__gte=1), name="stored_image_not_empty"
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="stored_image_lives"),
        ]
        indexes = [
            # What expiry asks for; it stays as small as the number of live files.
            models.Index(
                fields=["expires_at", "id"], condition=Q(deleted_at__isnull=True), name="stored_image_live_by_expiry"
            ),
        ]

    def __str__(self) -> str:
        return self.name
