"""Writes the GGUF fixtures: the checkpoints of tests/parity as llama.cpp's converter lays them out, and quantized blocks.

    python make.py          all of them
    python make.py NAME...  these models

It needs gguf (0.19), numpy, safetensors, torch and transformers; README.md says more. For each model file it
says how far the logits of transformers, where it reads the file, are from those of the model that the file was made of.
"""

import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

sys.path.insert(0, str(Path(__file__).parent.parent / "parity"))
from make import randomize  # noqa: E402

HERE = Path(__file__).parent
PARITY = HERE.parent / "parity"
MODELS = HERE.parent / "models"
CHAT = HERE.parent / "chat"

DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
# The folder, the family of the file, and what is different in it: files say less than configurations do.
FAMILIES = {
    "llama-grouped": ("llama", {}),
    "llama-wide": ("llama", {}),
    "llama-rope3": ("llama", {}),
    "mixtral-top2": ("llama", {}),
    "qwen2-hub": ("qwen2", {"use_sliding_window": False, "sliding_window": None, "layer_types": ["full_attention"] * 3, "rope_parameters": {**DEFAULT, "rope_theta": 1000.0}}),
    "qwen3-norms": ("qwen3", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
    "olmo2-grouped": ("olmo2", {}),
    "phi3-long": ("phi3", {}),
    "gemma-gelu": ("gemma", {"hidden_act": "gelu_pytorch_tanh"}),
    "gemma2-caps": ("gemma2", {"query_pre_attn_scalar": 6}),
    "gemma3-layers": ("gemma3", {
        "num_hidden_layers": 7, "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"], "final_logit_softcapping": None, "query_pre_attn_scalar": 6,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}, "sliding_attention": DEFAULT}}),
    "gpt2-inner": ("gpt2", {}),
    "neox-parallel": ("gptneox", {}),
    "mamba-conv": ("mamba", {}),
    "qwen2moe-shared": ("qwen2moe", {"use_sliding_window": False, "sliding_window": 4096, "layer_types": ["full_attention"] * 3}),
    "qwen3moe-normed": ("qwen3moe", {}),
    "olmoe-clip": ("olmoe", {}),
    # The factor of the file goes on top of what follows from the stretch.
    "llama-yarn": ("llama", {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 0.9 * (0.1 * float(np.log(4.0)) + 1)}}),
    # Windows in layers of no rule.
    "gemma3-pattern": ("gemma3", {
        "num_hidden_layers": 4, "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"], "final_logit_softcapping": None,
        "query_pre_attn_scalar": 6, "rope_parameters": {"full_attention": {**DEFAULT, "rope_theta": 5000.0}, "sliding_attention": DEFAULT}}),
}
# Those that are made of another folder than the one of their name.
SOURCES = {"llama-yarn": "llama-grouped", "gemma3-pattern": "gemma3-layers"}


def model_of(folder, edits):
    """The model of a folder under another configuration; layers that it lacks are random."""
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    for key, value in edits.items():
        setattr(text, key, value)
    model = AutoModelForCausalLM.from_config(text, attn_implementation="eager").float().eval()
    randomize(model, torch.Generator().manual_seed(3))
    if not any(k in edits for k in ("num_hidden_layers",)):
        model = AutoModelForCausalLM.from_pretrained(folder, config=text, dtype=torch.float32, attn_implementation="eager").eval()
    return model


def saved(model):
    """Configuration and tensors as they are saved."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = {}
        for path in sorted(Path(folder).glob("model*.safetensors")):
            tensors.update(load_file(path))
        return json.loads((Path(folder) / "config.json").read_text()), {k: v.float() for k, v in tensors.items()}


def permute(w, heads):
    """The rows i and i + n / 2 of each head side by side, as llama.cpp turns them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


