# The images of the service: the targets relay, tracks and separate. `make images` builds them; README.md has the arguments.

# Another base: any with Python 3.11 or newer, its venv module and certificates (tests/images/base.sh makes one of Debian's packages).
ARG BASE=docker.io/library/python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
# A mirror of the packages' index; without one, pip's and uv's own.
ARG INDEX=
# torch's own index: the builds for CPUs, or those for a graphics card (…/whl/cu130). Which one decides what the image runs on.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The model of `separate`: demo is part of the code, others are fetched while the image is built.
ARG MODEL=demo
# That of pyproject.toml.
ARG VERSION=0.1.0

FROM ${BASE} AS base
# The public base comes without bytecode, and a read-only root cannot keep any: each start would compile the library anew.
RUN python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))' | xargs python3 -m compileall -q -j 0 \
    --invalidation-mode unchecked-hash -x 'site-packages|dist-packages|/test/|/idlelib/|/tkinter/|/lib2to3/|/ensurepip/|/turtledemo/'

FROM base AS build
ARG INDEX
# A secret `ca` takes the place of the base's certificates, for networks that have their own.
ENV PIP_INDEX_URL=${INDEX} PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_DEFAULT_INDEX=${INDEX} UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/packages
WORKDIR /src
COPY requirements.txt ./
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/uv \
    && sed -n '/^uv==/,/[^\\]$/p' requirements.txt >/opt/uv/requirements.txt \
    && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /opt/uv/requirements.txt \
    && ln -s /opt/uv/bin/uv /usr/local/bin/uv \
    && uv venv --quiet --python "$(command -v python3)" /opt/packages
COPY pyproject.toml ./

FROM build AS relay-packages
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv \
    uv pip install --verify-hashes -c requirements.txt -r pyproject.toml --extra relay \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/packages/lib

FROM build AS tracks-packages
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv \
    uv pip install --verify-hashes -c requirements.txt -r pyproject.toml --extra tracks \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/packages/lib

FROM build AS separate-packages
ARG TORCH_INDEX
# What demucs wants for its own command line, and torch for compiling: nothing here imports it.
RUN printf '%s\n' sphn lameenc huggingface-hub triton sympy networkx setuptools >excludes.txt
# torch by its version alone: its builds differ, and so do their hashes. Some of its own tests are for newer Pythons.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --default-index "${TORCH_INDEX}" "$(sed -n 's/^# \(torch==.*\)/\1/p' requirements.txt)" \
    && uv pip install --verify-hashes -c requirements.txt --excludes excludes.txt -r pyproject.toml --extra separate \
    && cd /opt/packages/lib/python3*/site-packages \
    && rm -rf torch/include torch/bin/protoc* numpy/*/tests numpy/tests Crypto/SelfTest \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/torch/testing/.*/py3[0-9]+_' /opt/packages/lib

FROM relay-packages AS code
COPY . .
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --target /opt/stems . \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/stems \
    && mkdir /opt/models \
    && mv /opt/stems/stems/separate/models /opt/demo \
    && rm -r /opt/stems/stems_local

FROM code AS models
ARG MODEL
ENV PATH=/opt/stems/bin:/opt/packages/bin:${PATH} PYTHONPATH=/opt/stems STEMS_MODEL_DIR=/opt/models
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    case ${MODEL} in demo | untrained) ;; *) stems model fetch "${MODEL}" ;; esac

# Packages and code apart: a new version is a small layer, the same in all three.
FROM base AS runtime
ARG BASE
ARG VERSION
LABEL org.opencontainers.image.version=${VERSION} org.opencontainers.image.licenses=MIT \
    org.opencontainers.image.base.name=${BASE}
ENV PATH=/opt/stems/bin:/opt/packages/bin:${PATH} PYTHONPATH=/opt/stems PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001

FROM runtime AS relay
LABEL org.opencontainers.image.title=stems-relay \
    org.opencontainers.image.description="Delivers uploads as CloudEvents, and sets MinIO up"
COPY --from=relay-packages /opt/packages /opt/packages
COPY --from=code /opt/stems /opt/stems
CMD ["stems", "relay"]

FROM runtime AS tracks
LABEL org.opencontainers.image.title=stems-tracks \
    org.opencontainers.image.description="Lists and serves separated songs"
ENV PORT=8080
EXPOSE 8080
COPY --from=tracks-packages /opt/packages /opt/packages
COPY --from=code /opt/stems /opt/stems
CMD ["stems", "serve", "tracks"]

FROM runtime AS separate
ARG MODEL
LABEL org.opencontainers.image.title=stems-separate \
    org.opencontainers.image.description="Separates a song into stems with DEMUCS"
ENV PORT=8080 STEMS_MODEL=${MODEL} STEMS_MODEL_DIR=/opt/models
EXPOSE 8080
COPY --from=separate-packages /opt/packages /opt/packages
COPY --from=code /opt/stems /opt/stems
COPY --from=code /opt/demo /opt/stems/stems/separate/models
COPY --from=models /opt/models /opt/models
CMD ["stems", "serve", "separate"]
