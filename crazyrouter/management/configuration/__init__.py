"""What is sold and how it is got, as one YAML document: `manage.py config apply FILE` and `config export`.

Two rules decide what a file means. What has a name (a family, a model, an account, a channel, a field of one of them)
and is not in the file stays as it is. A list in the file (the sizes of a model, the offers of a channel) is the whole
list.

    document    text to nodes that know their lines
    values, fields, entries    what may stand where, as tables
    families, catalog, prices    the registry's part: families, models, sizes, prices
    accounts, channels, offers, secrets    the providers' part
    edits    what is to be written, and how it reads as a difference
    applying, exporting    the two directions; `schema` describes the same tables to editors

Nothing is written before the whole file has been found right.
"""