def changed(family, part, w, c):
    heads = c.get("num_attention_heads", c.get("n_head"))
    if family == "llama" and part == "attn_q":
        return permute(w, heads)
    if family == "llama" and part == "attn_k":
        return permute(w, c.get("num_key_value_heads", heads))
    if family.startswith("gemma") and part.endswith("norm"):
        return w + 1
    if family == "gpt2" and part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
        return w.T.contiguous()
    if family == "gptneox" and part == "attn_qkv":
        n = w.shape[0] // heads // 3
        return w.reshape(heads, 3, n, *w.shape[1:]).transpose(0, 1).reshape(w.shape)
    if family == "mamba" and part == "ssm_a":
        return -torch.exp(w)
    if family == "mamba" and part == "ssm_conv1d" and w.ndim == 3:
        return w.squeeze(1)
    return w


def converted(family, c, tensors):
    """Name in the file: values, in the order of the folder."""
    arch = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[family]
    layers = c.get("num_hidden_layers", c.get("n_layer"))
    names = gguf.get_tensor_name_map(arch, layers)
    out, experts = {}, {}
    for name, w in tensors.items():
        if ".experts." in name:
            head, rest = name.split(".experts.")
            layer = head.split(".")[2]
            if rest == "gate_up_proj":
                out[f"blk.{layer}.ffn_gate_exps.weight"], out[f"blk.{layer}.ffn_up_exps.weight"] = w.chunk(2, dim=1)
                continue
            if rest == "down_proj":
                out[f"blk.{layer}.ffn_down_exps.weight"] = w
                continue
            number, kind = rest.split(".")[:2]
            stacked = f"blk.{layer}.ffn_{ {'w1': 'gate', 'w2': 'down', 'w3': 'up'}.get(kind, kind.removesuffix('_proj')) }_exps.weight"
            experts.setdefault(stacked, {})[int(number)] = w
            continue
        new = names.get_name(name.replace("language_model.", ""), try_suffixes=(".weight", ".bias"))
        # What each family's converter calls otherwise than the common table.
        if family in ("gemma2", "gemma3", "olmo2") and name.endswith("post_attention_layernorm.weight"):
            new = f"blk.{name.split('.layers.')[1].split('.')[0]}.post_attention_norm.weight"
        if new is None and name.endswith(("A_log", ".D")):
            new = names.get_name(name)
        assert new, name
        part = new.removesuffix(".weight").removesuffix(".bias").split(".")[-1]
        out[new] = changed(family, part, w, c)
    for name, parts in experts.items():
        out[name] = torch.stack([parts[i] for i in range(len(parts))])
    if c.get("tie_word_embeddings", family in ("gpt2", "mamba", "gemma", "gemma2", "gemma3")):
        out.pop("output.weight", None)
    return out


