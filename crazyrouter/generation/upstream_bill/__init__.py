"""An upstream's bill held against our attempts: every difference between the two.

rows          both sides as values
matching      which attempt an order on the bill belongs to
differences   what is then not the same: a pure function over the rows
reading       the bill over HTTP, our attempts from the database
"""
