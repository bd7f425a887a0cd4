"""The settings of the product with test values: no environment file is read, nothing is shared with a real one."""

import os
import tempfile
from pathlib import Path

# A file of its own for every pytest process: threads and server processes open it by path.
if "CRAZYROUTER_TEST_SCRATCH" not in os.environ:
    os.environ["CRAZYROUTER_TEST_SCRATCH"] = tempfile.mkdtemp(prefix="crazyrouter-test-")
SCRATCH = Path(os.environ["CRAZYROUTER_TEST_SCRATCH"])
os.environ["ENV_FILE"] = str(SCRATCH / "test.env")
(SCRATCH / "test.env").touch()
os.environ.setdefault("DEBUG", "true")
os.environ.setdefault("DATABASE_URL", f"sqlite:///{SCRATCH / 'main.sqlite3'}")
os.environ.setdefault("FILE_STORAGE_URL", f"file://{SCRATCH / 'files'}")
os.environ.setdefault("CELERY_BROKER_URL", f"filesystem://{SCRATCH / 'broker'}")

from crazyrouter.settings import *  # noqa: E402, F403
from crazyrouter.settings import DATABASES, STORAGES  # noqa: E402

DEBUG = False
# What finds no room is told so at once; tests of the queue wait longer.
QUEUE_LIMIT_S = 1.0
ALLOWED_HOSTS = ["*"]
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Not ":memory:": races are tested with threads that each open the file.
    DATABASES["default"]["TEST"] = {"NAME": str(SCRATCH / "test.sqlite3")}
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
