"""One pass over all that names a generation, for those whose figures do not agree: whom the rules then look at.

Each rule that takes suspects would otherwise scan and join these tables on its own, a million rows each time. Here
everything is grouped by generation once, and each condition is the negation of what follows when those rules hold:
whoever breaks one of them is found here. A generation that runs may be found without breaking any.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.prices import UNIT_PRICE_SQL

#: With more suspects than this the rules are asked about everything.
MANY = 10_000

# `tally` is 3 exactly where all of these agree: 1 is the generation and 2 its hold, of which there is one each at most;
# each picture delivered is 4 and its charge takes 4 off; each picture delivered is 2^40, too, and each that an attempt
# brought takes that off. One number, since every aggregate is carried along for millions of rows.
# `captured` comes to 0: what the hold says less what was charged. The others are the same wherever they are said: the
# account, both price versions in one number, and the unit price, below zero where it is wrong by itself.
# And each charge has its picture, each picture its charge.
QUERY = f"""
    SELECT id FROM (
        SELECT g.id, 1 + g.delivered * (4 + 1099511627776) AS tally, 0 AS captured, g.account_id,
            g.price_id * 4294967296 + COALESCE(g.account_price_id, 0) AS price,
            CASE WHEN p.model_id = g.model_id AND ({UNIT_PRICE_SQL}) = g.unit_price_micros
                AND (g.account_price_id IS NULL OR a.account_id = g.account_id AND a.model_id = g.model_id)
                THEN g.unit_price_micros ELSE -1 END AS unit
        FROM generation_generation g
        LEFT JOIN models_registry_price p ON p.id = g.price_id
        LEFT JOIN billing_accountprice a ON a.id = g.account_price_id
        UNION ALL
        SELECT reference, 2, captured_micros, account_id, NULL, NULL FROM billing_hold
        UNION ALL
        SELECT reference, -4, amount_micros, account_id,
            COALESCE(price_version, -1) * 4294967296 + COALESCE(account_price_version, 0),
            CASE WHEN unit_price_micros = -amount_micros THEN unit_price_micros ELSE -2 END
        FROM billing_ledgerentry WHERE NOT kind <> 'charge'
        UNION ALL
        SELECT generation_id, images * -1099511627776, 0, NULL, NULL, NULL FROM generation_attempt
        WHERE images > 0 AND purpose = 'customer') facts
    GROUP BY id
    HAVING SUM(tally) <> 3 OR SUM(captured) <> 0 OR MIN(account_id) <> MAX(account_id)
        OR MIN(price) <> MAX(price) OR MIN(unit) <> MAX(unit)
    UNION
    SELECT e.reference FROM billing_ledgerentry e
    LEFT JOIN files_storedimage i ON i.generation_id = e.reference AND i.slot = e.line
    WHERE e.kind = 'charge' AND i.generation_id IS NULL
    UNION
    SELECT i.generation_id FROM files_storedimage i
    LEFT JOIN billing_ledgerentry e ON e.kind = 'charge' AND e.reference = i.generation_id AND e.line = i.slot
    WHERE e.kind IS NULL
    LIMIT %s
"""  # noqa: S608 - constants of this code base


def find_suspects(connection: BaseDatabaseWrapper) -> list[str] | None:
    """References to look at, or None where there are too many to name them one by one."""
    with connection.cursor() as cursor:
        cursor.execute(QUERY, [MANY + 1])
        found = [reference for (reference,) in cursor.fetchall()]
    return found if len(found) <= MANY else None
