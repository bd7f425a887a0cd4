#!/usr/bin/env python
"""The command line of the product: `manage.py quickstart` starts everything."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")
    if sys.argv[1:2] == ["quickstart"]:
        # Settings are read when Django loads: what they say must be written down before.
        from crazyrouter.quickstart.bootstrap import prepare

        prepare(sys.argv[2:])
    if sys.argv[1:2] in (["bench"], ["drill"], ["openapi"], ["simulate"]):
        # What they start has settings of its own; this process needs any that load, on a bare machine, too.
        os.environ.setdefault("DEBUG", "true")
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        # Without settings Django's own commands go on, and fail at apps that were never loaded.
        django.setup()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
