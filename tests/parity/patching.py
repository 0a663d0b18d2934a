"""Writes patching.json: what TransformerLens' patching functions give for the small trained GPT-2.

    python patching.py

Needs torch, transformers and transformer_lens (2.16), which loads the checkpoint of tests/models/tiny-gpt2 with no folding,
centring or other processing of weights. Cells are logit(" Mary") - logit(" John") at the last position of the corrupt
prompt with one activation taken from the clean one, in TransformerLens' own order of axes.
"""

import json
from pathlib import Path

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoTokenizer, GPT2LMHeadModel

HERE = Path(__file__).parent
MODEL = HERE.parent / "models" / "tiny-gpt2"
CLEAN = "When Mary and John went to the shop, John gave a drink to"
CORRUPT = "When Mary and John went to the shop, Mary gave a drink to"


def hooked():
    hf = GPT2LMHeadModel.from_pretrained(MODEL, torch_dtype=torch.float32).eval()
    c = hf.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head, n_heads=c.n_head,
        d_mlp=c.n_inner or 4 * c.n_embd, d_vocab=c.vocab_size, act_fn="gelu_new", eps=c.layer_norm_epsilon,
        normalization_type="LN", model_name="tiny-gpt2", device="cpu", dtype=torch.float32)
    model = HookedTransformer(cfg)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, cfg), fold_ln=False, center_writing_weights=False, center_unembed=False,
        fold_value_biases=False)
    return model.eval(), hf


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, hf = hooked()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    clean, corrupt = (torch.tensor([tokenizer(t)["input_ids"]]) for t in (CLEAN, CORRUPT))
    mary, john = (tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" Mary", " John"))
    metric = lambda logits: logits[0, -1, mary] - logits[0, -1, john]
    with torch.no_grad():
        same = (model(clean) - hf(clean).logits).abs().max().item()
        assert same < 1e-4, same
        _, cache = model.run_with_cache(clean)
        tables = {
            "resid_pre": patching.get_act_patch_resid_pre,
            "attn_out": patching.get_act_patch_attn_out,
            "mlp_out": patching.get_act_patch_mlp_out,
            "head_all_pos": patching.get_act_patch_attn_head_out_all_pos,
            "head_by_pos": patching.get_act_patch_attn_head_out_by_pos,
        }
        out = {name: f(model, corrupt, cache, metric) for name, f in tables.items()}
        ends = {"clean_ld": metric(model(clean)).item(), "corrupt_ld": metric(model(corrupt)).item()}
    text = json.dumps({
        "clean": CLEAN, "corrupt": CORRUPT, **{k: round(v, 6) for k, v in ends.items()},
        "tables": {k: {"shape": list(v.shape), "values": [round(x, 5) for x in v.flatten().tolist()]}
                   for k, v in out.items()},
    })
    (HERE / "patching.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
