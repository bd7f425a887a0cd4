"""Admin lists of tables with millions of rows: no page asks the database to look at more than it can at once.

Nothing is counted to the end, rows come in the order of an index, and what no index answers is looked for among the
newest rows only, which the filter's name says.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ChoicesFieldListFilter, FieldListFilter, RelatedFieldListFilter
from django.contrib.admin.views.main import ORDER_VAR
from django.core.paginator import Paginator
from django.db.models import BigIntegerField, ExpressionWrapper, F, QuerySet, Value
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.views import ChangeList

#: Rows that the pages of one list reach; what is older is found by a filter or a search.
REACH = 10_000
#: Rows among which a filter without an index looks.
NEWEST = 50_000


class CappedPaginator(Paginator):
    """Counts as far as its pages reach. A full count reads the whole table for a number that nobody needs."""

    template_name = "admin/capped_pagination.html"

    @cached_property
    def _counted(self) -> int:
        # Without an order: whatever index answers the filters soonest. `values` leaves out columns and joins.
        rows: Any = self.object_list
        return rows.order_by().values("pk")[: REACH + 1].count()

    @property
    def is_capped(self) -> bool:
        return self._counted > REACH

    @property
    def count(self) -> int:
        return min(self._counted, REACH)


class FixedOrderChangeList(ChangeList):
    """In the order of the page alone, whatever `?o=` asks: most columns have no index to be sorted by."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)

    def get_results(self, request: HttpRequest) -> None:
        """The heading says nothing of a number that is only how far the pages reach."""
        super().get_results(request)
        if self.paginator.is_capped:
            self.full_result_count = self.result_count


def keep_newest(queryset: QuerySet[Any], order: str) -> QuerySet[Any]:
    """The newest rows of these, by a field that an index of theirs ends with, like `-id`."""
    name = order.removeprefix("-")
    oldest = queryset.order_by(order).values_list(name, flat=True)[NEWEST - 1 : NEWEST].first()
    return queryset if oldest is None else queryset.filter(**{f"{name}__gte": oldest})


def match_each(queryset: QuerySet[Any], field: str, value: Any) -> QuerySet[Any]:
    """Rows with this value, compared one by one: so that no index of this field is taken where another one is better.

    SQLite keeps no statistics: it would rather walk all rows of an account than the few that are refunds.
    """
    compared = ExpressionWrapper(F(field) + Value(0), output_field=BigIntegerField())
    return queryset.alias(compared=compared).filter(compared=value)


class AmongNewest(FieldListFilter):
    """A filter that no index answers. To stand behind those that one does."""

    #: Values that an index of their own answers.
    answered: tuple[str, ...] = ()

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        self.order = model_admin.get_ordering(request)[0]
        self.title = f"{self.title} (newest {NEWEST:,})"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if not self.used_parameters:
            return queryset
        if not self.is_answered(request):
            return super().queryset(request, keep_newest(queryset, self.order))
        # By that index first: SQLite would rather walk all rows in the order of the page.
        found = super().queryset(request, queryset.model.objects.all())
        return None if found is None else queryset.filter(pk__in=found.values("pk"))

    def is_answered(self, request: HttpRequest) -> bool:
        """Whether there is an index for just this choice."""
        chosen: Any = self.used_parameters.values()
        return all(value in self.answered for values in chosen for value in values)


class NewestChoicesFilter(AmongNewest, ChoicesFieldListFilter):
    pass


class NewestRelatedFilter(AmongNewest, RelatedFieldListFilter):
    pass


class AccountFilter(AutocompleteSelectFilter):
    """By account, along its index; but one by one among the rows of another filter that has few of them."""

    #: `parameter=value` of other filters with an index of their own.
    few: tuple[str, ...] = ()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        account = str(self.value() or "")
        if account.isdecimal() and any(f"{name}={value}" in self.few for name, value in request.GET.items()):
            return match_each(queryset, "account_id", int(account))
        return super().queryset(request, queryset)
