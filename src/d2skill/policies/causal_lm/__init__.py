"""The causal-lm policy: a Hugging Face causal language model, its generation engine and its training."""
