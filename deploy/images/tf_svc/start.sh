#!/bin/sh
# Start tensorflow_model_server with the image's words, on a Unix socket where TF_SVC_SOCKET names one, else on a port.
# Beside the socket goes the version that the program prints: its replies do not tell it.
set -eu
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
exec tensorflow_model_server "$@"
