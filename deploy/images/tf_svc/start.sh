#!/bin/sh
# Start tensorflow_model_server with the image's arguments, on a Unix socket where TF_SVC_SOCKET names one, else on a port.
# Beside the socket goes the version that the program prints: its replies do not tell it.
# It serves every model that has a SavedModel, as services/tf_svc/models_config.py finds and writes them.
set -eu
config=${TMPDIR:-/tmp}/models.config
echo "model_config_list {" > "$config"
for base in "${TF_SVC_MODELS:-/models}"/*/saved_model; do
    ls "$base" 2> /dev/null | grep -qx '[0-9][0-9]*' || continue
    printf '  config {\n    name: "%s"\n    base_path: "%s"\n    model_platform: "tensorflow"\n  }\n' \
        "$(basename "${base%/saved_model}")" "$base" >> "$config"
done
echo "}" >> "$config"
if ! grep -q base_path "$config"; then
    echo "tf_svc: ${TF_SVC_MODELS:-/models} has no MODEL/saved_model/VERSION folder; run: make export or make import" >&2
    exit 1
fi
# All cores, or as many as the quota has, a part counted whole: by itself the program knows no quota.
cores=$(nproc)
if read -r quota period 2> /dev/null < /sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    quota=$(((quota + period - 1) / period))
    [ "$quota" -ge "$cores" ] || cores=$quota
fi
set -- "--model_config_file=$config" "--tensorflow_intra_op_parallelism=$cores" "$@"
if [ -n "${TF_SVC_SOCKET:-}" ]; then
    folder=$(dirname "$TF_SVC_SOCKET")
    # One that a killed server left would pass for a server.
    rm -f "$TF_SVC_SOCKET"
    tensorflow_model_server --version | sed -n '1s/.* //p' > "$folder/.version"
    mv "$folder/.version" "$folder/version"
    set -- --port=0 "--grpc_socket_path=$TF_SVC_SOCKET" "$@"
else
    set -- "--port=${TF_SVC_PORT:-8500}" "$@"
fi
# float32 is float32, as on the other stacks: TensorFlow computes it in TF32 on GPUs unless told not to.
export NVIDIA_TF32_OVERRIDE=0
exec tensorflow_model_server "$@"
