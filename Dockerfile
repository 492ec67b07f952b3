# docker build -t healthd .            (podman, buildah: add --format docker, or HEALTHCHECK is lost)
# docker run --rm -v healthd:/data -v ./healthd.toml:/etc/healthd/healthd.toml:ro healthd token create ada --role admin
# docker run --read-only --cap-drop ALL --security-opt no-new-privileges -v healthd:/data \
#   -v ./healthd.toml:/etc/healthd/healthd.toml:ro -p 8080:8080 -p 127.0.0.1:9090:9090 healthd
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/run.lock requirements/build.lock requirements/audit.lock requirements/
# The builder's tools stay here; the virtual environment alone goes into the final image.
RUN python -m venv /opt/healthd \
 && /opt/healthd/bin/python -m pip install --require-hashes --requirement requirements/run.lock \
 && python -m pip install --require-hashes --requirement requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY healthd healthd
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/healthd/bin/python -m pip install --no-deps /wheels/*.whl \
 && /opt/healthd/bin/python -m compileall -q /opt/healthd/lib \
 && /opt/healthd/bin/python -m pip uninstall --yes --quiet pip
# What the image consists of, read from what was installed.
COPY .ci/sbom .ci/sbom
RUN .ci/sbom /opt/healthd /opt/healthd/share/healthd/sbom.cdx.json

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="healthd" \
      org.opencontainers.image.description="Keeps connected social accounts alive" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      healthd.sbom="/opt/healthd/share/healthd/sbom.cdx.json"
COPY --from=build /opt/healthd /opt/healthd
# A fixed number, so that a volume's owner can be set from outside; the group is for platforms that choose the number
# themselves and give group 0 (OpenShift). The base image's installer goes: nothing here has a use for it but an intruder.
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin healthd \
 && install --directory --owner=10001 --group=0 --mode=0770 /data \
 && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/*
ENV PATH=/opt/healthd/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HEALTHD_CONFIG=/etc/healthd/healthd.toml \
    HEALTHD_LOG__FORMAT=json \
    HEALTHD_SERVER__ADMIN_LISTEN=0.0.0.0:9090
USER 10001:10001
# Where the settings say nothing of the store it is healthd.db in this folder; PostgreSQL's driver is in the image, too.
WORKDIR /data
VOLUME /data
# A container's loopback is its own: probes, Prometheus and operators come from outside. So it starts only where the
# settings or the database have an access token, [access.oidc] or [access.proxy], or with HEALTHD_ACCESS__PAGES=false.
# The private port is not exposed, so that `-P` does not publish it.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["healthd", "healthcheck"]
ENTRYPOINT ["healthd"]
CMD ["run"]
