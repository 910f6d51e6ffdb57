# TensorFlow Serving: the official image with our configuration, exports at /models (read-only). Writes nothing but the
# list of models in /tmp, and its socket and version, where TF_SVC_SOCKET names a place.
# BASE names its CPU or its GPU tag. The arguments below are those of services/tf_svc/binary.py; a test compares them.
# Versions are not staged here, for want of Python: what keeps a bad one from being served is its warm-up record.
ARG BASE
FROM ${BASE}
COPY deploy/images/tf_svc /etc/tf_svc
USER 65532:65532
# As a container's first process it would not see SIGTERM, and it drains nothing in any case.
STOPSIGNAL SIGKILL
ENTRYPOINT ["/bin/sh", "/etc/tf_svc/start.sh"]
CMD [ \
    "--rest_api_port=0", \
    "--allow_version_labels_for_unavailable_models=true", \
    "--file_system_poll_wait_seconds=1", \
    "--grpc_max_threads=301", \
    "--grpc_channel_arguments=grpc.so_reuseport=0", \
    "--num_load_threads=2", \
    "--max_num_load_retries=1", \
    "--load_retry_interval_micros=1000000", \
    "--tensorflow_inter_op_parallelism=1", \
    "--enable_profiler=false", \
    "--enable_grpc_healthcheck_service=true" \
]
