"""Writes the parity fixtures: small random checkpoints as transformers saves them, and every value it computes in them.

    python make.py                     all of them
    python make.py --only llama        those whose name begins so

Each folder has config.json, model.safetensors (or shards and an index) and expected.safetensors. README.md says more.
"""

import argparse
import json
import shutil
import tempfile
import types
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors
from transformers import (AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, Gemma3ForConditionalGeneration, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
                          GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM, MixtralConfig, MixtralForCausalLM)

from taps import ENCODERS, HEAD_NORMS, NORMS_BEHIND, clips, encoder_head, encoder_layers, first_largest, in_groups, record, seen

HERE = Path(__file__).parent
# No token ends a generation here, so that a fixture may generate any number of them.
NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def gpt2(**kw):
    return GPT2LMHeadModel(GPT2Config(**NO_ENDS, **{"vocab_size": 97, "n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4, **kw}))


def llama(**kw):
    return LlamaForCausalLM(LlamaConfig(**NO_ENDS, **{
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, **kw}))


def neox(rotary_pct, **kw):
    return GPTNeoXForCausalLM(GPTNeoXConfig(**NO_ENDS, **{
        "vocab_size": 88, "hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 4,
        "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary_pct}, **kw}))


def mamba(**kw):
    return MambaForCausalLM(MambaConfig(**NO_ENDS, **{"vocab_size": 80, "hidden_size": 24, "num_hidden_layers": 3, **kw}))


def falcon_mamba(**kw):
    sizes = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("falcon_mamba", **{**NO_ENDS, **sizes, **kw}))


def mamba2(**kw):
    sizes = {"vocab_size": 59, "hidden_size": 16, "num_hidden_layers": 2, "chunk_size": 4}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba2", **{**NO_ENDS, **sizes, **kw}))


def jamba(**kw):
    return decoder("jamba", mamba_d_state=5, mamba_d_conv=3, mamba_dt_rank=4, hidden_act="silu", **kw)


def mixtral(**kw):
    return MixtralForCausalLM(MixtralConfig(**NO_ENDS, **{
        "vocab_size": 72, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None, "rope_parameters": {
            "rope_type": "default", "rope_theta": 10000.0}, **kw}))


def decoder(kind, **kw):
    """A small one of the families that are like Llama, GPT-2 or OPT."""
    sizes = {"vocab_size": 53, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 64}
    if kind == "gpt_neo":
        sizes |= {"num_layers": 3, "num_heads": 4}
    if kind == "opt":
        sizes |= {"ffn_dim": 20}
    if kind.endswith("_moe"):
        sizes |= {"moe_intermediate_size": 12, "num_experts": 6, "num_experts_per_tok": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**NO_ENDS, **sizes, **kw}))


def deepseek(version, **kw):
    sizes = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "moe_intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
             "num_key_value_heads": 3, "max_position_embeddings": 64, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2,
             "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 7}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(f"deepseek_v{version}", **{**NO_ENDS, **sizes, **kw}))


def gpt_oss(**kw):
    sizes = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "head_dim": 6, "max_position_embeddings": 64, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 4, "swiglu_limit": 1.0}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_oss", **{**NO_ENDS, **sizes, **kw}))


def encoder(kind, **kw):
    sizes = {"vocab_size": 53, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
             "max_position_embeddings": 24}
    if kind == "distilbert":
        sizes |= {"dim": 16, "hidden_dim": 20, "n_layers": 3, "n_heads": 4}
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **{**sizes, **kw}))


def gemma3_images(**kw):
    """With a part that reads images, which no fixture of ours does."""
    text = decoder("gemma3_text", **kw).config.to_dict()
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 8, "patch_size": 4}
    config = AutoConfig.for_model("gemma3", **NO_ENDS, text_config=text, vision_config={"model_type": "siglip_vision_model", **vision},
                                  mm_tokens_per_image=4, image_token_index=52, boi_token_index=51, eoi_token_index=50)
    return Gemma3ForConditionalGeneration(config)


def rope(kind, theta=10000.0, **kw):
    return {"rope_type": kind, "rope_theta": theta, **kw}


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}

