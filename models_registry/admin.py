"""The public catalogue: models with their sizes, prices and verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from models_registry.amounts import format_money
from models_registry.backoffice import (
    AppendOnlyMixin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    RecordedAdmin,
    find_object,
    go_to,
    show_operation,
)
from models_registry.forms import ImageModelForm, MoveForm, PriceForm, SizeFormSet
from models_registry.models import ImageModel, ImageSize, ModelFamily, Price, Verification
from models_registry.verification import VerificationRefused, move_verification

VERIFIED, BETA = ImageModel.Verified.VERIFIED, ImageModel.Verified.BETA
STATUS_COLOURS = {"active": "success", "hidden": "warning", "retired": "danger"}
VERIFICATION_COLOURS = {"verified": "success", "Beta": "warning"}
PRICE_COLOURS = {"in force": "success", "to come": "info"}


class SizeInline(TabularInline):
    model = ImageSize
    formset = SizeFormSet
    extra = 0
    hide_title = True
    fields = ("width", "height", "render_width", "render_height", "position")


class PriceInline(AppendOnlyMixin, TabularInline):
    model = Price
    form = PriceForm
    extra = 0
    hide_title = True
    fields = ("amount", "effective_from", "reason", "actor")
    readonly_fields = ("actor",)
    verbose_name_plural = "price versions (appended, never edited)"

    @admin.display(description="Price per image (¥)")
    def amount(self, price: Price) -> str:
        return format_money(price.amount_micros, price.currency)


class VerificationInline(ReadOnlyInline):
    model = Verification
    fields = ("at", "from_state", "to_state", "actor", "reason")
    verbose_name_plural = "moves between Beta and verified"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Verification]:
        return super().get_queryset(request).select_related("actor")


@admin.register(ModelFamily)
class ModelFamilyAdmin(RecordedAdmin):
    list_display = ("slug", "title", "model_count", "position")
    search_fields = ("slug", "title")
    fields = (("slug", "title"), "summary", "notes", "position")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelFamily]:
        return super().get_queryset(request).annotate(model_total=Count("models"))

    @admin.display(description="Models", ordering="model_total")
    def model_count(self, family: Any) -> int:
        return int(family.model_total)


@admin.register(ImageModel)
class ImageModelAdmin(RecordedAdmin):
    form = ImageModelForm
    list_display = (
        "name",
        "title",
        "status_badge",
        "execution_shape",
        "verification_badge",
        "price",
        "size_count",
        "offer_count",
    )
    list_filter = ("status", "family", "execution_shape", "verification")
    search_fields = ("name", "title")
    readonly_fields = ("verification", "created_at")
    inlines = (SizeInline, PriceInline, VerificationInline)
    actions = ("verify_selected", "move_back_selected")
    actions_detail = ("verify", "move_back")
    fieldsets = (
        (
            None,
            {"fields": (("name", "title"), "family", ("status", "verification"), ("execution_shape", "capability"))},
        ),
        ("Limits", {"fields": (("default_size", "max_n"), ("prompt_limit", "negative_prompt_limit"))}),
        ("Free sizes", {"fields": (("min_pixels", "max_pixels"), ("min_side", "max_side"), "multiple")}),
        ("About", {"fields": ("description", "created_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ImageModel]:
        in_force = Price.objects.filter(model=OuterRef("pk"), effective_from__lte=timezone.now())
        in_force = in_force.order_by("-effective_from", "-id")
        return (
            super()
            .get_queryset(request)
            .annotate(
                price_micros=Subquery(in_force.values("amount_micros")[:1]),
                sizes_sold=Count("sizes", distinct=True),
                offers_enabled=Count(
                    "offers", filter=Q(offers__enabled=True, offers__channel__enabled=True), distinct=True
                ),
            )
        )

    def get_readonly_fields(self, request: HttpRequest, obj: ImageModel | None = None) -> tuple[str, ...]:
        # Customers, ledger entries and links hold the name: a model that is sold keeps it.
        return (*self.readonly_fields, "name") if obj else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: ImageModel | None = None) -> bool:
        """Sold models stay in the books: they are retired."""
        return False

    @display(description="Status", ordering="status", label=STATUS_COLOURS)
    def status_badge(self, model: ImageModel) -> str:
        return model.status

    @display(description="Verification", ordering="verification", label=VERIFICATION_COLOURS)
    def verification_badge(self, model: ImageModel) -> str:
        return str(model.get_verification_display())

    @admin.display(description="Price per image", ordering="price_micros")
    def price(self, model: Any) -> str:
        return format_money(model.price_micros) if model.price_micros else "none: not served"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "GET":
            self.warn_of_unpriced(request)
        return super().changelist_view(request, extra_context)

    def warn_of_unpriced(self, request: HttpRequest) -> None:
        active: Any = self.get_queryset(request).filter(status=ImageModel.Status.ACTIVE)
        if names := ", ".join(model.name for model in active if model.price_micros is None):
            said = f"Active, but without a price in force, so every request is refused: {names}."
            self.message_user(request, said, messages.WARNING)

    @admin.display(description="Sizes", ordering="sizes_sold")
    def size_count(self, model: Any) -> int:
        return model.sizes_sold

    @admin.display(description="Offers in use", ordering="offers_enabled")
    def offer_count(self, model: Any) -> int:
        return model.offers_enabled

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if formset.model is Price:
            for row in formset.forms:
                row.instance.actor = request.user.get_username()
        super().save_formset(request, form, formset, change)

    # --- verification ---

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only the move that there is to make."""
        state = ImageModel.objects.filter(pk=object_id).values_list("verification", flat=True).first()
        needless = f"{self.opts.app_label}_{self.opts.model_name}_{'verify' if state == VERIFIED else 'move_back'}"
        return [each for each in super().get_actions_detail(request, object_id) if each.action_name != needless]

    @action(description="Move to verified", url_path="verify", icon="verified", permissions=["change"])
    def verify(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.move(request, object_id, to_state=VERIFIED)

    @action(description="Move back to Beta", url_path="move-back", icon="undo", permissions=["change"])
    def move_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.move(request, object_id, to_state=BETA)

    def move(self, request: HttpRequest, object_id: str, *, to_state: ImageModel.Verified) -> HttpResponse:
        model = find_object(self, request, object_id)
        form = MoveForm(request.POST or None)
        evidence = self.list_evidence(model)
        if request.method == "POST" and form.is_valid():
            try:
                reason = form.cleaned_data["reason"]
                record = "\n".join([reason, *evidence])
                move_verification(model, to_state=to_state, reason=record, actor=request.user)
            except VerificationRefused as refused:
                form.add_error(None, str(refused))
            else:
                self.log_change(request, model, f"Moved to {to_state.label}: {reason}")
                self.message_user(request, f"{model.name} is {to_state.label} now.", messages.SUCCESS)
                return go_to(self, model)
        verb = "Move" if to_state == VERIFIED else "Move back"
        return show_operation(
            self,
            request,
            obj=model,
            form=form,
            title=f"{verb} to {to_state.label}: {model.name}",
            intro=introduce_move(evidence),
            submit=f"{verb} to {to_state.label}",
        )

    def list_evidence(self, model: ImageModel) -> list[str]:
        """How its offers have done, in lines that are recorded with a move; who knows of calls overrides this."""
        return []

    @admin.action(description="Move to verified", permissions=["change"])
    def verify_selected(self, request: HttpRequest, models: QuerySet[ImageModel]) -> HttpResponse | None:
        return self.ask_for_one(request, models, "verify")

    @admin.action(description="Move back to Beta", permissions=["change"])
    def move_back_selected(self, request: HttpRequest, models: QuerySet[ImageModel]) -> HttpResponse | None:
        return self.ask_for_one(request, models, "move_back")

    def ask_for_one(self, request: HttpRequest, models: QuerySet[ImageModel], operation: str) -> HttpResponse | None:
        """To the page that asks for the reason; every model has its own."""
        if len(models) != 1:
            self.message_user(request, "Select one model: each move has a reason of its own.", messages.ERROR)
            return None
        return HttpResponseRedirect(reverse(f"admin:models_registry_imagemodel_{operation}", args=[models[0].pk]))


def introduce_move(evidence: Sequence[str]) -> str:
    said = "Customers see this state on the model's page and in the API. You and your reason are recorded"
    if not evidence:
        return f"{said}."
    return format_html("{}, with what follows:{}", said, format_html_join("", "<br>{}", ((line,) for line in evidence)))


@admin.register(Price)
class PriceAdmin(AppendOnlyMixin, ModelAdmin):
    form = PriceForm
    fields = ("model", "amount", "effective_from", "reason")
    list_display = ("model", "amount", "effective_from", "force", "reason", "actor", "created_at")
    list_filter = ("model",)
    list_select_related = ("model",)
    ordering = ("-effective_from", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        now = timezone.now()
        later = Price.objects.filter(model=OuterRef("model"), effective_from__lte=now).filter(
            Q(effective_from__gt=OuterRef("effective_from"))
            | Q(effective_from=OuterRef("effective_from"), id__gt=OuterRef("id"))
        )
        return super().get_queryset(request).annotate(replaced=Exists(later), begun=Q(effective_from__lte=now))

    def get_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        return (*self.fields, "actor", "created_at") if obj else self.fields

    @admin.display(description="Price per image (¥)", ordering="amount_micros")
    def amount(self, price: Price) -> str:
        return format_money(price.amount_micros, price.currency)

    @display(description="State", label=PRICE_COLOURS)
    def force(self, price: Any) -> str:
        if not price.begun:
            return "to come"
        return "replaced" if price.replaced else "in force"

    def save_model(self, request: HttpRequest, obj: Price, form: Any, change: bool) -> None:
        obj.actor = request.user.get_username()
        super().save_model(request, obj, form, change)


@admin.register(Verification)
class VerificationAdmin(ReadOnlyAdmin):
    list_display = ("model", "at", "from_state", "to_state", "actor", "said")
    list_filter = ("model", "to_state")
    list_select_related = ("model", "actor")

    @admin.display(description="Reason")
    def said(self, move: Verification) -> str:
        """Its first line: figures follow on the page of the move."""
        return move.reason.partition("\n")[0]
