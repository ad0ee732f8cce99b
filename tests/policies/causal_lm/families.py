"""Tiny models of many families, with random weights: kind of configuration -> its sizes."""

import warnings

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

BASE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 2048, "initializer_range": 0.3}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SSM = {
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
}
WINDOW = {"sliding_window": 512}
LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
GEMMA3N = {
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 300,
    "laurel_rank": 4,
    "num_kv_shared_layers": 2,
    "altup_num_inputs": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "activation_sparsity_pattern": [0.0] * 4,
}
GEMMA4 = {
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 300,
    "num_kv_shared_layers": 2,
    "num_global_key_value_heads": 2,
    "global_head_dim": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}

ATTENTION = {  # layers that keep keys and values alone
    "Qwen2": BASE,
    "Qwen2Moe": {**BASE, **MOE, "shared_expert_intermediate_size": 16},
    "Qwen3": BASE,
    "Qwen3Moe": {**BASE, **MOE},
    "Llama": BASE,
    "Mistral": {**BASE, **WINDOW},
    "Mixtral": {**BASE, "num_local_experts": 4},
    "Gemma": BASE,
    "Gemma2": {**BASE, **WINDOW},
    "Gemma3Text": {**BASE, **WINDOW},
    "Gemma3nText": {**BASE, **WINDOW, **GEMMA3N},
    "Phi": BASE,
    "Phi3": BASE,
    "Olmo2": BASE,
    "Olmo3": {**BASE, **WINDOW},
    "Granite": BASE,
    "SmolLM3": BASE,
    "Cohere": BASE,
    "Cohere2": {**BASE, **WINDOW},
    "StableLm": BASE,
    "Starcoder2": {**BASE, **WINDOW},
    "GptOss": {**BASE, **WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Glm": BASE,
    "Glm4": BASE,
    "Ernie4_5": BASE,
    "HunYuanDenseV1": BASE,
    "Exaone4": {**BASE, **WINDOW},
    "DeepseekV3": {**BASE, **LATENT, "num_key_value_heads": 4},
    "Gemma4Text": {**BASE, **WINDOW, **GEMMA4},
    "GPT2": GPT2,
    "GPTNeoX": BASE,
    "Bloom": {"vocab_size": 300, "hidden_size": 32, "n_layer": 4, "n_head": 4, "initializer_range": 0.3},
    "OPT": {**BASE, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
STATES = {  # layers with states
    "Qwen3_5Text": {**BASE, **LINEAR},
    "Qwen3Next": {**BASE, **MOE, **LINEAR, "shared_expert_intermediate_size": 16},
    "Lfm2": {
        **BASE,
        "block_multiple_of": 8,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "conv_L_cache": 3,
    },
    "FalconH1": {**BASE, **SSM, "mamba_d_ssm": 64},
    "GraniteMoeHybrid": {
        **BASE,
        **SSM,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 16,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
    },
    "Bamba": {**BASE, **SSM, "attn_layer_indices": [1, 3]},
    "Mamba": {
        "vocab_size": 300,
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 3,
        "time_step_rank": 4,
        "initializer_range": 0.3,
    },
    "Mamba2": {
        "vocab_size": 300,
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 3,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 16,
        "initializer_range": 0.3,
    },
    "FalconMamba": {
        "vocab_size": 300,
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 3,
        "time_step_rank": 4,
        "initializer_range": 0.3,
    },
    "Jamba": {
        **BASE,
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "Zamba2": {
        **{k: v for k, v in BASE.items() if k != "head_dim"},
        "mamba_d_state": 8,
        "mamba_headdim": 16,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "chunk_size": 16,
        "num_key_value_heads": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_mem_blocks": 1,
        "use_mamba_kernels": False,
    },
    "RecurrentGemma": {**BASE, "lru_width": 32, "attention_window_size": 512, "w_init_variance_scale": 1.0},
    "Rwkv": {
        "vocab_size": 300,
        "hidden_size": 32,
        "attention_hidden_size": 32,
        "num_hidden_layers": 3,
        "context_length": 2048,
    },
    "MiniMax": {
        **BASE,
        "num_local_experts": 4,
        "block_size": 16,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
}
MULTIMODAL = {  # text and images; kind: (kind of text, its sizes, sizes of the part for images)
    "Gemma3": ("Gemma3Text", ATTENTION["Gemma3Text"], VISION),
    "Qwen3_5": ("Qwen3_5Text", STATES["Qwen3_5Text"], {}),
}


def make_config(kind, **more):
    """Returns the configuration of a tiny model, with other values for some of its sizes."""
    if kind in MULTIMODAL:
        text, sizes, vision = MULTIMODAL[kind]
        config = getattr(transformers, f"{kind}Config")
        values = {"text_config": getattr(transformers, f"{text}Config")(**{**sizes, **more}).to_dict()}
        if vision:
            values |= {"vision_config": vision, "mm_tokens_per_image": 4, "image_token_index": 299}
        return config(**values)
    sizes = {**ATTENTION, **STATES}[kind]
    if "vocab_size_per_layer_input" in sizes and "vocab_size" in more:
        more["vocab_size_per_layer_input"] = more["vocab_size"]
    return getattr(transformers, f"{kind}Config")(**{**sizes, **more})


def make_model(kind, seed=0, **more):
    """Returns a tiny model with random weights."""
    config = make_config(kind, **more)
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    found = found[0] if isinstance(found, tuple) else found
    if not isinstance(config, found.config_class):  # the text of a model with images
        config = config.get_text_config()
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return found._from_config(config).eval()
