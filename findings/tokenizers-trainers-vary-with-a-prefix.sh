#!/usr/bin/env bash
# Training a tokenizer twice on the same texts gives two vocabularies where pieces inside of words have a mark.
#
# Versions: tokenizers 0.23.3 (pinned below); Python 3.11, Linux x86_64.
# Guess: the same texts in the same order, one thread and no seed to be set: one vocabulary, whatever the trainer.
# Behaviour: BpeTrainer learns one. WordPieceTrainer, whose mark is "##", and BpeTrainer with that mark learn another one
# in each process, of other tokens and not only with other numbers, where many pieces are equally frequent, as in every
# small corpus. A training that begins with such a tokenizer cannot be repeated from its seed.
# Seen on 2026-11-29 (five processes each):
#   WordPieceTrainer: 5 vocabularies, 5 sets of tokens
#   BpeTrainer with ##: 5 vocabularies, 5 sets of tokens
#   BpeTrainer: 1 vocabularies, 1 sets of tokens
# Exit code: 0 while the first two are more than one vocabulary and the third is one, 1 otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
cat > "$folder/train.py" <<'EOF'
import hashlib
import json
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

syllables = [first + second for first in "bdfgklmnprst" for second in "aeiou"]
words = [one + syllables[(7 * place + 11) % 60] + syllables[(13 * place + 5) % 60] for place, one in enumerate(syllables * 8)]
texts = [" ".join(words[start : start + 8]) for start in range(0, len(words), 8)]
special = ["[UNK]"]
made = {
    "WordPieceTrainer": (WordPiece(unk_token="[UNK]"), WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)),
    "BpeTrainer with ##": (
        BPE(unk_token="[UNK]"),
        BpeTrainer(vocab_size=150, special_tokens=special, show_progress=False, continuing_subword_prefix="##"),
    ),
    "BpeTrainer": (BPE(unk_token="[UNK]"), BpeTrainer(vocab_size=150, special_tokens=special, show_progress=False)),
}
model, trainer = made[sys.argv[1]]
tokenizer = Tokenizer(model)
tokenizer.pre_tokenizer = Whitespace()
tokenizer.train_from_iterator(texts, trainer)
vocabulary = sorted(tokenizer.get_vocab().items())
for found in (vocabulary, [token for token, _ in vocabulary]):
    print(hashlib.sha256(json.dumps(found).encode()).hexdigest(), end=" ")
print()
EOF
changed=0
for kind in "WordPieceTrainer" "BpeTrainer with ##" "BpeTrainer"; do
    for _ in 1 2 3 4 5; do "$folder/venv/bin/python" "$folder/train.py" "$kind"; done >"$folder/seen"
    vocabularies=$(cut -d' ' -f1 "$folder/seen" | sort -u | wc -l)
    echo "$kind: $vocabularies vocabularies, $(cut -d' ' -f2 "$folder/seen" | sort -u | wc -l) sets of tokens"
    [ "$kind" = "BpeTrainer" ] && [ "$vocabularies" != 1 ] && changed=1
    [ "$kind" != "BpeTrainer" ] && [ "$vocabularies" = 1 ] && changed=1
done
exit $changed
