#!/bin/sh
# What the Dockerfiles' build stages run, each step cached on its own:
#   build.sh proto LOCK    servepath_pb, generated from proto/ into app/
#   build.sh install LOCK  /opt/venv: exactly the wheels that LOCK names, by their hashes, compiled; no pip in it
#   build.sh compile       byte code for app/
# Everything is compiled here: on a read-only file system a start would do it again each time.
set -eu

pip_install() { # PYTHON LOCK [OPTION ...]
    interpreter=$1 lock=$2
    shift 2
    # Wheels only and no dependencies but the lock's: nothing that is not pinned runs or is installed.
    /build/pip/bin/pip --python "$interpreter" install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --require-hashes --no-deps --only-binary :all: --find-links /build/wheels -r "$lock" "$@"
}

compile() { # FOLDER
    # By hash and never checked: times of files do not survive every way of copying an image. Some packages carry
    # templates that are no Python: those stay as they are.
    python -m compileall -q --invalidation-mode unchecked-hash "$1" >/dev/null || true
}

case $1 in
proto)
    python -m venv /build/pip
    pip_install /build/pip/bin/python "$2"
    mkdir -p app/servepath_pb
    # shellcheck disable=SC2046
    /build/pip/bin/python -m grpc_tools.protoc -I proto --python_out=app/servepath_pb $(find proto -name '*.proto')
    ;;
install)
    python -m venv --without-pip /opt/venv
    # PyTorch's builds share a version: the index says which one is found, the hash which one may be used.
    grep '^torch==' "$2" >torch.txt && pip_install /opt/venv/bin/python torch.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
    grep -v '^torch==' "$2" >others.txt
    pip_install /opt/venv/bin/python others.txt
    compile /opt/venv/lib
    ;;
compile)
    compile app
    ;;
*)
    echo "build.sh: no step $1" >&2
    exit 2
    ;;
esac
