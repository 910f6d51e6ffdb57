# Load test, report and client: exports at /models (read-only), runs in /results, which its user must be able to write.
# The command is a module and its arguments: `loadtest --rate 500`, `report --results /results`, `client predict ...`.
ARG BASE

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /build
COPY deploy/images/build.sh deploy/images/locks/proto.txt ./
COPY deploy/images/wheels wheels
COPY proto proto
RUN sh build.sh proto proto.txt
COPY deploy/images/locks/loadtest.txt ./
RUN sh build.sh install loadtest.txt
# Addresses and ports alone: what else somebody has in .env, a key perhaps, stays out of the image.
COPY .env ./
RUN grep -E '^[A-Z0-9_]+_(ADDR|PORT)=' .env >app/.env
COPY deployments.toml app/
COPY servepath app/servepath
COPY client.py app/client.py
COPY loadtest app/loadtest
COPY report app/report
RUN sh build.sh compile
ARG COMMIT=unknown
RUN echo "${COMMIT}" >app/.commit

FROM ${BASE}
# No pip in any of the places where Python's image or Debian has it, and no program that changes its user.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip \
        /usr/lib/python3.11/ensurepip /usr/share/python-wheels \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/venv /opt/venv
COPY --from=build /build/app /app
RUN mkdir /results && chown 65532:65532 /results
# numpy's OpenBLAS starts a thread for each core of the machine, whatever the container may use: a limit of processes
# would keep it from starting on a large one.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp OPENBLAS_NUM_THREADS=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m"]
CMD ["loadtest", "--exports", "/models", "--out", "/results"]
