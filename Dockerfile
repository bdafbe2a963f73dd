# SPDX-License-Identifier: GPL-3.0-or-later
# omps-worker as an image:
#     docker build -t omps-worker .
#     docker run --read-only --tmpfs /tmp -v ./site:/etc/fedora-messaging:ro omps-worker
# The base may be any Debian with Python 3.10 or newer; nothing but Debian's packages and PyPI is asked for.
# A tag moves: releases name the base with its digest, --build-arg BASE=debian:bookworm-slim@sha256:…; see docs/releasing.md.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev libkrb5-dev python3-dev python3-venv
# pip and what it builds with stay outside the environment that is shipped.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/omps-worker
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# Nothing is built or installed whose hash is not known; see docs/releasing.md.
COPY requirements requirements
RUN /build/bin/pip install --require-hashes -r requirements/build.txt
# -s: what is compiled here needs no symbols.
RUN LDFLAGS=-s /build/bin/pip wheel --no-build-isolation --use-pep517 --require-hashes -r requirements/runtime.txt -w /wheels
COPY . .
# The libraries' own tests are a tenth of the whole.
RUN /build/bin/pip wheel --no-build-isolation --use-pep517 --no-deps -w /wheels . \
 && /build/bin/pip --python /opt/omps-worker/bin/python install --no-index --no-deps /wheels/*.whl \
 && /build/bin/pip --python /opt/omps-worker/bin/python check \
 && find /opt/omps-worker -type d '(' -name test -o -name tests ')' -prune -exec rm -rf {} +
# What is in it, apart from Debian's packages.
RUN /opt/omps-worker/bin/python -m scripts.sbom /opt/omps-worker/share/doc/omps-worker/sbom.cdx.json

FROM ${BASE}
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libgssapi-krb5-2 python3 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
           /var/log/alternatives.log
COPY --from=build /opt/omps-worker /opt/omps-worker

ARG BASE
ARG VERSION=unreleased
LABEL org.opencontainers.image.title="omps-worker" \
      org.opencontainers.image.description="Publishes the operator manifests of finished Koji builds to an app registry" \
      org.opencontainers.image.licenses="GPL-3.0-or-later" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.version="${VERSION}"

# With a read-only root only TMPDIR must be writable: archives are unpacked there.
ENV PATH=/opt/omps-worker/bin:/usr/local/bin:/usr/bin:/bin \
    TMPDIR=/tmp \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
# For `api`; the monitoring port is 9100.
EXPOSE 8080 9100
STOPSIGNAL SIGTERM
# Asks the worker's own port whether its loop turns. A broker that is away is waited for, and no reason to be restarted.
HEALTHCHECK --interval=60s --timeout=15s --start-period=30s --retries=3 CMD ["python3", "-m", "omps_worker.monitoring.port"]
# Heeds CA_URL, then becomes omps-worker. WORKERS_NUM and WORKER_TIMEOUT are for `api`.
ENTRYPOINT ["python3", "-m", "omps_worker.cli.container"]
CMD ["run"]
