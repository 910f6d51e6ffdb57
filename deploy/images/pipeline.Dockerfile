# Trains and exports, one after the other: `training --out /trained`, then `export --models /trained --out /models`.
# Its user must be able to write both folders.
ARG BASE

FROM ${BASE} AS build
ARG PIP_NO_INDEX
WORKDIR /build
COPY deploy/images/build.sh deploy/images/locks/proto.txt ./
COPY deploy/images/wheels wheels
COPY proto proto
RUN sh build.sh proto proto.txt
ARG TORCH_INDEX
COPY deploy/images/locks/pipeline.txt ./
RUN sh build.sh install pipeline.txt
COPY servepath app/servepath
COPY models app/models
COPY services/torch_svc app/services/torch_svc
COPY training app/training
COPY export app/export
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
RUN mkdir /models /trained && chown 65532:65532 /models /trained
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m"]
CMD ["training", "--out", "/trained"]
