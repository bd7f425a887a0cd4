"""One pass over all that names a generation, for those whose figures do not agree: whom the rules then look at.

Each rule that takes suspects would otherwise scan and join these tables on its own, a million rows each time. Here
everything is grouped by generation once, and each condition is the negation of what follows when those rules hold:
whoever breaks one of them is found here. A generation that runs may be found without breaking any.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.prices import UNIT_PRICE_SQL
from crazyrouter.sql import is_postgresql

#: With more suspects than this the rules are asked about everything.
MANY = 10_000

# Sums that must come to 0: pictures delivered less charged, delivered less brought by attempts, micro-units captured
# less charged. What must be the same wherever it is said: account, price versions, unit price (below zero where it is
# wrong by itself). And each charge has its picture, each picture its charge.
QUERY = f"""
    SELECT id FROM (
        SELECT g.id, 1 AS generations, 0 AS holds, g.delivered AS charged, g.delivered AS brought, {{zero}} AS captured,
            g.account_id, g.price_id, COALESCE(g.account_price_id, 0) AS agreed,
            CASE WHEN p.model_id = g.model_id AND ({UNIT_PRICE_SQL}) = g.unit_price_micros
                AND (g.account_price_id IS NULL OR a.account_id = g.account_id AND a.model_id = g.model_id)
                THEN g.unit_price_micros ELSE -1 END AS unit
        FROM generation_generation g
        LEFT JOIN models_registry_price p ON p.id = g.price_id
        LEFT JOIN billing_accountprice a ON a.id = g.account_price_id
        UNION ALL
        SELECT reference, 0, 1, 0, 0, captured_micros, account_id, NULL, NULL, NULL FROM billing_hold
        UNION ALL
        SELECT reference, 0, 0, -1, 0, amount_micros, account_id, COALESCE(price_version, -1),
            COALESCE(account_price_version, 0),
            CASE WHEN unit_price_micros = -amount_micros THEN unit_price_micros ELSE -2 END
        FROM billing_ledgerentry WHERE NOT kind <> 'charge'
        UNION ALL
        SELECT generation_id, 0, 0, 0, -images, 0, NULL, NULL, NULL, NULL FROM generation_attempt
        WHERE images > 0 AND purpose = 'customer') facts
    GROUP BY id
    HAVING SUM(generations) <> 1 OR SUM(holds) <> 1 OR SUM(charged) <> 0 OR SUM(brought) <> 0
        OR SUM(captured) <> 0 OR MIN(account_id) <> MAX(account_id) OR MIN(price_id) <> MAX(price_id)
        OR MIN(agreed) <> MAX(agreed) OR MIN(unit) <> MAX(unit)
    UNION
    SELECT e.reference FROM billing_ledgerentry e
    LEFT JOIN files_storedimage i ON i.generation_id = e.reference AND i.slot = e.line
    WHERE e.kind = 'charge' AND i.generation_id IS NULL
    UNION
    SELECT i.generation_id FROM files_storedimage i
    LEFT JOIN billing_ledgerentry e ON e.kind = 'charge' AND e.reference = i.generation_id AND e.line = i.slot
    WHERE e.kind IS NULL
"""  # noqa: S608 - constants of this code base


def find_suspects(connection: BaseDatabaseWrapper) -> list[str] | None:
    """References to look at, or None where there are too many to name them one by one."""
    zero = "0::bigint" if is_postgresql(connection) else "0"
    with connection.cursor() as cursor:
        cursor.execute(QUERY.format(zero=zero) + f" LIMIT {MANY + 1}")
        found = [reference for (reference,) in cursor.fetchall()]
    return found if len(found) <= MANY else None