# name: (the model, what to do to the folder)
VARIANTS = {
    "gpt2-inner": (lambda: gpt2(n_inner=72), {}),
    "gpt2-inverse": (lambda: gpt2(n_embd=24, n_head=2, scale_attn_by_inverse_layer_idx=True), {"dtype": torch.float16}),
    "gpt2-hub": (lambda: gpt2(n_embd=30, n_head=5, n_layer=2, vocab_size=64), {"then": "gpt2_hub"}),
    "llama-grouped": (lambda: llama(tie_word_embeddings=False), {}),
    "llama-wide": (lambda: llama(head_dim=12, num_key_value_heads=4, attention_bias=True, tie_word_embeddings=True), {}),
    "llama-rope3": (lambda: llama(hidden_size=48, num_attention_heads=6, num_key_value_heads=2, num_hidden_layers=2, rope_parameters=LLAMA3),
                    {"then": "old_keys", "shards": "40KB"}),
    "llama-bf16": (lambda: llama(num_key_value_heads=1, mlp_bias=True, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}),
                   {"dtype": torch.bfloat16}),
    "neox-parallel": (lambda: neox(0.25, use_parallel_residual=True), {}),
    "neox-sequential": (lambda: neox(1.0, use_parallel_residual=False), {"dtype": torch.float16, "then": "old_keys"}),
    "neox-hub": (lambda: neox(0.5, use_parallel_residual=True, num_hidden_layers=2), {"then": "neox_hub"}),
    "mamba-conv": (lambda: mamba(state_size=16, time_step_rank=3), {}),
    "mamba-bias": (lambda: mamba(state_size=4, time_step_rank=5, use_conv_bias=False, use_bias=True, conv_kernel=3, tie_word_embeddings=False),
                   {"dtype": torch.bfloat16}),
    "mamba-hub": (lambda: mamba(state_size=8, num_hidden_layers=2, hidden_size=16, expand=3), {"then": "mamba_hub"}),
    "mixtral-top2": (lambda: mixtral(), {}),
    "mixtral-top3": (lambda: mixtral(num_local_experts=8, num_experts_per_tok=3, head_dim=8, tie_word_embeddings=True), {"stacked": True}),
    "mixtral-top1": (lambda: mixtral(num_experts_per_tok=1, num_local_experts=8), {"dtype": torch.bfloat16, "then": "old_keys"}),
    "mistral-window": (lambda: decoder("mistral", sliding_window=5, head_dim=6), {}),
    "mistral-linear": (lambda: decoder("mistral", sliding_window=None, tie_word_embeddings=True, rope_parameters=rope("linear", factor=4.0)),
                       {"dtype": torch.bfloat16, "then": "old_keys"}),
    "qwen2-window": (lambda: decoder("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1, tie_word_embeddings=True), {}),
    "qwen2-hub": (lambda: decoder("qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=2, rope_parameters=rope(
        "yarn", 1000.0, factor=4.0, original_max_position_embeddings=16)), {"dtype": torch.bfloat16, "then": "old_keys"}),
    "qwen3-norms": (lambda: decoder("qwen3", head_dim=8, tie_word_embeddings=True, rope_parameters=rope(
        "yarn", 100.0, factor=8.0, original_max_position_embeddings=8, mscale=1.2, mscale_all_dim=0.5, truncate=False, beta_fast=4.0)), {}),
    "qwen3-mixed": (lambda: decoder("qwen3", head_dim=6, attention_bias=True, use_sliding_window=True, sliding_window=3, layer_types=[
        "full_attention", "sliding_attention", "full_attention"], rope_parameters=rope("dynamic", factor=2.0)), {}),
    "gemma-gelu": (lambda: decoder("gemma", head_dim=6, num_key_value_heads=1, num_hidden_layers=2), {"then": "gemma_hub"}),
    "gemma-bias": (lambda: decoder("gemma", head_dim=4, attention_bias=True, num_hidden_layers=2, tie_word_embeddings=False), {}),
    "gemma2-caps": (lambda: decoder("gemma2", head_dim=6, sliding_window=4, query_pre_attn_scalar=10, attn_logit_softcapping=3.0,
                                    final_logit_softcapping=4.0), {}),
    "gemma2-plain": (lambda: decoder("gemma2", head_dim=4, sliding_window=5, attn_logit_softcapping=None, final_logit_softcapping=None,
                                     num_hidden_layers=2, tie_word_embeddings=False), {"then": "old_keys"}),
    "gemma3-layers": (lambda: decoder("gemma3_text", head_dim=6, sliding_window=4, num_hidden_layers=3, query_pre_attn_scalar=10, layer_types=[
        "sliding_attention", "full_attention", "sliding_attention"], final_logit_softcapping=4.0, rope_parameters={
        "full_attention": rope("linear", 5000.0, factor=8.0), "sliding_attention": rope("default", 100.0)}), {}),
    "gemma3-old": (lambda: decoder("gemma3_text", head_dim=4, sliding_window=3, sliding_window_pattern=2, rope_parameters={
        "full_attention": rope("linear", 5000.0, factor=8.0), "sliding_attention": rope("default", 100.0)}), {"then": "gemma3_old"}),
    "gemma3-images": (lambda: gemma3_images(head_dim=4, sliding_window=3, num_hidden_layers=2, sliding_window_pattern=2), {}),
    "gemma3-renamed": (lambda: gemma3_images(head_dim=4, sliding_window=3, num_hidden_layers=2, sliding_window_pattern=2),
                       {"then": "gemma3_renamed"}),
    "phi3-window": (lambda: decoder("phi3", sliding_window=5), {}),
    "phi3-long": (lambda: decoder("phi3", hidden_size=32, num_hidden_layers=2, tie_word_embeddings=True, max_position_embeddings=240,
                                  original_max_position_embeddings=60, rope_parameters=rope("longrope", short_factor=[1.0, 1.3], long_factor=[
                                      2.0, 9.0], partial_rotary_factor=0.5)), {"then": "old_keys"}),
    "olmo2-grouped": (lambda: decoder("olmo2"), {}),
    "olmo2-bias": (lambda: decoder("olmo2", attention_bias=True, num_key_value_heads=4, num_hidden_layers=2, tie_word_embeddings=True),
                   {"dtype": torch.bfloat16, "then": "old_keys"}),
    "gptneo-local": (lambda: decoder("gpt_neo", window_size=4, attention_types=[[["global", "local"], 1], [["local"], 1]], tie_word_embeddings=False),
                     {}),
    "gptneo-hub": (lambda: decoder("gpt_neo", window_size=5, num_layers=2, num_hidden_layers=2, attention_types=[[["global", "local"], 1]]),
                   {"then": "gpt_neo_hub"}),
    "opt-before": (lambda: decoder("opt", tie_word_embeddings=True), {"then": "opt_hub"}),
    "opt-behind": (lambda: decoder("opt", do_layer_norm_before=False, word_embed_proj_dim=12, num_hidden_layers=2), {}),
    "opt-plain": (lambda: decoder("opt", enable_bias=False, layer_norm_elementwise_affine=False, num_hidden_layers=2, tie_word_embeddings=False),
                  {"dtype": torch.float16}),
    "bert-plain": (lambda: encoder("bert", hidden_act="relu", type_vocab_size=3, tie_word_embeddings=False), {}),
    "bert-hub": (lambda: encoder("bert", num_hidden_layers=2, layer_norm_eps=1e-3), {"then": "bert_hub"}),
    "roberta-offset": (lambda: encoder("roberta", pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1), {}),
    "roberta-plain": (lambda: encoder("roberta", num_hidden_layers=2, pad_token_id=3, tie_word_embeddings=False), {"dtype": torch.float16}),
    "distilbert-plain": (lambda: encoder("distilbert"), {}),
    "distilbert-relu": (lambda: encoder("distilbert", n_layers=2, activation="relu", n_heads=2, tie_word_embeddings=False), {"dtype": torch.bfloat16}),
    "olmoe-clip": (lambda: decoder("olmoe", num_experts=6, num_experts_per_tok=3, clip_qkv=0.9, num_hidden_layers=2), {}),
    "olmoe-normed": (lambda: decoder("olmoe", num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, attention_bias=True, num_hidden_layers=2,
                                     tie_word_embeddings=True), {"dtype": torch.bfloat16, "stacked": True}),
    "olmoe-hub": (lambda: decoder("olmoe", num_experts=8, num_experts_per_tok=2, num_key_value_heads=4, num_hidden_layers=2), {"then": "old_keys"}),
    "qwen2moe-shared": (lambda: decoder("qwen2_moe", shared_expert_intermediate_size=18, use_sliding_window=True, sliding_window=4,
                                        max_window_layers=2), {"stacked": True}),
    "qwen2moe-mixed": (lambda: decoder("qwen2_moe", shared_expert_intermediate_size=10, norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[3],
                                       num_hidden_layers=4, qkv_bias=False, tie_word_embeddings=True), {"dtype": torch.bfloat16, "then": "old_keys"}),
    "qwen3moe-normed": (lambda: decoder("qwen3_moe", head_dim=6, num_experts=8, norm_topk_prob=True, num_hidden_layers=2), {"then": "old_keys"}),
    "qwen3moe-mixed": (lambda: decoder("qwen3_moe", num_experts_per_tok=3, mlp_only_layers=[1], attention_bias=True, use_sliding_window=True,
                                       sliding_window=5, tie_word_embeddings=True), {"stacked": True}),
    "falconmamba-norms": (lambda: falcon_mamba(state_size=8, time_step_rank=3, mixer_rms_eps=1e-3), {}),
    "falconmamba-hub": (lambda: falcon_mamba(state_size=4, time_step_rank=2, use_conv_bias=False, use_bias=True, conv_kernel=3,
                                             tie_word_embeddings=False), {"dtype": torch.bfloat16, "then": "falcon_mamba_hub"}),
    "mamba2-groups": (lambda: mamba2(n_groups=2, num_heads=4, head_dim=8, state_size=6), {}),
    "mamba2-limits": (lambda: mamba2(n_groups=1, num_heads=4, head_dim=12, expand=3, state_size=5, use_conv_bias=False, use_bias=True, conv_kernel=3,
                                     time_step_limit=(0.1, 0.5), tie_word_embeddings=True), {"dtype": torch.bfloat16}),
    "jamba-experts": (lambda: jamba(num_experts=4, num_experts_per_tok=2, attn_layer_period=3, attn_layer_offset=1), {"stacked": True}),
    "jamba-hub": (lambda: jamba(num_experts=5, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=0, num_key_value_heads=1,
                                mamba_conv_bias=False, mamba_proj_bias=True, tie_word_embeddings=True, num_hidden_layers=2),
                  {"dtype": torch.bfloat16, "then": "jamba_hub"}),
    "jamba-plain": (lambda: jamba(num_experts=1, attn_layer_period=4, attn_layer_offset=3, num_hidden_layers=2), {}),
    "deepseek2-greedy": (lambda: deepseek(2, tie_word_embeddings=True, rope_parameters=rope(
        "yarn", factor=40.0, original_max_position_embeddings=8, mscale=0.707, mscale_all_dim=0.707)), {"then": "deepseek_hub"}),
    "deepseek2-groups": (lambda: deepseek(2, topk_method="group_limited_greedy", n_group=4, topk_group=2, q_lora_rank=9, v_head_dim=12, attention_bias=True,
                                          mlp_bias=True, routed_scaling_factor=16.0, n_shared_experts=1, first_k_dense_replace=0), {
                                              "dtype": torch.bfloat16, "stacked": True}),
    "deepseek3-groups": (lambda: deepseek(3, n_group=4, topk_group=2, q_lora_rank=9, n_shared_experts=1, rope_parameters=rope(
        "yarn", factor=40.0, original_max_position_embeddings=8, mscale=1.0, mscale_all_dim=1.0)), {"then": "deepseek_hub"}),
    "deepseek3-zero": (lambda: deepseek(3, n_group=4, topk_group=1, num_experts_per_tok=2, norm_topk_prob=False, rope_interleave=False, v_head_dim=10,
                                        attention_bias=True), {"stacked": True, "then": "deepseek_zero"}),
    "deepseek3-fp8": (lambda: deepseek(3, n_group=2, topk_group=1, q_lora_rank=9, num_hidden_layers=3), {"dtype": torch.bfloat16, "then": "deepseek_fp8"}),
    "deepseek3-ties": (lambda: deepseek(3, n_group=4, topk_group=2, tie_word_embeddings=True), {"ties": True}),
    "gptoss-stacked": (lambda: gpt_oss(), {"dtype": torch.bfloat16, "then": "old_keys"}),
    "gptoss-plain": (lambda: gpt_oss(attention_bias=False, num_key_value_heads=4, num_experts_per_tok=3, num_local_experts=4, hidden_size=16, layer_types=["full_attention", "sliding_attention"],
                                     tie_word_embeddings=True, swiglu_alpha=1.2), {}),
    "gptoss-mxfp4": (lambda: gpt_oss(hidden_size=32, intermediate_size=64, num_local_experts=4), {"dtype": torch.bfloat16, "then": "gpt_oss_mxfp4"}),
    "mixtral-ties": (lambda: mixtral(num_local_experts=6, num_experts_per_tok=3, hidden_size=16, intermediate_size=12), {"ties": True}),
    "mamba2-whole": (lambda: mamba2(n_groups=2, num_heads=4, head_dim=8, state_size=5), {"then": "mamba2_whole"}),
    "mambaoriginal-plain": (lambda: mamba(state_size=16, num_hidden_layers=2, hidden_size=8, vocab_size=48), {"after": "mamba_original"}),
    "mambaoriginal-sizes": (lambda: mamba(state_size=6, num_hidden_layers=2, hidden_size=16, expand=3, time_step_rank=2, conv_kernel=3, use_bias=True,
                                          vocab_size=48), {"after": "mamba_original_sizes", "dtype": torch.bfloat16}),
    "mamba2original-plain": (lambda: mamba2(n_groups=1, num_heads=2, head_dim=16, state_size=7, vocab_size=48, tie_word_embeddings=True), {
        "after": "mamba2_original", "dtype": torch.float16}),
    "mamba2original-groups": (lambda: mamba2(n_groups=2, num_heads=4, head_dim=8, state_size=6, conv_kernel=3, vocab_size=48, tie_word_embeddings=True,
                                             time_step_limit=(0.1, 0.5)), {"after": "mamba2_original_groups"}),
}


