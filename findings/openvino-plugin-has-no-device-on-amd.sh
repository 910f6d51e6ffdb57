#!/usr/bin/env bash
# OpenVINO's plugin for ONNX Runtime offers no device on an AMD processor, on which OpenVINO itself computes.
#
# Versions: onnxruntime 1.31.1, onnxruntime-ep-openvino 1.8.1, openvino 2026.4.1, numpy 2.4.6 (pinned below); Python 3.11,
# Linux x86_64, an AMD processor.
# Guess: the plugin wraps the same runtime, whose CPU device is documented for x86-64; once its library is registered,
# get_ep_devices() lists OpenVINO on the CPU.
# Behaviour: the library registers without an error or a word, and get_ep_devices() lists ONNX Runtime's own CPU provider
# alone, so that a session cannot be given OpenVINO. The package openvino names the same processor as its device "CPU".
# Seen on 2026-11-29, AMD EPYC:
#   providers with devices once the plugin is registered: CPUExecutionProvider
#   devices of the package openvino: CPU (AMD EPYC)
# Exit code: 0 while both hold, or where the processor is not AMD's (then it says so); 1 otherwise.
set -euo pipefail
if ! grep -q AuthenticAMD /proc/cpuinfo; then
    echo "not an AMD processor: nothing to be seen here"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnxruntime==1.31.1 onnxruntime-ep-openvino==1.8.1 openvino==2026.4.1 numpy==2.4.6
cat > "$folder/plugin.py" <<'EOF'
import onnxruntime
import onnxruntime_ep_openvino

onnxruntime.register_execution_provider_library("openvino", onnxruntime_ep_openvino.get_library_path())
print(", ".join(sorted({each.ep_name for each in onnxruntime.get_ep_devices()})))
EOF
cat > "$folder/package.py" <<'EOF'
import openvino

core = openvino.Core()
print(", ".join(f"{each} ({core.get_property(each, 'FULL_DEVICE_NAME').strip()})" for each in core.available_devices))
EOF
plugin=$("$folder/venv/bin/python" "$folder/plugin.py")
package=$("$folder/venv/bin/python" "$folder/package.py")
echo "providers with devices once the plugin is registered: $plugin"
echo "devices of the package openvino: $package"
[ "$plugin" = CPUExecutionProvider ] && [[ "$package" == *CPU* ]]
