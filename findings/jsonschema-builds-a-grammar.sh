#!/usr/bin/env bash
# One extra package makes `import jsonschema` build a parser, in every process that imports it.
#
# Versions: jsonschema 4.26.0, rfc3987-syntax 1.1.0, lark 1.3.1 (pinned below); Linux x86_64.
# Guess: an optional format checker costs something when a format is checked.
# Behaviour: jsonschema imports whatever checkers it finds when it is imported itself, and rfc3987_syntax (of the extra
# format-nongpl, which for example cyclonedx-bom brings) compiles its grammar by lark at import. The import takes more
# than five times the CPU time (2.9 s in place of 0.2 s on a slow core), although nobody asked for a format. No setting
# turns it off; keeping the extra out of the environment does.
# Seen on 2026-11-28:
#   without the extra: lark is not imported
#   with it: lark is imported, more than 5 times the CPU time
# Exit code: 0 while this is so, 1 when any line differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jsonschema==4.26.0
cat >"$folder/check.py" <<'PYTHON'
import sys
from time import process_time

begin = process_time()
import jsonschema

print(process_time() - begin, "lark" in sys.modules)
PYTHON
best() { for _ in 1 2 3; do "$folder/venv/bin/python" "$folder/check.py"; done | sort -g | head -1; }
"$folder/venv/bin/python" "$folder/check.py" >/dev/null # compiled modules are kept from here on
read -r plain_s plain_lark < <(best)
"$folder/venv/bin/pip" install -q --disable-pip-version-check rfc3987-syntax==1.1.0 lark==1.3.1
"$folder/venv/bin/python" "$folder/check.py" >/dev/null
read -r more_s more_lark < <(best)
python3 - "$plain_s" "$plain_lark" "$more_s" "$more_lark" <<'PYTHON' | tee "$folder/seen"
import sys

plain_s, plain_lark, more_s, more_lark = sys.argv[1:]
is_ = {"True": "is", "False": "is not"}
print(f"without the extra: lark {is_[plain_lark]} imported")
times = "more" if float(more_s) > 5 * float(plain_s) else "at most"
print(f"with it: lark {is_[more_lark]} imported, {times} than 5 times the CPU time")
PYTHON
diff "$folder/seen" - <<'SEEN' || { echo "the behaviour has changed" >&2; exit 1; }
without the extra: lark is not imported
with it: lark is imported, more than 5 times the CPU time
SEEN
