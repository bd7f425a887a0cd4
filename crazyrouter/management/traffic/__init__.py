"""Traffic that never was, for benchmarks: what `manage.py make_traffic` writes.

plan    how much, since when, from which seed
cast    who buys, at which prices, over which channel; made through the ORM
story   generation after generation as rows, the same for the same seed
books   the rows of money, numbered and added up: THE ONE EXCEPTION to `billing.ledger`
bulk    rows into tables: COPY or executemany, and the commits
"""
