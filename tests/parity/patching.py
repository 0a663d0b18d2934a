"""Writes patching.json and patching_random.json: what TransformerLens' patching functions give for the small trained GPT-2
and for GPT-2-small's shape with random weights, which the test makes by the same formula (`random_state` here).

    python patching.py [trained random]

Needs torch, transformers and transformer_lens (2.16), which loads the checkpoint of tests/models/tiny-gpt2 with no folding,
centring or other processing of weights. Cells are logit(" Mary") - logit(" John") at the last position of the corrupt
prompt with one activation taken from the clean one, in TransformerLens' own order of axes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
MODEL = HERE.parent / "models" / "tiny-gpt2"
CLEAN = "When Mary and John went to the shop, John gave a drink to"
POSITIONS, HEADS = [1, 10, 14], [0, 7]
CORRUPT = "When Mary and John went to the shop, Mary gave a drink to"


def hooked(hf):
    c = hf.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head, n_heads=c.n_head,
        d_mlp=c.n_inner or 4 * c.n_embd, d_vocab=c.vocab_size, act_fn="gelu_new", eps=c.layer_norm_epsilon,
        normalization_type="LN", model_name="tiny-gpt2", device="cpu", dtype=torch.float32)
    model = HookedTransformer(cfg)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, cfg), fold_ln=False, center_writing_weights=False, center_unembed=False,
        fold_value_biases=False)
    return model.eval()


def numbers(tensor, count):
    """Whole numbers from -128 to 127: splitmix64 of the tensor's and the element's place."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(tensor << 40)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.int64) - 128


def random_state(c):
    """Weights by name, in the order of the file."""
    d, out = c.n_embd, {}

    def add(name, shape, step, middle=0.0):
        values = middle + numbers(len(out), int(np.prod(shape))) * step
        out[name] = torch.tensor(values.reshape(shape), dtype=torch.float32)
    add("transformer.wte.weight", (c.vocab_size, d), 2.0 ** -9)
    add("transformer.wpe.weight", (c.n_positions, d), 2.0 ** -12)
    norms = lambda name: (add(name + ".weight", (d,), 2.0 ** -10, 1.0), add(name + ".bias", (d,), 2.0 ** -12))
    linear = lambda name, n, m: (add(name + ".weight", (n, m), 2.0 ** -12), add(name + ".bias", (m,), 2.0 ** -12))
    for i in range(c.n_layer):
        h = f"transformer.h.{i}."
        norms(h + "ln_1")
        linear(h + "attn.c_attn", d, 3 * d)
        linear(h + "attn.c_proj", d, d)
        norms(h + "ln_2")
        linear(h + "mlp.c_fc", d, 4 * d)
        linear(h + "mlp.c_proj", 4 * d, d)
    norms("transformer.ln_f")
    return out


def prompts():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    clean, corrupt = (torch.tensor([tokenizer(t)["input_ids"]]) for t in (CLEAN, CORRUPT))
    mary, john = (tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" Mary", " John"))
    return clean, corrupt, lambda logits: logits[0, -1, mary] - logits[0, -1, john]


def write(file, model, clean, corrupt, metric, tables):
    ends = {"clean_ld": metric(model(clean)).item(), "corrupt_ld": metric(model(corrupt)).item()}
    text = json.dumps({
        "clean": CLEAN, "corrupt": CORRUPT, **{k: round(v, 6) for k, v in ends.items()},
        "tables": {k: {"shape": list(v.shape), "values": [round(x, 5) for x in v.flatten().tolist()]}
                   for k, v in tables.items()},
    })
    (HERE / file).write_text(text + "\n")


TABLES = {
    "resid_pre": patching.get_act_patch_resid_pre,
    "attn_out": patching.get_act_patch_attn_out,
    "mlp_out": patching.get_act_patch_mlp_out,
    "head_all_pos": patching.get_act_patch_attn_head_out_all_pos,
}


def trained():
    hf = GPT2LMHeadModel.from_pretrained(MODEL, torch_dtype=torch.float32).eval()
    model = hooked(hf)
    clean, corrupt, metric = prompts()
    same = (model(clean) - hf(clean).logits).abs().max().item()
    assert same < 1e-4, same
    _, cache = model.run_with_cache(clean)
    every = TABLES | {"head_by_pos": patching.get_act_patch_attn_head_out_by_pos}
    write("patching.json", model, clean, corrupt, metric, {n: f(model, corrupt, cache, metric) for n, f in every.items()})


def random():
    config = GPT2Config()
    hf = GPT2LMHeadModel(config).eval()
    state = random_state(config)
    missing = hf.load_state_dict(state | {"lm_head.weight": state["transformer.wte.weight"]}, strict=False).missing_keys
    assert not missing, missing
    model = hooked(hf)
    clean, corrupt, metric = prompts()
    same = (model(clean) - hf(clean).logits).abs().max().item()
    assert same < 1e-3, same
    _, cache = model.run_with_cache(clean)
    tables = {n: f(model, corrupt, cache, metric) for n, f in TABLES.items()}
    # Some of the 2,160 heads at positions.
    some = torch.zeros(config.n_layer, len(POSITIONS), len(HEADS))
    for layer in range(config.n_layer):
        for t, position in enumerate(POSITIONS):
            for i, head in enumerate(HEADS):
                def patch(z, hook):
                    z[:, position, head] = cache[hook.name][:, position, head]
                    return z
                some[layer, t, i] = metric(model.run_with_hooks(corrupt, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", patch)]))
    write("patching_random.json", model, clean, corrupt, metric, tables | {"head_by_pos": some})


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1 if "random" not in sys.argv else 2)
    with torch.no_grad():
        for what in sys.argv[1:] or ["trained", "random"]:
            {"trained": trained, "random": random}[what]()


if __name__ == "__main__":
    main()
