# One image for all roles: `docker run … weavloader processor`; without a role it runs all of them under supervisor.
# The base is pinned by its version; CI of yours may pin it by digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
COPY requirements.txt /build/requirements.txt
# Every version is in the file; nothing is resolved and nothing compiled.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary=:all: \
    -r /build/requirements.txt \
 && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="weavloader" \
      org.opencontainers.image.description="Captions, embeds and stores every image of a stream, and finds it again"
# The group is 0, as arbitrary users of OpenShift have it; nothing but the folders below may be written by it.
# A container that mounts the data read-only has a /data/run of its own in it, for which there must be the folder.
RUN useradd --uid 10001 --gid 0 --home-dir /data --no-create-home --shell /usr/sbin/nologin weavloader \
 && install -d -o 10001 -g 0 -m 0770 /data /data/run /secrets /cache
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY . /app
RUN /opt/venv/bin/python -m compileall -q /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_TRIM_THRESHOLD_=536870912 \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    XDG_CACHE_HOME=/tmp/cache \
    WEAVLOADER_DATA_DIR=/data \
    WEAVLOADER_METRICS_HOST=0.0.0.0 \
    WEAVLOADER_FLOWER_HOST=0.0.0.0 \
    WEAVLOADER_WEB_HOST=0.0.0.0
USER 10001:0
VOLUME /data
# Metrics and probes, Flower, the page
EXPOSE 8080 5555 8000
# A role that stops takes nothing new, ends what it has in hand for up to WEAVLOADER_STOP_SECONDS (4), and hands the rest
# back: within Docker's 10 s. To let slow models end, set it and WEAVLOADER_STOP_LIMIT higher and give the container more
# (`docker stop --time`), as docker-compose.yml does.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["/opt/venv/bin/python", "-S", "/app/deploy/health.py", "all"]
ENTRYPOINT ["/app/deploy/entrypoint"]
CMD ["all"]
