# TensorFlow Serving: the official image with our configuration, exports at /models (read-only). Writes nothing.
# BASE names its CPU or its GPU tag. The words below are those of services/tf_svc/binary.py; a test compares them.
ARG BASE
FROM ${BASE}
COPY deploy/images/tf_svc /etc/tf_svc
USER 65532:65532
# As a container's first process it would not see SIGTERM, and it drains nothing in any case.
STOPSIGNAL SIGKILL
ENTRYPOINT ["/usr/bin/tensorflow_model_server"]
CMD [ \
    "--port=8500", \
    "--rest_api_port=0", \
    "--model_config_file=/etc/tf_svc/models.config", \
    "--file_system_poll_wait_seconds=1", \
    "--enable_batching=true", \
    "--batching_parameters_file=/etc/tf_svc/batching.config", \
    "--grpc_max_threads=300", \
    "--grpc_channel_arguments=grpc.so_reuseport=0", \
    "--num_load_threads=2", \
    "--max_num_load_retries=1", \
    "--load_retry_interval_micros=1000000", \
    "--tensorflow_intra_op_parallelism=1", \
    "--tensorflow_inter_op_parallelism=1", \
    "--enable_profiler=false", \
    "--enable_grpc_healthcheck_service=true" \
]
