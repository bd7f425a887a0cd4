"""THE USE CASE: a customer's order becomes stored images, and exactly those are charged.

snapshot   what may be sold and routed now, at most two seconds old
engine     open -> run -> finish, as detached tasks of the process
journal    every durable step, as statements over many items
lane       group commits: one writer thread a process
"""
