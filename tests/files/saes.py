"""Writes sparse autoencoders with SAELens, and what it computes with them in a small model.

    python saes.py

Each folder of saes/ is one as SAELens saves it (of old versions: as they were saved, and as it reads them now), for
parity/gpt2-inner. expected.safetensors has, for each, the features and the reconstruction of the site's recorded values, and the
logits with feature EDITED set to VALUE and the error term kept. Numbers are from sae_lens 6.54.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from transformers import GPT2LMHeadModel

HERE = Path(__file__).parent
FOLDER = HERE / "saes"
CHECKPOINT = HERE.parent / "parity" / "gpt2-inner"
EDITED, VALUE = 17, 5.0

# hook name: (the site of the fixture, the module, whether its input is meant)
PLACES = {
    "blocks.1.hook_resid_post": ("blocks.1.resid.post", "transformer.h.1", False),
    "blocks.2.hook_resid_pre": ("blocks.2.resid.pre", "transformer.h.1", False),
    "blocks.0.hook_attn_out": ("blocks.0.attn.out", "transformer.h.0.attn", False),
    "blocks.1.hook_mlp_out": ("blocks.1.mlp.out", "transformer.h.1.mlp", False),
    "blocks.1.attn.hook_z": ("blocks.1.attn.z", "transformer.h.1.attn.c_proj", True),
    "blocks.0.mlp.hook_post": ("blocks.0.mlp.act", "transformer.h.0.mlp.c_proj", True),
    "blocks.2.ln2.hook_normalized": ("blocks.2.mlp.in", "transformer.h.2.ln_2", False),
}


def made(cls, config, hook, d_in=32, d_sae=40, **more):
    return cls(config(d_in=d_in, d_sae=d_sae, metadata=SAEMetadata(model_name="gpt2", hook_name=hook), **more))


def standard(hook, **more):
    return lambda: made(StandardSAE, StandardSAEConfig, hook, **more)


def topk(hook, **more):
    return lambda: made(TopKSAE, TopKSAEConfig, hook, k=6, **more)


def batch(hook):
    sae = made(BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, hook, k=5)
    randomize(sae)
    sae.topk_threshold.fill_(0.4)
    return sae


SAES = {
    "standard": standard("blocks.1.hook_resid_post"),
    "square": standard("blocks.2.hook_resid_pre", d_sae=32, apply_b_dec_to_input=False),
    "average": standard("blocks.1.hook_mlp_out", normalize_activations="expected_average_only_in"),
    "constant_norm": standard("blocks.0.hook_attn_out", normalize_activations="constant_norm_rescale"),
    "layer_norm": topk("blocks.1.hook_resid_post", normalize_activations="layer_norm"),
    "z": standard("blocks.1.attn.hook_z", reshape_activations="hook_z"),
    "z_constant": topk("blocks.1.attn.hook_z", reshape_activations="hook_z", normalize_activations="constant_norm_rescale"),
    "topk": topk("blocks.2.ln2.hook_normalized"),
    "topk_rescaled": topk("blocks.1.hook_mlp_out", rescale_acts_by_decoder_norm=True),
    "jumprelu": lambda: made(JumpReLUSAE, JumpReLUSAEConfig, "blocks.0.mlp.hook_post", d_in=72),
    "gated": lambda: made(GatedSAE, GatedSAEConfig, "blocks.1.hook_resid_post"),
    "batchtopk": lambda: batch("blocks.2.hook_resid_pre"),
}

# As versions before 6 wrote them: (one of the above whose tensors they have, cfg.json).
OLD = {
    "old_standard": ("standard", {"architecture": "standard", "d_in": 32, "d_sae": 40, "activation_fn_str": "relu", "apply_b_dec_to_input": True,
                     "finetuning_scaling_factor": False, "hook_name": "blocks.1.hook_resid_post", "hook_layer": 1, "hook_head_index": None,
                     "normalize_activations": "none", "dtype": "torch.float32", "device": "cpu", "sae_lens_training_version": None}),
    "older_topk": ("topk", {"d_in": 32, "d_sae": 40, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 6}, "hook_point": "blocks.2.ln2.hook_normalized",
                   "hook_point_layer": 2, "hook_point_head_index": None, "normalize_activations": False, "dtype": "float32", "device": "cpu"}),
}


def randomize(sae):
    generator = torch.Generator().manual_seed(sum(map(ord, type(sae).__name__)))
    for name, p in sae.named_parameters():
        scale = {"W_enc": 0.4, "W_dec": 0.3}.get(name, 0.2)
        p.data = torch.randn(p.shape, generator=generator) * scale
        if name == "threshold":
            p.data = p.data.abs() + 0.1


def spliced(model, sae, hook, tokens, edit):
    """The logits where the site is replaced: edited features decoded, and the error of the clean ones kept."""
    _, module, of_input = PLACES[hook]
    heads = model.config.n_head if hook.endswith("hook_z") else None

    def put(x):
        flat = x.shape
        x = x.view(*x.shape[:-1], heads, -1) if heads else x
        f = sae.encode(x)
        clean = sae.decode(f)
        edited = edit(sae.encode(x))
        out = sae.decode(edited) + (x - clean)
        return out.reshape(flat)

    target = dict(model.named_modules())[module]
    if of_input:
        handle = target.register_forward_pre_hook(lambda m, a: (put(a[0]),))
    else:
        handle = target.register_forward_hook(lambda m, a, out: (put(out[0]), *out[1:]) if isinstance(out, tuple) else put(out))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    handle.remove()
    return logits


def main():
    recorded = load_file(CHECKPOINT / "expected.safetensors")
    tokens = recorded["tokens"].long()
    model = GPT2LMHeadModel.from_pretrained(CHECKPOINT, attn_implementation="eager").eval().float()
    shutil.rmtree(FOLDER, ignore_errors=True)
    out = {}
    for name, make in SAES.items():
        sae = make()
        if name == "batchtopk":
            sae.save_inference_model(FOLDER / name)
        else:
            randomize(sae)
            sae.save_model(FOLDER / name)
    for name, (of, config) in OLD.items():
        (FOLDER / name).mkdir()
        shutil.copy(FOLDER / of / "sae_weights.safetensors", FOLDER / name)
        (FOLDER / name / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in [*SAES, *OLD]:
        sae = SAE.load_from_disk(FOLDER / name)
        # A decode of an SAE that normalizes belongs to the encode before it.
        hook = sae.cfg.metadata.hook_name
        x = recorded[PLACES[hook][0]].float()
        with torch.no_grad():
            f = sae.encode(x)
            out[f"{name}.features"] = f
            out[f"{name}.reconstruction"] = sae.decode(f)
            active = (f > 0).sum(-1).float().mean()

        def edit(f):
            f = f.clone()
            f[..., EDITED] = VALUE
            return f

        # With normalizations each decode takes up what its encode left, so encode again before each.
        out[f"{name}.edited"] = spliced(model, Again(sae), hook, tokens, edit)
        print(f"{name}: {sae.cfg.architecture()}, {active:.1f} features of {f.shape[-1]}", file=sys.stderr)
    save_file({k: v.contiguous() for k, v in out.items()}, FOLDER / "expected.safetensors")
    # For the cases, which run on tiny-llama.
    small = made(StandardSAE, StandardSAEConfig, "blocks.1.hook_resid_post", d_in=128, d_sae=16)
    randomize(small)
    small.save_model(HERE.parent / "cases" / "data" / "sae")


class Again:
    """Keeps what `encode` saw, because `decode` of a normalizing SAE uses that up."""

    def __init__(self, sae):
        self.sae = sae

    def encode(self, x):
        self.x = x
        return self.sae.encode(x)

    def decode(self, f):
        self.sae.encode(self.x)
        return self.sae.decode(f)


if __name__ == "__main__":
    main()
