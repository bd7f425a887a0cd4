"""Every durable step of a generation, as operations of the lane: many items, few statements, one verdict each.

    opening     room found, money held, generation and first attempts written, or nothing at all
    queue       further calls of running generations: attempts where there is room, places in the queue where not
    turns       attempts instead of places, when room comes back
    attempts    task ids, how calls ended, and with it the room they had
    finishing   images booked and charged, the rest released
    leases      who drives what, and whether it was answered
    shadows     copies of requests for offers on trial, and how they end (shadow_ends)

Conditional UPDATEs decide who wins; a driver that lost its lease changes nothing. Each operation may be run again
with the same items, which is what the lane does after a lost connection.
"""
