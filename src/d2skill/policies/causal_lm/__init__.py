"""Causal language model policy: generation with a KV cache, constrained decoding, packed updates, LoRA."""