def randomize(model, generator):
    """Weights large enough that no value is near zero: gains around 1.2, biases, norms that are no identity."""
    randn = lambda p: torch.randn(p.shape, generator=generator)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("A_log"):
                p += 0.3 * randn(p)
            elif name.endswith(".D"):
                p.copy_(1 + 0.5 * randn(p))
            elif name.endswith(("dt_proj.bias", "dt_bias")):
                p.copy_(-1 + 0.8 * randn(p))
            elif "conv1d.weight" in name:
                p.copy_(0.5 * randn(p))
            elif name.endswith("bias"):
                p.copy_(0.2 * randn(p))
            elif p.ndim == 1:
                # Gemma's norms multiply with 1 + weight.
                p.copy_(int("gemma" not in model.config.model_type) + 0.3 * randn(p))
            elif any(s in name for s in ("wte", "wpe", "embed_tokens", "embed_positions", "embed_in", "embeddings")):
                p.copy_(0.6 * randn(p))
            else:
                transposed = isinstance(model, GPT2LMHeadModel) and "lm_head" not in name
                fan_in = p.shape[0] if transposed else p.shape[-1]
                p.copy_(1.2 / fan_in ** 0.5 * randn(p))
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                b.copy_(0.3 * randn(b) - 0.2)


def tie(model):
    """Routers that score several experts, and groups of them, exactly alike: each expert reads one entry of the row."""
    with torch.no_grad():
        for name, p in [*model.named_parameters(), *model.named_buffers()]:
            places = torch.tensor([0, 0, 0, 0, 5, 5, 9, 9] if len(p) == 8 else [0, 0, 5, 5, 9, 9])
            if name.endswith("mlp.gate.weight"):
                p.zero_()[torch.arange(len(p)), places] = 1.5
            elif name.endswith("e_score_correction_bias"):
                p.copy_(places / 16)


# -- what folders on people's disks look like that this transformers no longer writes -----------------------------

def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")


def old_keys(folder):
    """The keys of transformers 4: rope_theta, rope_scaling, rotary_pct, rotary_emb_base, torch_dtype."""
    def edit(c):
        rope = c.pop("rope_parameters", None)
        if rope is not None:
            theta, part = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
            c.pop("layer_types", None)
            c["rope_scaling"] = rope if rope["rope_type"] != "default" else None
            if c["model_type"] == "gpt_neox":
                c["rotary_emb_base"], c["rotary_pct"] = int(theta), part
            else:
                c["rope_theta"] = theta
                if part is not None:
                    c["partial_rotary_factor"] = part
        if "dtype" in c:
            c["torch_dtype"] = c.pop("dtype")
        c["transformers_version"] = "4.44.0"
    edit_config(folder, edit)


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in edit(load_file(path)).items()}, path, metadata={"format": "pt"})


def gpt2_hub(folder):
    """The names of the published GPT-2: no prefix, and the causal mask of each layer as a buffer."""
    def edit(weights):
        out = {k.removeprefix("transformer."): v for k, v in weights.items()}
        n = out["wpe.weight"].shape[0]
        for i in range(len([k for k in out if k.endswith("ln_1.weight")])):
            out[f"h.{i}.attn.bias"] = torch.ones(n, n).tril()[None, None]
        return out

    def config(c):
        c.pop("dtype", None)
        c["n_ctx"] = c["n_positions"]
        for k in ("n_inner", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "add_cross_attention", "tie_word_embeddings"):
            c.pop(k, None)
    edit_weights(folder, edit)
    edit_config(folder, config)


