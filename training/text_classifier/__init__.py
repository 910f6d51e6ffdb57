"""From sentences with topics to a folder as Hugging Face's libraries read it: network, tokenizer, figures, pictures."""
