"""Every setting comes from the environment; a value that cannot be read is a start-up error that names it.

The environment file is `ENV_FILE`, else `.env` beside manage.py, else `var/.env` (what `quickstart` writes).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from crazyrouter.navigation import UNFOLD  # noqa: F401 - a setting

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = environ.FileAwareEnv()


def read_env_file() -> None:
    """Load the environment file; variables that are already set win. A named file must exist."""
    named = os.environ.get("ENV_FILE")
    if named:
        if not Path(named).is_file():
            raise ImproperlyConfigured(f"ENV_FILE names {named}, which is not a readable file")
        env.read_env(named)
        return
    for candidate in (BASE_DIR / ".env", VAR_DIR / ".env"):
        if candidate.is_file():
            env.read_env(candidate)
            return


def read_bool(name: str, *, default: bool) -> bool:
    """Exactly true/false/1/0/yes/no/on/off: `DEBUG=flase` must not silently mean False."""
    raw = os.environ.get(name)
    if raw is None or raw == "":
        return default
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[raw.strip().lower()]
    except KeyError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a boolean: use true or false") from None


def read_secret(name: str, *, development: str) -> str:
    """A secret; the development value is only used with DEBUG on."""
    value: str = env.str(name, default="")
    if value:
        return value
    if DEBUG:
        return development
    raise ImproperlyConfigured(f"{name} is not set: it is required unless DEBUG is on")


def read_int(name: str, *, default: int, least: int = 0) -> int:
    raw = os.environ.get(name, "")
    try:
        value = int(raw) if raw else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number") from None
    if value < least:
        raise ImproperlyConfigured(f"{name}={value} is below {least}")
    return value


def read_seconds(name: str, *, default: float) -> float:
    raw = os.environ.get(name, "")
    try:
        value = float(raw) if raw else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a number of seconds") from None
    if not 0 < value < 10**7:
        raise ImproperlyConfigured(f"{name}={raw!r} must be above 0 seconds")
    return value


def read_broker_options(url: str) -> dict[str, Any]:
    """The folders of a filesystem broker, which kombu takes as options and not from the URL.

    Messages are not kept once read: kombu would never delete them. The host is only there because kombu warns without.
    """
    parts = urlsplit(url)
    if parts.scheme != "filesystem":
        return {}
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise ImproperlyConfigured(f"CELERY_BROKER_URL={url!r}: write filesystem://localhost/absolute/path")
    folder = Path(unquote(parts.path))
    return {
        "data_folder_in": str(folder / "data"),
        "data_folder_out": str(folder / "data"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.1,
    }


read_env_file()

DEBUG = read_bool("DEBUG", default=False)
SECRET_KEY = read_secret("SECRET_KEY", development="development-only-secret-key-" + "x" * 40)
API_KEY_PEPPER = read_secret("API_KEY_PEPPER", development="development-only-pepper")
#: Fernet keys for carrier credentials: the first encrypts, all decrypt.
CREDENTIAL_KEYS: list[str] = [key for key in env.str("CREDENTIAL_KEYS", default="").split(",") if key]
if not CREDENTIAL_KEYS:
    if not DEBUG:
        raise ImproperlyConfigured("CREDENTIAL_KEYS is not set: it is required unless DEBUG is on")
    CREDENTIAL_KEYS = ["ZGV2ZWxvcG1lbnQtb25seS1jcmVkZW50aWFsLWtleSE="]

PUBLIC_BASE_URL: str = env.str("PUBLIC_BASE_URL", default="http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[urlsplit(PUBLIC_BASE_URL).hostname or "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_BASE_URL]
TRUSTED_PROXY_COUNT = read_int("TRUSTED_PROXY_COUNT", default=0)

# Applications
INSTALLED_APPS = [
    "unfold",  # must precede django.contrib.admin
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "simple_history",
    "models_registry",
    "providers",
    "billing",
    "crazyrouter.files",
    "crazyrouter.generation",
    "crazyrouter",
]

# For everything but /v1 and /files, which crazyrouter/api/lean.py serves without middleware.
MIDDLEWARE = [
    "crazyrouter.ops.policy.set_policy",
    "django.middleware.security.SecurityMiddleware",
    "crazyrouter.ops.statics.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]

ROOT_URLCONF = "crazyrouter.urls"
ASGI_APPLICATION = "crazyrouter.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "libraries": {"pages": "crazyrouter.pages.filters"},
        },
    }
]

# Database
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'crazyrouter.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        {
            # A transaction takes the writer's lock when it begins, so it can never fail half way for the lock.
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # FULL: a commit that was answered survives a power cut.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        }
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Text and time
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
FORMAT_MODULE_PATH = ["crazyrouter.formats"]
TIME_ZONE = "Asia/Shanghai"

# Static files of the admin
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(VAR_DIR / "static")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "crazyrouter.ops.statics.StaticStorage"},
}
WHITENOISE_AUTOREFRESH = DEBUG

# Security of everything outside /v1
HTTPS = PUBLIC_BASE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = False  # the edge in front terminates TLS and redirects
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # SECURE_SSL_REDIRECT: see above
LOGIN_REDIRECT_URL = "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# Celery: the database row is the truth, the broker is a doorbell.
DEFAULT_BROKER_URL = f"filesystem://localhost{quote(str(VAR_DIR / 'broker'))}"
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", default=DEFAULT_BROKER_URL)
CELERY_BROKER_TRANSPORT_OPTIONS = read_broker_options(CELERY_BROKER_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
# A task may run twice rather than never: every one of ours bears it.
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Remote control would poll the broker's folder for nothing: there is one worker, and a supervisor watches it.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = not CELERY_BROKER_URL.startswith("filesystem:")
CELERY_TIMEZONE = TIME_ZONE

# The public contract
MAX_BODY_BYTES = read_int("MAX_BODY_BYTES", default=64 * 1024, least=1024)
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")
WEB_PROCESSES = read_int("WEB_PROCESSES", default=1, least=1)

# Above this amount in CNY a second person approves top-ups, refunds and adjustments; 0: always.
APPROVAL_THRESHOLD: str = env.str("APPROVAL_THRESHOLD", default="") or "10000.00"

# Times, in seconds unless the name says otherwise
GENERATION_DEADLINE_S = read_seconds("GENERATION_DEADLINE_S", default=300)
QUEUE_LIMIT_S = read_seconds("QUEUE_LIMIT_S", default=120)
LEASE_S = read_seconds("LEASE_S", default=20)
LEASE_REFRESH_S = read_seconds("LEASE_REFRESH_S", default=5)
RECOVERY_S = read_seconds("RECOVERY_S", default=5)
SYNC_HORIZON_S = read_seconds("SYNC_HORIZON_S", default=330)
ASYNC_HORIZON_S = read_seconds("ASYNC_HORIZON_S", default=3 * 3600 + 600)
FILE_TTL_HOURS = read_seconds("FILE_TTL_HOURS", default=72)
PROMPT_TTL_DAYS = read_seconds("PROMPT_TTL_DAYS", default=30)

# Files
FILE_STORAGE_URL: str = env.str("FILE_STORAGE_URL", default=(VAR_DIR / "files").as_uri())
CONTENT_PRODUCER: str = env.str("CONTENT_PRODUCER", default="crazyrouter")

# Hosts and networks, each with a port, that may be private or http (providers/allowance.py); never from the admin.
EGRESS_ALLOW: list[str] = env.list("EGRESS_ALLOW", default=[])

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {"httpx": {"level": "WARNING"}},  # its request lines would carry signed upstream URLs
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
# Imported by `manage.py openapi` alone; everything that the document says stands in crazyrouter/api/schema.
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Crazyrouter API",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "",
    "SORT_OPERATIONS": False,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "PREPROCESSING_HOOKS": ["crazyrouter.api.schema.hooks.list_endpoints"],
    "POSTPROCESSING_HOOKS": ["crazyrouter.api.schema.hooks.complete"],
}
