"""The books as CSV. Lines are ordered by account, then by the ledger's own numbers; ids are for good.

Days and months are cut in each account's time zone by `booked_at`, times carry that zone's offset at that moment.
Amounts are plain decimals with six places and their currency in a column of its own. RFC 4180, UTF-8.

charges     One line per charged image. `entry_id` is the ledger entry, `generation_id` and `slot` the image; `amount`
            is what was charged, above zero. `price_version` is the list price's, `account_price_version` that of a
            price agreed with the account, where there was one.
ledger      Every entry: `amount` as booked (charges are negative), `balance_after` the account's balance after it in
            the order of `sequence`. A refund names what it corrects: `reference` is the charge's `entry_id`,
            `corrects_generation_id`, `corrects_slot` and `corrects_month` (of its booking) say what that was.
statement   For each account and month, by `section`:
              opening_balance   the sum of all that was booked before `first_day`
              movement          one line per `kind`, also where nothing moved: `entries`, `amount`
              model             one line per kind, model, unit price, price version and agreed price version
              correction        each refund and adjustment by itself, with what it corrects
              closing_balance   opening_balance + Σ movement
              control           `entries` and `amount` of all movements, the first and the last `sequence`
            A month that was closed reads as it did then, byte for byte.
"""

from billing.exports.plans import ExportError, Order, Plan, make_plan
from billing.exports.streams import HEADERS, name_file, stream_export, write_rows

__all__ = [
    "HEADERS",
    "ExportError",
    "Order",
    "Plan",
    "make_plan",
    "name_file",
    "stream_export",
    "write_rows",
]