def metadata(w, family, c):
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    rope = rope.get("full_attention", rope)
    d = c.get("hidden_size", c.get("n_embd"))
    w.add_context_length(c.get("max_position_embeddings", c.get("n_positions", 64)))
    w.add_embedding_length(d)
    w.add_block_count(c.get("num_hidden_layers", c.get("n_layer")))
    w.add_vocab_size(c["vocab_size"])
    if family == "mamba":
        w.add_feed_forward_length(0)
        w.add_head_count(0)
        w.add_ssm_conv_kernel(c["conv_kernel"])
        w.add_ssm_inner_size(c["intermediate_size"])
        w.add_ssm_state_size(c["state_size"])
        w.add_ssm_time_step_rank(c["time_step_rank"])
        w.add_layer_norm_rms_eps(c["layer_norm_epsilon"])
        return
    heads = c.get("num_attention_heads", c.get("n_head"))
    w.add_head_count(heads)
    w.add_feed_forward_length(c.get("intermediate_size", c.get("n_inner")))
    if family in ("gpt2", "gptneox"):
        w.add_layer_norm_eps(c.get("layer_norm_eps", c.get("layer_norm_epsilon")))
        if family == "gptneox":
            w.add_rope_dimension_count(int(rope["partial_rotary_factor"] * d // heads))
            w.add_parallel_residual(c["use_parallel_residual"])
        return
    w.add_head_count_kv(c.get("num_key_value_heads", heads))
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(rope.get("rope_theta", c.get("rope_theta", 10000.0)))
    n = c.get("head_dim") or d // heads
    if c.get("head_dim"):
        w.add_key_length(n)
        w.add_value_length(n)
    experts = c.get("num_local_experts", c.get("num_experts"))
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(c["num_experts_per_tok"])
    if c.get("moe_intermediate_size"):
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    if c.get("shared_expert_intermediate_size"):
        w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
    if c.get("clip_qkv"):
        w.add_clamp_kqv(c["clip_qkv"])
    if c.get("sliding_window") and family in ("phi3", "gemma2", "gemma3"):
        w.add_sliding_window(c["sliding_window"])
    kinds = c.get("layer_types", [])
    if family == "gemma3" and kinds != ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(len(kinds))]:
        w.add_sliding_window_pattern([k == "sliding_attention" for k in kinds])
    if family == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if family == "phi3":
        w.add_rope_dimension_count(int(n * rope.get("partial_rotary_factor", c.get("partial_rotary_factor", 1))))
        if "short_factor" in rope:
            trained = rope.get("original_max_position_embeddings") or c["original_max_position_embeddings"]
            w.add_rope_scaling_orig_ctx_len(trained)
            w.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
            w.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
            stretch = c["max_position_embeddings"] / trained
            w.add_rope_scaling_attn_factors(rope.get("attention_factor") or (1 + np.log(stretch) / np.log(trained)) ** 0.5)
    if rope.get("rope_type", rope.get("type")) == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, n).numpy())
    if rope.get("rope_type") == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        w.add_rope_scaling_attn_factors(rope["attention_factor"] / (0.1 * float(np.log(rope["factor"])) + 1))
    if rope.get("rope_type") == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])


def llama3_factors(rope, n):
    """What each frequency is divided by."""
    f = 1.0 / (rope.get("rope_theta", 10000.0) ** (torch.arange(0, n, 2).float() / n))
    length = 2 * torch.pi / f
    trained, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    share = (trained / length - low) / (high - low)
    between = 1 / ((1 - share) / rope["factor"] + share)
    return torch.where(length < trained / high, 1.0, torch.where(length > trained / low, rope["factor"], between))


