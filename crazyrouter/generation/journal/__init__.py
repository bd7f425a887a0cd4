"""Every durable step of a generation, as operations of the lane: many items, few statements, one verdict each.

    opening     money held, generation and first attempts written, or nothing at all
    attempts    further attempts, task ids, how calls ended
    finishing   images booked and charged, the rest released
    leases      who drives what, and whether it was answered

Conditional UPDATEs decide who wins; a driver that lost its lease changes nothing. Each operation may be run again
with the same items, which is what the lane does after a lost connection.
"""
