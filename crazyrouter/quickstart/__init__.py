"""From an empty folder to a running product: what `manage.py quickstart` prepares before and after Django loads."""
