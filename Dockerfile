FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /app
COPY requirements/base.txt requirements/base.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/base.txt \
    && useradd --system --uid 10001 --home-dir /data crazyrouter \
    && install --directory --owner crazyrouter --mode 0700 /data
COPY . .
RUN python -m compileall -q /app

# What is kept without a cluster: database, files, broker. The environment may point each of them elsewhere.
ENV DATABASE_URL=sqlite:////data/crazyrouter.sqlite3 \
    CELERY_BROKER_URL=filesystem://localhost/data/broker \
    FILE_STORAGE_URL=file:///data/files \
    STATIC_ROOT=/data/static
VOLUME /data
USER crazyrouter
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "manage.py", "serve", "--migrate", "--host", "0.0.0.0"]
