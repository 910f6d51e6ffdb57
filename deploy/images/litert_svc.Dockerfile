# litert_svc: exports at /models (read-only). Writes nothing.
ARG BASE

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /build
COPY deploy/images/build.sh deploy/images/locks/proto.txt ./
COPY deploy/images/wheels wheels
COPY proto proto
RUN sh build.sh proto proto.txt
COPY deploy/images/locks/litert_svc.txt ./
RUN sh build.sh install litert_svc.txt
# Addresses and ports alone: what else somebody has in .env, a key perhaps, stays out of the image.
COPY .env ./
RUN grep -E '^[A-Z0-9_]+_(ADDR|PORT)=' .env >app/.env
COPY servepath app/servepath
COPY services app/services
# Tests, and what numpy has for compilers.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN rm -rf numpy/f2py \
    && find numpy -type d -name tests -prune -exec rm -rf {} + \
    && find numpy -name '*.a' -delete
WORKDIR /build
RUN sh build.sh compile

FROM ${BASE}
# No pip in any of the places where Python's image or Debian has it, and no program that changes its user.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
        /usr/lib/python3.11/ensurepip /usr/share/python-wheels \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/app /app
# numpy's OpenBLAS starts a thread for each core of the machine, whatever the container may use: a limit of processes
# would keep it from starting on a large one.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.litert_svc"]
CMD ["--host", "0.0.0.0", "--metrics-host", "0.0.0.0", "--models", "/models"]
