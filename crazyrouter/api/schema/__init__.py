"""The API described as OpenAPI 3.1, made by drf-spectacular from the views and serializers that serve it.

`manage.py openapi` writes the document, which is checked in and served at /openapi.json. Only that command imports
drf-spectacular: settings name `hooks` by its dotted path, and `hooks` brings the rest.

    fields      the request's own fields and bounds, read from the very instances that validate it
    answers     serializers of the answers
    operations  what each view of the API is called, takes and gives; its `frame`
    service     the same for files, health and the document itself
    faults      which errors each operation can give
    headers     which headers each operation reads and sends
    examples    requests and answers to show
    words       what is told in prose
    hooks       where drf-spectacular is met: endpoints in, document out
    views       GET /openapi.json
"""