def neox_hub(folder):
    """The published Pythia: embed_out, and buffers that nothing reads."""
    old_keys(folder)
    rot = json.loads((folder / "config.json").read_text())

    def edit(weights):
        out = {k.replace("lm_head.weight", "embed_out.weight"): v for k, v in weights.items()}
        for i in range(rot["num_hidden_layers"]):
            a = f"gpt_neox.layers.{i}.attention"
            out[f"{a}.bias"] = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
            out[f"{a}.masked_bias"] = torch.tensor(-1e9)
            out[f"{a}.rotary_emb.inv_freq"] = 10000.0 ** (-torch.arange(0, 4, 2) / 4)
        return out
    edit_weights(folder, edit)


def mamba_hub(folder):
    """The published conversions of Mamba: keys of the original beside those of transformers, no word on tied embeddings."""
    old_keys(folder)

    def config(c):
        c.pop("tie_word_embeddings", None)
        c.update(d_model=c["hidden_size"], d_inner=c["intermediate_size"], n_layer=c["num_hidden_layers"], fused_add_norm=True, rms_norm=True,
                 ssm_cfg={}, pad_vocab_size_multiple=8)
    edit_config(folder, config)


def falcon_mamba_hub(folder):
    """The published Falcon-Mamba: an `expand` that is not that of the model, no word on the norms."""
    old_keys(folder)
    edit_config(folder, lambda c: [c.update(expand=16), c.pop("mixer_rms_eps")])


def jamba_hub(folder):
    """The published Jamba: keys of its own code beside those of transformers."""
    old_keys(folder)
    edit_config(folder, lambda c: c.update(mamba_inner_layernorms=True, calc_logits_for_entire_prompt=False, sliding_window=None))


def gemma_hub(folder):
    """The published Gemma: an activation that is meant otherwise."""
    old_keys(folder)
    edit_config(folder, lambda c: c.update(hidden_act="gelu"))


def gemma3_old(folder):
    """The keys of transformers 4: a base for each kind of layer, a pattern."""
    def edit(c):
        ropes = c.pop("rope_parameters")
        c.pop("layer_types", None)
        c.pop("_sliding_window_pattern", None)
        far = ropes["full_attention"]
        c.update(rope_theta=far.pop("rope_theta"), rope_local_base_freq=ropes["sliding_attention"]["rope_theta"], rope_scaling=far,
                 sliding_window_pattern=2, torch_dtype=c.pop("dtype"), transformers_version="4.50.0")
    edit_config(folder, edit)


def gemma3_renamed(folder):
    """The names that newer versions of transformers have in memory, and some checkpoints on disk."""
    edit_weights(folder, lambda weights: {
        k.replace("language_model.model.", "model.language_model.").replace("language_model.lm_head.", "lm_head."): v for k, v in weights.items()})


def deepseek_hub(folder):
    """The published DeepSeek: keys of transformers 4 and of its own code, a layer that predicts a further token behind the last."""
    old_keys(folder)

    def config(c):
        c["rope_scaling"]["type"] = c["rope_scaling"].pop("rope_type")
        c.update(moe_layer_freq=1, ep_size=1, seq_aux=True)
        if c["model_type"] == "deepseek_v3":
            c.update(scoring_func="sigmoid", topk_method="noaux_tc", num_nextn_predict_layers=1)
        else:
            c.update(scoring_func="softmax", topk_method="greedy", n_group=1, topk_group=1, norm_topk_prob=False)

    def further(weights):
        n, d = 2, weights["model.norm.weight"].shape[0]
        if any("e_score_correction_bias" in k for k in weights):
            last = {k.replace(f"layers.{n - 1}.", f"layers.{n}."): v.clone() for k, v in weights.items() if f"layers.{n - 1}.self_attn" in k}
            weights |= last | {f"model.layers.{n}.{k}": torch.ones(d) for k in ("enorm.weight", "hnorm.weight", "shared_head.norm.weight")}
            weights[f"model.layers.{n}.eh_proj.weight"] = torch.full((d, 2 * d), 0.25)
        return weights
    edit_weights(folder, further)
    edit_config(folder, config)


def deepseek_zero(folder):
    """What transformers 4 made of experts outside of the best groups: a selection score of 0."""
    edit_config(folder, lambda c: c.update(group_mask="zero"))


