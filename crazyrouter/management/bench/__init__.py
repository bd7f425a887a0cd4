"""What the hot path costs, measured against a relay that only relays. See `manage.py bench --help`.

Each process of a measurement is its own: the production server and the relay on one CPU, what loads and serves them
on another. No figure is given before the books, the upstream's count and the clients' count say the same.

    plan        what is measured, how long
    site        database, fake upstream, product and relay, started, pinned, stopped
    measure     the loads, their figures, the exactness of each
    report      the table and the targets
    upstream, relay, load, shop, books, postgresql      the processes, each run by `python -m`
"""
