# The gateway: exports at /models (read-only), TorchServe's key in TORCH_SVC_TOKEN_FILE. Writes nothing but, where
# deployments.toml promotes a shadow, to /app/.run/gateway: a volume there has its owner.
ARG BASE

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /build
COPY deploy/images/build.sh deploy/images/locks/proto.txt ./
COPY deploy/images/wheels wheels
COPY proto proto
RUN sh build.sh proto proto.txt
COPY deploy/images/locks/gateway.txt ./
RUN sh build.sh install gateway.txt
# Addresses and ports alone: what else somebody has in .env, a key perhaps, stays out of the image.
COPY .env ./
RUN grep -E '^[A-Z0-9_]+_(ADDR|PORT)=' .env >app/.env
COPY deployments.toml app/
COPY servepath app/servepath
COPY services app/services
RUN sh build.sh compile

FROM ${BASE}
# No pip in any of the places where Python's image or Debian has it, and no program that changes its user.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
        /usr/lib/python3.11/ensurepip /usr/share/python-wheels \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/app /app
RUN mkdir -p /app/.run/gateway && chown 65532:65532 /app/.run/gateway
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.gateway"]
CMD ["--host", "0.0.0.0", "--exports", "/models"]
