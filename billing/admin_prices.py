"""Agreed prices in the admin: appended with a reason, never edited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action, display

from billing.forms import AccountPriceForm
from billing.models import AccountPrice
from billing.prices import Kind, append_account_price
from models_registry.amounts import format_money
from models_registry.backoffice import AppendOnlyMixin, ReadOnlyInline, find_object

FORCE_COLOURS = {"in force": "success", "to come": "info"}


def tell_terms(price: AccountPrice) -> str:
    """`¥0.18 per image`, `12.5 % off`, `list price`."""
    if price.kind == Kind.FIXED:
        return f"{format_money(price.amount_micros, price.currency)} per image"
    if price.discount_basis_points is not None:
        whole, hundredths = divmod(price.discount_basis_points, 100)
        return f"{whole}.{hundredths:02d}".rstrip("0").rstrip(".") + " % off the list price"
    return "list price"


def tell_force(price: Any) -> str:
    if not price.begun:
        return "to come"
    return "replaced" if price.replaced else "in force"


def mark_force(prices: QuerySet[AccountPrice]) -> QuerySet[AccountPrice]:
    """With what `tell_force` needs."""
    now = timezone.now()
    later = AccountPrice.objects.filter(
        account=OuterRef("account"), model=OuterRef("model"), effective_from__lte=now
    ).filter(
        Q(effective_from__gt=OuterRef("effective_from"))
        | Q(effective_from=OuterRef("effective_from"), id__gt=OuterRef("id"))
    )
    return prices.annotate(replaced=Exists(later), begun=Q(effective_from__lte=now))


class AccountPriceInline(ReadOnlyInline):
    model = AccountPrice
    fields = ("model", "terms", "effective_from", "force", "reason", "actor")
    hide_title = False
    show_change_link = True
    verbose_name_plural = "agreed prices (appended, never edited)"

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccountPrice]:
        return mark_force(super().get_queryset(request).select_related("model"))

    @admin.display(description="Terms")
    def terms(self, price: AccountPrice) -> str:
        return tell_terms(price)

    @admin.display(description="State")
    def force(self, price: Any) -> str:
        return tell_force(price)


class AccountAgreements:
    """What the page of an account has to do with agreed prices."""

    def has_agree_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.add_accountprice")

    @action(description="Agree a price", url_path="agree-price", icon="handshake", permissions=["agree"])
    def agree_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """To the form of a new price, with the account filled in."""
        account = find_object(self, request, object_id)
        return HttpResponseRedirect(f"{reverse('admin:billing_accountprice_add')}?account={account.pk}")


@admin.register(AccountPrice)
class AccountPriceAdmin(AppendOnlyMixin, ModelAdmin):
    form = AccountPriceForm
    list_display = ("account", "model", "terms", "effective_from", "force", "reason", "actor", "created_at")
    list_filter = (("account", AutocompleteSelectFilter), "model", "kind")
    list_filter_submit = True
    list_select_related = ("account", "model")
    autocomplete_fields = ("account",)
    ordering = ("-effective_from", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccountPrice]:
        return mark_force(super().get_queryset(request))

    def get_fieldsets(self, request: HttpRequest, obj: AccountPrice | None = None) -> Any:
        if obj is None:
            terms = "kind", ("amount", "discount"), "effective_from"
            return ((None, {"fields": (("account", "model"), *terms, "reason")}),)
        when = ("effective_from", "force", "created_at")
        return ((None, {"fields": (("account", "model", "terms"), when, ("reason", "actor"))}),)

    def get_readonly_fields(self, request: HttpRequest, obj: AccountPrice | None = None) -> tuple[str, ...]:
        return () if obj is None else ("terms", "force")

    @admin.display(description="Terms")
    def terms(self, price: AccountPrice) -> str:
        return tell_terms(price)

    @display(description="State", label=FORCE_COLOURS)
    def force(self, price: Any) -> str:
        return tell_force(price)

    def save_model(self, request: HttpRequest, obj: AccountPrice, form: Any, change: bool) -> None:
        """Only ever a new version."""
        appended = append_account_price(
            obj.account,
            obj.model,
            **form.cleaned_data["terms"],
            effective_from=form.cleaned_data["effective_from"],
            reason=form.cleaned_data["reason"],
            actor=request.user.get_username(),
        )
        obj.__dict__.update(appended.__dict__)
