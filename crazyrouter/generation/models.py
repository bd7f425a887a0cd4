"""Generations and the upstream attempts made for them. Written by `journal`, by conditional UPDATEs only."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.models import Account, AccountPrice, ApiKey
from models_registry.models import ImageModel, Price
from providers.models import Capacity, Channel, Credential, Offer


class Generation(models.Model):
    """One customer request. Partial delivery is `succeeded`."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"

    #: state -> the states it may move to
    TRANSITIONS = {
        State.RUNNING: (State.SUCCEEDED, State.FAILED),
        State.SUCCEEDED: (),
        State.FAILED: (),
    }

    id = models.CharField(max_length=30, primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    # No index for those to which rows point by the million: each insert would pay for the day one of them is deleted.
    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="+", db_index=False)
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+", db_index=False)
    account_price = models.ForeignKey(
        AccountPrice, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    unit_price_micros = models.BigIntegerField()
    prompt = models.TextField()
    options = models.JSONField(default=dict, help_text="negative_prompt, seed, prompt_extend, watermark, user.")
    width = models.PositiveSmallIntegerField()
    height = models.PositiveSmallIntegerField()
    render_width = models.PositiveSmallIntegerField()
    render_height = models.PositiveSmallIntegerField()
    n = models.PositiveSmallIntegerField()
    response_format = models.CharField(max_length=8)
    request_hash = models.CharField(max_length=64, blank=True, help_text="Of the body as sent, defaults applied.")
    retries_joined = models.PositiveSmallIntegerField(
        default=0, help_text="The number of the latest automatic retry of the customer's that waited for this one."
    )
    state = models.CharField(max_length=10, choices=State.choices)
    failure = models.CharField(max_length=32, blank=True, help_text="Our public code for what went wrong.")
    delivered = models.PositiveSmallIntegerField(default=0)
    revised_prompts = models.JSONField(null=True, blank=True)
    lease_owner = models.CharField(max_length=40, blank=True)
    lease_expires_at = models.DateTimeField()
    takeovers = models.PositiveSmallIntegerField(default=0, help_text="How often another process took it over.")
    deadline_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True, help_text="When the answer had been sent completely.")

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["account", "-id"], name="generation_of_account"),
            models.Index(fields=["lease_expires_at"], condition=Q(state="running"), name="generation_running"),
            # What an SDK's automatic retry looks for.
            models.Index(
                fields=["api_key", "request_hash"], condition=Q(answered_at=None), name="generation_undelivered"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="succeeded", delivered__gte=1, delivered__lte=F("n")) | Q(delivered=0),
                name="delivered_fits_state",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