def model(name, family, edits):
    own = model_of(PARITY / SOURCES.get(name, name), edits)
    c, tensors = saved(own)
    path = HERE / f"{name}.gguf"
    w = gguf.GGUFWriter(path, family)
    metadata(w, family, c)
    for key, value in converted(family, c, tensors).items():
        w.add_tensor(key, value.contiguous().numpy())
    close(w)
    tokens = torch.randint(0, c["vocab_size"], (13,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = own(tokens[None]).logits[0]
    save_file({"tokens": tokens.int(), "logits": logits.contiguous()}, HERE / f"{name}.safetensors")
    try:
        other = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=path.name, dtype=torch.float32).eval()
        with torch.no_grad():
            apart = ((other(tokens[None]).logits[0] - logits).abs().max() / logits.abs().max()).item()
        print(f"   transformers reads the file: {apart:.1e} apart")
    except Exception as e:
        print("   transformers does not read it:", type(e).__name__, str(e)[:90])


def close(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def random_blocks(kind, rows, columns, generator, size):
    """Random bytes of a format, with scales that give elements of about `size`."""
    block, width = gguf.GGML_QUANT_SIZES[kind]
    n = rows * columns // block
    raw = generator.integers(0, 256, (n, width), dtype=np.uint8)
    # Where the f16 scales of a block stand, and how large quants times inner scales are.
    places = {Q.Q4_0: ([0], 8), Q.Q4_1: ([0, 2], 15), Q.Q5_0: ([0], 16), Q.Q5_1: ([0, 2], 31), Q.Q8_0: ([0], 127), Q.IQ4_NL: ([0], 127),
              Q.Q2_K: ([80, 82], 45), Q.Q3_K: ([108], 128), Q.Q4_K: ([0, 2], 945), Q.Q5_K: ([0, 2], 1953), Q.Q6_K: ([208], 4000)}
    for at in places[kind][0]:
        scales = (generator.uniform(0.5, 1.0, n) * 2 * size / places[kind][1]).astype(np.float16)
        raw[:, at:at + 2] = scales.view(np.uint8).reshape(n, 2)
    return raw.reshape(rows, -1)


KINDS = [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL]


def blocks():
    """Each format with what gguf makes of it."""
    generator = np.random.default_rng(7)
    w = gguf.GGUFWriter(HERE / "blocks.gguf", "llama")
    expected = {}
    for kind in KINDS:
        raw = random_blocks(kind, 2, 512, generator, 1.0)
        w.add_tensor(kind.name, raw, raw_dtype=kind)
        expected[kind.name] = torch.from_numpy(gguf.dequantize(raw, kind).reshape(2, 512).copy())
    close(w)
    save_file(expected, HERE / "blocks.safetensors")


def quantized():
    """A model whose tensors have all formats, and the logits of transformers with its weights as they are."""
    generator = np.random.default_rng(11)
    c = LlamaConfig(vocab_size=40, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                    head_dim=32, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
    own = LlamaForCausalLM(c).eval()
    tensors = {k: v.float() for k, v in own.state_dict().items()}
    w = gguf.GGUFWriter(HERE / "quantized.gguf", "llama")
    metadata(w, "llama", json.loads(c.to_json_string()))
    torch.manual_seed(5)
    dequantized = {}
    for i, (name, value) in enumerate(converted("llama", json.loads(c.to_json_string()), tensors).items()):
        if value.ndim == 1:
            value = 1 + 0.2 * torch.randn_like(value)
            w.add_tensor(name, value.numpy())
            dequantized[name] = value
            continue
        fitting = [k for k in KINDS if value.shape[1] % gguf.GGML_QUANT_SIZES[k][0] == 0]
        kind = fitting[i % len(fitting)]
        raw = random_blocks(kind, *value.shape, generator, 0.1)
        w.add_tensor(name, raw, raw_dtype=kind)
        dequantized[name] = torch.from_numpy(gguf.dequantize(raw, kind).reshape(value.shape).copy())
    close(w)
    # Back under the names of transformers, with rows where they were.
    names = {new: old for old, new in zip(tensors, converted("llama", json.loads(c.to_json_string()), tensors))}
    undone = {}
    for name, value in dequantized.items():
        heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[-2])
        if heads:
            value = value.reshape(heads, value.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(value.shape)
        undone[names[name]] = value
    own.load_state_dict(undone)
    tokens = torch.from_numpy(generator.integers(0, 40, 12))
    with torch.no_grad():
        logits = own(tokens[None]).logits[0]
    save_file({"tokens": tokens.int(), "logits": logits.contiguous()}, HERE / "quantized.safetensors")


def stored():
    """A mixture of experts whose matrices have the formats that are computed with as they are, and the logits of transformers."""
    generator = np.random.default_rng(13)
    c = MixtralConfig(vocab_size=40, hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                      num_local_experts=3, num_experts_per_tok=2, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(6)
    own = MixtralForCausalLM(c).float().eval()
    config = json.loads(c.to_json_string())
    w = gguf.GGUFWriter(HERE / "stored.gguf", "llama")
    metadata(w, "llama", config)
    kinds = {"token_embd": Q.Q6_K, "attn_q": Q.Q4_K, "attn_k": Q.Q8_0, "attn_v": Q.F16, "attn_output": Q.Q5_K, "ffn_gate_inp": Q.F16,
             "ffn_gate_exps": Q.Q4_0, "ffn_up_exps": Q.Q4_K, "ffn_down_exps": Q.Q6_K, "output": Q.BF16}
    tensors = {k: v.float() for k, v in own.state_dict().items()}
    dequantized = {}
    for name, value in converted("llama", config, tensors).items():
        kind = kinds.get(name.split(".")[-2])
        if value.ndim == 1:
            value = 1 + 0.2 * torch.randn_like(value)
            w.add_tensor(name, value.numpy())
            dequantized[name] = value
            continue
        if kind in (Q.F16, Q.BF16):
            raw = gguf.quantize(0.1 * torch.randn_like(value).numpy(), kind)
        else:
            raw = random_blocks(kind, value.shape[:-1].numel(), value.shape[-1], generator, 0.1).reshape(*value.shape[:-1], -1)
        w.add_tensor(name, raw, raw_dtype=kind)
        dequantized[name] = torch.from_numpy(gguf.dequantize(raw, kind).reshape(value.shape).astype(np.float32))
    close(w)
    undone = {}
    for old, value in tensors.items():
        if old.endswith("experts.gate_up_proj"):
            undone[old] = torch.cat([dequantized[f"blk.0.ffn_{part}_exps.weight"] for part in ("gate", "up")], dim=1)
            continue
        new = next(iter(converted("llama", config, {old: value})))
        value = dequantized[new]
        heads = {"attn_q": 4, "attn_k": 2}.get(new.split(".")[-2])
        if heads:
            value = value.reshape(heads, value.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(value.shape)
        undone[old] = value
    own.load_state_dict(undone)
    tokens = torch.from_numpy(generator.integers(0, 40, 12))
    with torch.no_grad():
        logits = own(tokens[None]).logits[0]
    save_file({"tokens": tokens.int(), "logits": logits.contiguous()}, HERE / "stored.safetensors")


def vocabulary(source, family, path, template=None):
    """A file with a tokenizer alone, as converters write them."""
    t = json.loads((source / "tokenizer.json").read_text())
    vocab = dict(t["model"]["vocab"])
    vocab.update({a["content"]: a["id"] for a in t["added_tokens"]})
    tokens = [text for text, _ in sorted(vocab.items(), key=lambda p: p[1])]
    special = {a["content"] for a in t["added_tokens"] if a["special"]}
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(family)
    w.add_token_list(tokens)
    unknown = t["model"].get("unk_token")
    kind = lambda s: 2 if s == unknown else 3 if s in special else 6 if s.startswith("<0x") else 1
    w.add_token_types([kind(s) for s in tokens])
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    if family == "gpt2":
        w.add_tokenizer_pre("gpt-2")
        w.add_token_merges(merges)
    else:
        # SentencePiece numbers its merges: the score of a piece is minus the rank of the merge that makes it.
        rank = {}
        for i, m in enumerate(merges):
            rank.setdefault(m.replace(" ", ""), i)
        w.add_token_scores([float(-rank.get(s, 10 ** 6)) for s in tokens])
    settings = json.loads((source / "tokenizer_config.json").read_text()) if (source / "tokenizer_config.json").exists() else {}
    text = lambda v: v.get("content") if isinstance(v, dict) else v
    post = json.dumps(t["post_processor"])
    bos = next((s for s in special if s in post), None) or text(settings.get("bos_token"))
    if bos:
        w.add_bos_token_id(vocab[bos])
    w.add_add_bos_token(bool(bos) and bos in post)
    if text(settings.get("eos_token")) in vocab:
        w.add_eos_token_id(vocab[text(settings["eos_token"])])
    if template:
        w.add_chat_template(template)
    close(w)


if __name__ == "__main__":
    for name, (family, edits) in FAMILIES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        print(name)
        model(name, family, edits)
    if sys.argv[1:]:
        sys.exit()
    blocks()
    quantized()
    stored()
    vocabulary(CHAT / "bytes", "gpt2", HERE / "vocabulary-bytes.gguf", (CHAT / "turns.jinja").read_text())
    vocabulary(CHAT / "pieces", "llama", HERE / "vocabulary-pieces.gguf")