def deepseek_fp8(folder):
    """The weights as published: 8-bit floats, each block times a scale, which is cut off at the edges."""
    block = [8, 8]

    def pack(weights):
        out = {}
        for name, w in weights.items():
            if w.ndim != 2 or not any(part in name for part in ("self_attn", "mlp")) or "gate.weight" in name:
                out[name] = w
                continue
            rows, columns = (-(-n // b) for n, b in zip(w.shape, block))
            padded = F.pad(w.float(), (0, columns * block[1] - w.shape[1], 0, rows * block[0] - w.shape[0]))
            scale = padded.unflatten(1, (columns, block[1])).unflatten(0, (rows, block[0])).abs().amax((1, 3)) / 448
            by = scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:w.shape[0], :w.shape[1]]
            out[name], out[f"{name}_scale_inv"] = (w.float() / by).to(torch.float8_e4m3fn), scale
        return out
    edit_weights(folder, pack)
    edit_config(folder, lambda c: c.update(quantization_config={
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": block}))


def gpt_oss_mxfp4(folder):
    """The experts as published: 4-bit floats, 32 of them with one exponent."""
    values = torch.tensor(FP4_VALUES)

    def pack(weights):
        out = {}
        for name, w in weights.items():
            if not name.endswith(("gate_up_proj", "down_proj")):
                out[name] = w
                continue
            groups = w.float().transpose(1, 2).unflatten(-1, (-1, 32))
            exponent = (groups.abs().amax(-1) / 6).log2().ceil()
            nearest = (groups / exponent.exp2()[..., None])[..., None].sub(values).abs().argmin(-1).to(torch.uint8)
            out[f"{name}_blocks"] = nearest[..., 0::2] | nearest[..., 1::2] << 4
            out[f"{name}_scales"] = (exponent + 127).to(torch.uint8)
        return out
    edit_weights(folder, pack)
    edit_config(folder, lambda c: c.update(quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}))


def unpacked(folder):
    """The tensors of a folder as transformers unpacks them, in float32."""
    weights, out = load_file(folder / "model.safetensors"), {}
    block = json.loads((folder / "config.json").read_text())["quantization_config"].get("weight_block_size")
    for name, w in weights.items():
        if name.endswith("_blocks"):
            name = name.removesuffix("_blocks")
            out[name] = convert_moe_packed_tensors(w, weights[f"{name}_scales"], dtype=torch.float32)
        elif f"{name}_scale_inv" in weights:
            out[name] = _dequantize_fp8_weight(w, weights[f"{name}_scale_inv"], block, torch.float32)
        elif not name.endswith(("_scales", "_scale_inv")):
            out[name] = w.float()
    return out


def mamba2_whole(folder):
    """What transformers 4 made of several groups: one norm over all channels behind the gate."""
    edit_config(folder, lambda c: c.update(gated_norm="whole"))


def original(folder, ssm_cfg, by=8):
    """The names and the configuration of mamba_ssm, in a file of PyTorch. The embedding may have rows that are no tokens."""
    path = folder / "config.json"
    c = json.loads(path.read_text())
    weights = {k.replace("embeddings.", "embedding."): v for k, v in load_file(folder / "model.safetensors").items()}
    weights["lm_head.weight"] = weights["backbone.embedding.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config = {"d_model": c["hidden_size"], "n_layer": c["num_hidden_layers"], "vocab_size": c["vocab_size"] - (by - 1) // 4, "ssm_cfg": ssm_cfg(c),
              "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": by}
    path.write_text(json.dumps(config, indent=2) + "\n")


def mamba_original(folder):
    original(folder, lambda c: {}, 16)


def mamba_original_sizes(folder):
    original(folder, lambda c: {"d_state": c["state_size"], "expand": c["expand"], "dt_rank": c["time_step_rank"], "d_conv": c["conv_kernel"],
                                "bias": True, "layer": "Mamba1"})


def mamba2_original(folder):
    original(folder, lambda c: {"layer": "Mamba2", "d_state": c["state_size"], "headdim": c["head_dim"]}, 16)


def mamba2_original_groups(folder):
    original(folder, lambda c: {"layer": "Mamba2", "d_state": c["state_size"], "headdim": c["head_dim"], "ngroups": c["n_groups"],
                                "d_conv": c["conv_kernel"], "dt_limit": [0.1, 0.5]})


def gpt_neo_hub(folder):
    """The published GPT-Neo: masks as buffers, and the kinds of layers listed."""
    def edit(weights):
        for i in range(2):
            weights[f"transformer.h.{i}.attn.attention.bias"] = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
            weights[f"transformer.h.{i}.attn.attention.masked_bias"] = torch.tensor(-1e9)
        return weights
    edit_weights(folder, edit)
    edit_config(folder, lambda c: c.update(attention_layers=["global", "local"]))


def opt_hub(folder):
    """The published OPT: a short config, names without `model.`."""
    edit_weights(folder, lambda weights: {k.removeprefix("model."): v for k, v in weights.items()})
    edit_config(folder, lambda c: [c.pop(k, None) for k in ("enable_bias", "layer_norm_elementwise_affine", "tie_word_embeddings", "dtype")])


def bert_hub(folder):
    """The published BERT: gamma and beta, a pooler and a head for the next sentence, a short config."""
    def edit(weights):
        out = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in weights.items()}
        out["bert.pooler.dense.weight"], out["bert.pooler.dense.bias"] = torch.ones(16, 16), torch.ones(16)
        out["cls.seq_relationship.weight"], out["cls.seq_relationship.bias"] = torch.ones(2, 16), torch.ones(2)
        return out
    edit_weights(folder, edit)
    edit_config(folder, lambda c: [c.pop(k, None) for k in ("tie_word_embeddings", "is_decoder", "position_embedding_type", "dtype")])


# -- the checks ---------------------------------------------------------------------------------------------------

def close(what, a, b, tolerance=1e-5):
    # Relative to the size of the tensor: two orders of the same sum differ by that.
    error = (a - b).abs().max().item() / max(1.0, b.abs().max().item())
    assert error < tolerance, f"{what}: {error}"


def verify_mamba(i, m, v):
    close(f"{i} in_proj", torch.cat([v("ssm.x"), v("ssm.gate")], -1), m.in_proj(v("ssm.in")))
    k = m.conv_kernel_size
    conv = F.conv1d(F.pad(v("ssm.x").t()[None], (k - 1, 0)), m.conv1d.weight, m.conv1d.bias, groups=m.intermediate_size)
    close(f"{i} ssm.conv_pre", v("ssm.conv_pre"), conv[0].t())
    close(f"{i} ssm.conv", v("ssm.conv"), F.silu(conv)[0].t())
    dt, B, C = m.x_proj(v("ssm.conv")).split([m.time_step_rank, m.ssm_state_size, m.ssm_state_size], -1)
    if hasattr(m, "dt_layernorm"):
        dt, B, C = m.dt_layernorm(dt), m.b_layernorm(B), m.c_layernorm(C)
    close(f"{i} ssm.dt_pre", v("ssm.dt_pre"), m.dt_proj(dt))
    close(f"{i} ssm.dt", v("ssm.dt"), F.softplus(m.dt_proj(dt)))
    close(f"{i} ssm.decay", v("ssm.decay"), torch.exp(v("ssm.dt")[..., None] * -torch.exp(m.A_log)))
    close(f"{i} ssm.B", v("ssm.B"), B)
    close(f"{i} ssm.C", v("ssm.C"), C)
    close(f"{i} ssm.read", v("ssm.read"), torch.einsum("tcn,tn->tc", v("ssm.state"), C))
    close(f"{i} ssm.y", v("ssm.y"), v("ssm.read") + m.D * v("ssm.conv"))
    close(f"{i} ssm.gated", v("ssm.gated"), v("ssm.y") * F.silu(v("ssm.gate")))
    close(f"{i} ssm.out", v("ssm.out"), m.out_proj(v("ssm.gated")))


def verify(model, s, plain):
    """The recorded sites reproduce the model: each product, each residual add, the logits of an untapped run."""
    close("logits", s["logits"], plain)
    conv1d = lambda m, x: x @ m.weight + m.bias
    resid = s["embed"] + s.get("pos_embed", 0)
    kind = model.config.model_type
    layers = {"gpt2": lambda: model.transformer.h, "gpt_neox": lambda: model.gpt_neox.layers, "mamba": lambda: model.backbone.layers, "falcon_mamba": lambda: model.backbone.layers,
              "mamba2": lambda: model.backbone.layers}.get(
        kind, lambda: model.model.layers)()
    for i, layer in enumerate(layers):
        v = lambda name: s[f"blocks.{i}.{name}"]
        has = lambda name: f"blocks.{i}.{name}" in s
        close(f"{i} resid.pre", v("resid.pre"), resid)
        if kind in ("mamba", "falcon_mamba"):
            verify_mamba(i, layer.mixer, v)
            close(f"{i} ssm.in", v("ssm.in"), layer.norm(v("resid.pre")))
            resid = resid + v("ssm.out")
        elif kind == "mamba2":
            m, inner = layer.mixer, layer.mixer.intermediate_size
            flat = lambda name: v(name).flatten(1)
            all = m.in_proj(layer.norm(v("resid.pre")))
            close(f"{i} in_proj", torch.cat([flat("ssm.gate"), flat("ssm.x")], -1), all[:, :2 * inner])
            mixed = all[:, inner:inner + m.conv_dim].t()[None]
            conv = F.conv1d(F.pad(mixed, (m.conv_kernel_size - 1, 0)), m.conv1d.weight, m.conv1d.bias, groups=m.conv_dim)
            close(f"{i} ssm.conv_pre", flat("ssm.conv_pre"), conv[0].t()[:, :inner])
            close(f"{i} ssm.dt_pre", v("ssm.dt_pre"), all[:, -m.num_heads:] + m.dt_bias)
            close(f"{i} ssm.decay", v("ssm.decay"), torch.exp(v("ssm.dt") * -torch.exp(m.A_log)))
            close(f"{i} ssm.y", v("ssm.y"), v("ssm.read") + m.D[:, None] * v("ssm.conv"))
            close(f"{i} ssm.conv", torch.cat([flat("ssm.conv"), flat("ssm.B"), flat("ssm.C")], -1), F.silu(conv)[0].t())
            close(f"{i} ssm.gated", v("ssm.gated"), v("ssm.y") * F.silu(v("ssm.gate")))
            close(f"{i} ssm.normed", flat("ssm.normed"), m.norm(flat("ssm.y"), flat("ssm.gate")))
            close(f"{i} ssm.out", v("ssm.out"), m.out_proj(flat("ssm.normed")))
            resid = resid + v("ssm.out")
        else:
            z, out = v("attn.z").flatten(1), {"gpt2": lambda: (layer.attn.c_proj, conv1d), "gpt_neox": lambda: (layer.attention.dense, None)}.get(
                kind, lambda: (layer.self_attn.o_proj, None))()
            project, how = out
            close(f"{i} attn.out", how(project, z) if how else project(z), v("attn.out"))
            close(f"{i} attn.pattern", v("attn.pattern").sum(-1), torch.ones(v("attn.pattern").shape[:2]))
            q, k = (v("attn.q_rot"), v("attn.k_rot")) if has("attn.q_rot") else (v("attn.q"), v("attn.k"))
            group = q.shape[1] // k.shape[1]
            attention = {"gpt2": "attn", "gpt_neox": "attention"}.get(kind, "self_attn")
            scores = torch.einsum("qhd,khd->qhk", q, k.repeat_interleave(group, 1)) * getattr(layer, attention).scaling
            past = torch.ones(len(q), len(q)).tril().bool()[:, None]
            close(f"{i} attn.scores", v("attn.scores"), torch.where(past, scores, 0.0))
            close(f"{i} attn.z", v("attn.z"), torch.einsum("qhk,khd->qhd", v("attn.pattern"), v("attn.v").repeat_interleave(group, 1)))
            if has("resid.mid"):
                close(f"{i} resid.mid", v("resid.mid"), resid + v("attn.out"))
            if has("mlp.act"):
                down = {"gpt2": lambda: conv1d(layer.mlp.c_proj, v("mlp.act")), "gpt_neox": lambda: layer.mlp.dense_4h_to_h(v("mlp.act")),
                        "llama": lambda: layer.mlp.down_proj(v("mlp.act"))}[kind]()
                close(f"{i} mlp.out", down, v("mlp.out"))
                if has("mlp.up"):
                    close(f"{i} mlp.act", v("mlp.act"), layer.mlp.act_fn(v("mlp.pre")) * v("mlp.up"))
            if has("moe.gates"):
                close(f"{i} moe", (v("moe.gates")[..., None] * v("moe.expert_out")).sum(1), v("mlp.out"))
                close(f"{i} moe.scores", v("moe.scores"), v("moe.router").softmax(-1))
                close(f"{i} moe.selection", v("moe.selection"), v("moe.scores"))
            resid = resid + v("attn.out") + v("mlp.out")
        close(f"{i} resid.post", v("resid.post"), resid)
        resid = v("resid.post")
    close("logits", model.lm_head(s["unembed.in"]), s["logits"])


def parts(model):
    """The layers of the newer families: each with its attention, output projections, scale and window."""
    kind, config = model.config.model_type, model.config.get_text_config()
    if kind == "gpt_neo":
        for l in model.transformer.h:
            a = l.attn.attention
            yield l, a.out_proj, l.mlp.c_proj, 1.0, config.window_size if a.attention_type == "local" else None
    elif kind == "opt":
        for l in model.model.decoder.layers:
            yield l, l.self_attn.out_proj, l.fc2, l.self_attn.scaling, None
    else:
        for l in (model.model.language_model if kind == "gemma3" else model.model).layers:
            a = l.self_attn
            yield l, a.o_proj, getattr(l.mlp, "down_proj", None), a.scaling, getattr(a, "sliding_window", config.sliding_window if kind in ("mistral", "phi3") else None)


def verify_experts(i, gate, mlp, v, has):
    scores, k = v("moe.router").softmax(-1), gate.top_k
    close(f"{i} moe.router", v("moe.router"), F.linear(v("mlp.in"), gate.weight, getattr(gate, "bias", None)))
    close(f"{i} moe.scores", v("moe.scores"), scores)
    close(f"{i} moe.selection", v("moe.selection"), scores)
    top = scores.sort(-1, descending=True).values
    normed = getattr(gate, "norm_topk_prob", hasattr(gate, "bias"))
    close(f"{i} moe.gates", v("moe.gates").sum(-1), torch.ones(len(top)) if normed else top[:, :k].sum(-1))
    together = (v("moe.gates")[..., None] * v("moe.expert_out")).sum(1)
    if has("moe.shared"):
        close(f"{i} moe.out", v("moe.out"), together)
        close(f"{i} moe.shared_gate", v("moe.shared_gate"), mlp.shared_expert_gate(v("mlp.in")).sigmoid()[:, 0])
        shared = v("moe.shared_gate")[:, None] * mlp.shared_expert.down_proj(v("moe.shared_act"))
        close(f"{i} moe.shared", v("moe.shared"), shared)
        together = together + shared
    close(f"{i} mlp.out", v("mlp.out"), together)


def verify_choice(i, gate, config, v):
    """Selection, choice and gates by the router's own parameters."""
    bias = gate.e_score_correction_bias if config.model_type == "deepseek_v3" else 0
    close(f"{i} moe.selection", v("moe.selection"), v("moe.scores") + bias)
    assert bool((v("moe.top_k") == gate.top_k).all())
    chosen = first_largest(in_groups(gate, config, v("moe.selection")), gate.top_k)
    close(f"{i} moe.chosen", v("moe.chosen"), torch.zeros_like(v("moe.scores")).scatter(1, chosen, 1.0))
    close(f"{i} moe.chosen_scores", v("moe.chosen_scores"), v("moe.chosen") * v("moe.scores"))
    assert bool(((v("moe.gates") != 0) == (v("moe.chosen") != 0)).all()), f"{i}: a gate of an expert that is not chosen"


def verify_latent(model, s, plain):
    """DeepSeek's latent attention, dense layers, routers and shared experts."""
    close("logits", s["logits"], plain)
    resid, config = s["embed"], model.config
    v2 = config.model_type == "deepseek_v2"
    for i, layer in enumerate(model.model.layers):
        v = lambda name: s[f"blocks.{i}.{name}"]
        has = lambda name: f"blocks.{i}.{name}" in s
        a, n = layer.self_attn, layer.self_attn.qk_nope_head_dim
        close(f"{i} resid.pre", v("resid.pre"), resid)
        close(f"{i} attn.in", v("attn.in"), layer.input_layernorm(resid))
        from_row = v("attn.in")
        if has("attn.q_latent"):
            from_row = v("attn.q_latent")
            close(f"{i} attn.q_latent", from_row, a.q_a_layernorm(a.q_a_proj(v("attn.in"))))
        close(f"{i} attn.q", v("attn.q").flatten(1), (a.q_b_proj if has("attn.q_latent") else a.q_proj)(from_row))
        both = a.kv_a_proj_with_mqa(v("attn.in"))
        close(f"{i} attn.kv_latent", v("attn.kv_latent"), a.kv_a_layernorm(both[:, :a.kv_lora_rank]))
        own = a.kv_b_proj(v("attn.kv_latent")).unflatten(-1, (a.num_heads, -1))
        close(f"{i} attn.v", v("attn.v"), own[..., n:])
        close(f"{i} attn.k", v("attn.k"), torch.cat([own[..., :n], both[:, None, a.kv_lora_rank:].expand(-1, a.num_heads, -1)], -1))
        close(f"{i} attn.k_rot", v("attn.k_rot")[..., :n], v("attn.k")[..., :n])
        scores = torch.einsum("qhd,khd->qhk", v("attn.q_rot"), v("attn.k_rot")) * a.scaling
        past = seen(0, len(scores), len(scores), None)[:, None]
        close(f"{i} attn.scores", v("attn.scores"), torch.where(past, scores, 0.0))
        close(f"{i} attn.pattern", v("attn.pattern"), torch.where(past, scores, -torch.inf).softmax(-1))
        close(f"{i} attn.z", v("attn.z"), torch.einsum("qhk,khd->qhd", v("attn.pattern"), v("attn.v")))
        close(f"{i} attn.out", v("attn.out"), a.o_proj(v("attn.z").flatten(1)))
        close(f"{i} resid.mid", v("resid.mid"), resid + v("attn.out"))
        if has("moe.gates"):
            gate, mlp = layer.mlp.gate, layer.mlp
            close(f"{i} moe.router", v("moe.router"), F.linear(v("mlp.in"), gate.weight))
            close(f"{i} moe.scores", v("moe.scores"), v("moe.router").softmax(-1) if v2 else v("moe.router").sigmoid())
            verify_choice(i, gate, config, v)
            shared = mlp.shared_experts.down_proj(v("moe.shared_act"))
            close(f"{i} moe.shared", v("moe.shared"), shared)
            close(f"{i} moe.out", v("moe.out"), (v("moe.gates")[..., None] * v("moe.expert_out")).sum(1))
            close(f"{i} mlp.out", v("mlp.out"), v("moe.out") + v("moe.shared"))
        else:
            close(f"{i} mlp.act", v("mlp.act"), F.silu(v("mlp.pre")) * v("mlp.up"))
            close(f"{i} mlp.out", v("mlp.out"), layer.mlp.down_proj(v("mlp.act")))
        resid = v("resid.mid") + v("mlp.out")
        close(f"{i} resid.post", v("resid.post"), resid)
        resid = v("resid.post")
    close("logits", model.lm_head(s["unembed.in"]), s["logits"])


def clear(model, s, ties):
    """No choice of experts is so near that the order of a sum decides it; or else some are exact ties."""
    tied = 0
    for name in [n for n in s if n.endswith("moe.selection")]:
        chosen, x = s[name.replace("selection", "chosen")], s[name]
        if model.config.model_type.startswith("deepseek"):
            x = in_groups(model.model.layers[int(name.split(".")[1])].mlp.gate, model.config, x)
        least = torch.where(chosen > 0, x, torch.inf).amin(-1)
        most = torch.where(chosen > 0, -torch.inf, x).amax(-1)
        gap = least - most
        tied += int((gap == 0).sum())
        near = (gap < 1e-4) & (gap != 0)
        # Of experts outside of the best groups with a selection score of 0, the first is taken.
        outside = (least == 0) & (most == 0)
        tied -= int(outside.sum())
        assert not near.any(), f"{name}: a choice of experts is too close"
    assert (tied > 0) == ties, f"{tied} choices between equals"


def verify_jamba(model, s, plain):
    close("logits", s["logits"], plain)
    resid = s["embed"]
    for i, layer in enumerate(model.model.layers):
        v = lambda name: s[f"blocks.{i}.{name}"]
        has = lambda name: f"blocks.{i}.{name}" in s
        close(f"{i} resid.pre", v("resid.pre"), resid)
        kind = "ssm" if has("ssm.in") else "attn"
        close(f"{i} in", v(f"{kind}.in"), layer.input_layernorm(resid))
        if kind == "ssm":
            verify_mamba(i, layer.mamba, v)
        else:
            a, group = layer.self_attn, v("attn.q").shape[1] // v("attn.k").shape[1]
            close(f"{i} attn.q", v("attn.q").flatten(1), a.q_proj(v("attn.in")))
            scores = torch.einsum("qhd,khd->qhk", v("attn.q"), v("attn.k").repeat_interleave(group, 1)) * a.scaling
            past = seen(0, len(scores), len(scores), None)[:, None]
            close(f"{i} attn.pattern", v("attn.pattern"), torch.where(past, scores, -torch.inf).softmax(-1))
            close(f"{i} attn.z", v("attn.z"), torch.einsum("qhk,khd->qhd", v("attn.pattern"), v("attn.v").repeat_interleave(group, 1)))
            close(f"{i} attn.out", v("attn.out"), a.o_proj(v("attn.z").flatten(1)))
        close(f"{i} resid.mid", v("resid.mid"), resid + v(f"{kind}.out"))
        if has("moe.gates"):
            verify_experts(i, layer.feed_forward.router, None, v, has)
        else:
            close(f"{i} mlp.out", v("mlp.out"), layer.feed_forward.down_proj(v("mlp.act")))
        close(f"{i} resid.post", v("resid.post"), v("resid.mid") + v("mlp.out"))
        resid = v("resid.post")
    close("logits", model.lm_head(s["unembed.in"]), s["logits"])


def verify_parts(model, s, plain):
    """The same for the newer families."""
    close("logits", s["logits"], plain)
    kind, config = model.config.model_type, model.config.get_text_config()
    resid = s["embed"] + s.get("pos_embed", 0)
    for i, (layer, out, down, scale, window) in enumerate(parts(model)):
        v = lambda name: s[f"blocks.{i}.{name}"]
        has = lambda name: f"blocks.{i}.{name}" in s
        close(f"{i} resid.pre", v("resid.pre"), resid)
        if kind in HEAD_NORMS:
            flat = lambda x: x.flatten(1) if kind in ("olmo2", "olmoe") else x
            close(f"{i} attn.q_norm", flat(v("attn.q_norm")), layer.self_attn.q_norm(flat(v("attn.q"))))
            close(f"{i} attn.k_norm", flat(v("attn.k_norm")), layer.self_attn.k_norm(flat(v("attn.k"))))
        q, k = (v("attn.q_rot"), v("attn.k_rot")) if has("attn.q_rot") else (v("attn.q"), v("attn.k"))
        group = q.shape[1] // k.shape[1]
        scores = torch.einsum("qhd,khd->qhk", q, k.repeat_interleave(group, 1)) * scale
        cap = config.attn_logit_softcapping if kind == "gemma2" else None
        scores = torch.tanh(scores / cap) * cap if cap else scores
        past = seen(0, len(q), len(q), window)[:, None]
        assert window is None or window < len(q), f"{i}: the window holds all"
        close(f"{i} attn.scores", v("attn.scores"), torch.where(past, scores, 0.0))
        seen_scores = torch.where(past, scores, -torch.inf)
        if has("attn.sink"):
            sinks = layer.self_attn.sinks[None, :, None].expand(len(q), -1, 1)
            pattern = torch.cat([seen_scores, sinks], -1).softmax(-1)
            close(f"{i} attn.sink", v("attn.sink"), pattern[..., -1])
            close(f"{i} attn.pattern", v("attn.pattern"), pattern[..., :-1])
        else:
            close(f"{i} attn.pattern", v("attn.pattern"), seen_scores.softmax(-1))
        values = v("attn.v").clamp(-config.clip_qkv, config.clip_qkv) if clips(model) else v("attn.v")
        close(f"{i} attn.z", v("attn.z"), torch.einsum("qhk,khd->qhd", v("attn.pattern"), values.repeat_interleave(group, 1)))
        behind = kind in NORMS_BEHIND
        close(f"{i} attn.out", out(v("attn.z").flatten(1)), v("attn.proj" if behind else "attn.out"))
        if has("moe.gates"):
            verify_experts(i, layer.mlp.router if kind == "gpt_oss" else layer.mlp.gate, layer.mlp, v, has)
        else:
            close(f"{i} mlp.out", down(v("mlp.act")), v("mlp.proj" if behind else "mlp.out"))
        if behind:
            close(f"{i} attn norm", layer.post_attention_layernorm(v("attn.proj")), v("attn.out"))
            close(f"{i} mlp norm", layer.post_feedforward_layernorm(v("mlp.proj")), v("mlp.out"))
        if has("mlp.up"):
            act = getattr(layer.mlp, "act_fn", None) or layer.mlp.activation_fn
            close(f"{i} mlp.act", v("mlp.act"), act(v("mlp.pre")) * v("mlp.up"))
        norms = (layer.self_attn_layer_norm, layer.final_layer_norm) if kind == "opt" and not config.do_layer_norm_before else (lambda x: x,) * 2
        close(f"{i} resid.mid", v("resid.mid"), norms[0](resid + v("attn.out")))
        close(f"{i} resid.post", v("resid.post"), norms[1](v("resid.mid") + v("mlp.out")))
        resid = v("resid.post")
    read = s["unembed.in"]
    if kind == "opt" and model.model.decoder.project_out is not None:
        read = model.model.decoder.project_out(read)
    logits, cap = model.lm_head(read), getattr(config, "final_logit_softcapping", None)
    close("logits", torch.tanh(logits / cap) * cap if cap else logits, s["logits"])


def verify_encoder(model, s, plain):
    """The same for encoders."""
    close("logits", s["logits"], plain)
    kind = model.config.model_type
    embeddings = getattr(model, kind).embeddings
    resid = embeddings.LayerNorm(s["embed"] + s.get("type_embed", 0) + s["pos_embed"])
    for i, l in enumerate(encoder_layers(model)):
        v = lambda name: s[f"blocks.{i}.{name}"]
        close(f"{i} resid.pre", v("resid.pre"), resid)
        close(f"{i} attn.in", v("attn.in"), resid)
        scores = torch.einsum("qhd,khd->qhk", v("attn.q"), v("attn.k")) * l.d_head ** -0.5
        close(f"{i} attn.scores", v("attn.scores"), scores)
        close(f"{i} attn.pattern", v("attn.pattern"), scores.softmax(-1))
        close(f"{i} attn.z", v("attn.z"), torch.einsum("qhk,khd->qhd", v("attn.pattern"), v("attn.v")))
        close(f"{i} attn.out", l.out(v("attn.z").flatten(1)), v("attn.out"))
        close(f"{i} resid.mid", v("resid.mid"), l.norm1(resid + v("attn.out")))
        close(f"{i} mlp.in", v("mlp.in"), v("resid.mid"))
        close(f"{i} mlp.act", v("mlp.act"), l.act(l.up(v("mlp.in"))))
        close(f"{i} mlp.out", l.down(v("mlp.act")), v("mlp.out"))
        close(f"{i} resid.post", v("resid.post"), l.norm2(v("resid.mid") + v("mlp.out")))
        resid = v("resid.post")
    close("logits", encoder_head(model)[2](s["unembed.in"]), s["logits"])


def make(name):
    build, options = VARIANTS[name]
    seed = 1000 + list(VARIANTS).index(name)
    torch.manual_seed(seed)
    model = build()
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    if options.get("ties"):
        tie(model)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    kw = {"max_shard_size": options["shards"]} if "shards" in options else {}
    if options.get("stacked"):
        kw["save_original_format"] = False
    model.to(options.get("dtype", torch.float32)).save_pretrained(folder, **kw)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if "then" in options:
        globals()[options["then"]](folder)
    model = load(name)
    tokens = torch.randint(model.config.get_text_config().vocab_size, (12 + seed % 5,), generator=generator)
    if name.startswith("roberta"):
        # Which a text does not have; positions are counted without it.
        tokens[tokens == model.config.pad_token_id] += 1
    sites, plain = recorded(model, tokens.tolist(), options.get("ties", False))
    with torch.no_grad():
        kind = model.config.model_type
        first = kind in ("gpt2", "gpt_neox", "mamba", "falcon_mamba", "mamba2", "llama", "mixtral")
        latent = kind.startswith("deepseek")
        (verify if first else verify_jamba if kind == "jamba" else verify_latent if latent else verify_encoder if kind in ENCODERS else verify_parts)(
            model, sites, plain)
        clear(model, sites, options.get("ties", False))
    small = [k for k, v in sites.items() if v.abs().mean() < 1e-2 and not k.endswith(("attn.pattern", "moe.gates", "attn.sink"))]
    assert not small, small
    save_file({"tokens": tokens.to(torch.int32), **{k: v.contiguous() for k, v in sites.items()}}, folder / "expected.safetensors")
    if "after" in options:
        globals()[options["after"]](folder)
    for f in folder.iterdir():
        f.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {len(sites)} sites, {size // 1024} KB, logits up to {plain.abs().max():.1f}")


def recorded(model, tokens, ties):
    """The sites and the logits. torch.topk takes any of equals: where there are some, it is made to take the first."""
    topk = torch.topk

    def first(x, k, dim=-1, **_):
        indices = first_largest(x, k)
        return x.gather(-1, indices), indices
    torch.topk = first if ties else topk
    try:
        return record(model, tokens)
    finally:
        torch.topk = topk


def load(name):
    kw = {} if name.startswith(("mamba", "falconmamba")) else {"attn_implementation": "eager"}
    kind = Gemma3ForConditionalGeneration if name in ("gemma3-images", "gemma3-renamed") else AutoModelForCausalLM
    kind = AutoModelForMaskedLM if name.startswith(ENCODERS) else kind
    config = json.loads((HERE / name / "config.json").read_text())
    if "quantization_config" not in config:
        return older(kind.from_pretrained(HERE / name, dtype=torch.float32, **kw).eval(), config)
    with tempfile.TemporaryDirectory() as folder:
        save_file({k: v.contiguous() for k, v in unpacked(HERE / name).items()}, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        config.pop("quantization_config")
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return kind.from_pretrained(folder, dtype=torch.float32, **kw).eval()


def older(model, config):
    """What transformers 4 did where the configuration asks for it, with keys that are ours."""
    for m in model.modules():
        if config.get("gated_norm") == "whole" and hasattr(m, "group_size"):
            m.group_size = len(m.weight)
        if config.get("group_mask") == "zero" and hasattr(m, "e_score_correction_bias"):
            m.forward = types.MethodType(router_of_transformers_4, m)
    return model


def router_of_transformers_4(self, x):
    logits = F.linear(x.view(-1, x.shape[-1]), self.weight)
    scores = logits.sigmoid()
    by = scores + self.e_score_correction_bias
    groups = by.view(len(by), self.num_group, -1).topk(2, dim=-1)[0].sum(-1).topk(self.topk_group, dim=-1)[1]
    mask = torch.zeros(len(by), self.num_group).scatter_(1, groups, 1).repeat_interleave(by.shape[-1] // self.num_group, 1)
    chosen = by.masked_fill(mask == 0, 0.0).topk(self.top_k, dim=-1)[1]
    assert (mask.gather(1, chosen) == 0).any(), "no expert outside of the best groups is chosen"
    gates = scores.gather(1, chosen)
    if self.norm_topk_prob:
        gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
    return logits, gates * self.routed_scaling_factor, chosen


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default="")
    only = p.parse_args().only
    torch.set_num_threads(1)
    for name in VARIANTS:
        if name.startswith(only):
            make(name)


if __name__ == "__main__":
    main()