class IdempotencyKey(models.Model):
    """An `Idempotency-Key` that an account sent, and the generation it stands for.

    The row is written by the transaction that opens the generation, deleted by the one that ends it in a way that
    frees the key, and otherwise lives 24 h from opening, longer while the generation runs.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    generation = models.OneToOneField(Generation, on_delete=models.PROTECT, related_name="idempotency")
    body_hash = models.CharField(max_length=64, help_text="Of the body as sent, defaults of the API applied.")
    order_hash = models.CharField(max_length=64, help_text="The same with the model's default size applied.")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "key"], name="one_generation_per_key")]

    def __str__(self) -> str:
        return self.key


class Attempt(models.Model):
    """One upstream call for some slots of a generation.

    Inserted before its submit, so that no attempt means never sent, and one still `created` after a crash may have
    been. `unknown` means that the upstream may have done it and may charge for it.
    """

    class State(models.TextChoices):
        CREATED = "created", "Created"
        REJECTED = "rejected", "Rejected"
        ACCEPTED = "accepted", "Accepted"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        UNKNOWN = "unknown", "Unknown"

    #: A sync answer is acceptance and result in one, so `created` may also end at once.
    TRANSITIONS = {
        State.CREATED: (State.REJECTED, State.ACCEPTED, State.UNKNOWN, State.SUCCEEDED, State.FAILED),
        State.ACCEPTED: (State.SUCCEEDED, State.FAILED, State.UNKNOWN),
        State.REJECTED: (),
        State.SUCCEEDED: (),
        State.FAILED: (),
        State.UNKNOWN: (),
    }

    class Purpose(models.TextChoices):
        CUSTOMER = "customer", "Customer"
        SHADOW = "shadow", "Shadow"

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    number = models.PositiveSmallIntegerField()
    slots = models.JSONField()
    purpose = models.CharField(max_length=10, choices=Purpose.choices, default=Purpose.CUSTOMER)
    offer = models.ForeignKey(Offer, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    credential = models.ForeignKey(Credential, on_delete=models.PROTECT, related_name="+", db_index=False)
    base_url = models.CharField(max_length=300)
    upstream_model = models.CharField(max_length=128)
    shape = models.CharField(max_length=5)
    cost_micros = models.BigIntegerField(null=True, blank=True, help_text="What one image costs us here.")
    cost_currency = models.CharField(max_length=3, default="CNY")
    capacity = models.ForeignKey(
        Capacity, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.CREATED)
    task_id = models.CharField(max_length=128, blank=True)
    upstream_id = models.CharField(max_length=128, blank=True)
    code = models.CharField(max_length=20, blank=True)
    billed = models.CharField(max_length=8, blank=True, help_text="For a failure: whether the upstream charges for it.")
    detail = models.CharField(max_length=300, blank=True, help_text="The carrier's words; never shown to customers.")
    images = models.PositiveSmallIntegerField(default=0, help_text="Pictures that came back and were stored.")
    routing = models.JSONField(default=dict, help_text="Candidates, exclusions with reasons, the choice, the wait.")
    comparison = models.JSONField(null=True, blank=True, help_text="For a shadow: how its result compares.")
    created_at = models.DateTimeField(default=timezone.now)
    accepted_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["generation", "number"]
        constraints = [models.UniqueConstraint(fields=["generation", "number"], name="one_attempt_per_number")]
        # Customers' attempts are not in it, so it costs them nothing.
        indexes = [models.Index(fields=["created_at"], condition=Q(purpose="shadow"), name="attempt_shadow")]

    def __str__(self) -> str:
        return f"{self.generation_id} #{self.number}"


class WaitingCall(models.Model):
    """A call that no upstream has room for yet. It leaves with its grant, or when it is given up."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="waiting", db_index=False)
    number = models.PositiveSmallIntegerField()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="+", db_index=False)
    wants = models.CharField(
        max_length=300, blank=True, help_text="Ids of the capacities that would do, the first choice first."
    )
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["generation", "number"], name="one_waiting_call_per_number")]

    def __str__(self) -> str:
        return f"{self.generation_id} #{self.number}"


class Turn(models.Model):
    """When an account was last served from the queue of a model: who waits longest for a turn is next."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="+", db_index=False)
    served_ms = models.BigIntegerField(help_text="Epoch milliseconds.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "model"], name="one_turn_per_account")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.model_id}"


class ServiceHour(models.Model):
    """What became of the orders of one model in one hour: what the public figures are read from (`service`).

    Of generations that began in the hour, counted from their rows (`service_hours`): `served` delivered at least one
    image, `failed` none, `unfit` none for a reason of the request's own; `running` had not ended when they were last
    counted. `latency` is of those served: bucket of `latency` -> how many. `turned_away` orders have no row, and are
    added as they are refused (`refusals`).
    """

    model = models.ForeignKey(ImageModel, on_delete=models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField(help_text="The start of the hour, which is one of UTC.")
    served = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    unfit = models.PositiveIntegerField(default=0)
    turned_away = models.PositiveIntegerField(default=0)
    running = models.PositiveIntegerField(default=0)
    latency = models.JSONField(default=dict)
    final = models.BooleanField(default=False, help_text="Counted when no generation could be added any more.")

    class Meta:
        ordering = ["hour", "model"]
        # By hour first: they are read, and deleted, by the time.
        constraints = [models.UniqueConstraint(fields=["hour", "model"], name="one_service_hour_per_model")]

    def __str__(self) -> str:
        return f"{self.model_id} {self.hour:%Y-%m-%d %H:%M}"


class BooksCheck(models.Model):
    """One run of `reconcile`: what it found, for the admin."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    entries = models.BigIntegerField(help_text="Ledger entries at that moment.")
    violations = models.PositiveIntegerField()
    notices = models.PositiveIntegerField()
    findings = models.JSONField(default=list, help_text="The first of them, as [rule, subject, detail, notice].")

    class Meta:
        verbose_name = "check of the books"
        verbose_name_plural = "checks of the books"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Check of {timezone.localtime(self.started_at):%Y-%m-%d %H:%M}"
