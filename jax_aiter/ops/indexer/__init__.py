"""Which cached tokens sparse attention reads: the logits of DeepSeek-V3.2's indexer, and the k largest of each row."""
