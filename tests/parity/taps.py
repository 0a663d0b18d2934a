"""Taps: every named value of a transformers model, to read and to edit, by module hooks and patched functions.

    with Taps(model, tap):
        model(tokens)

calls `tap(site, value)` for each site as transformers computes it; what `tap` returns takes the value's place (None
leaves it). Values come with rows first: [T, ...], as in the fixtures. A site in READ_ONLY is recomputed or stands
outside of the data flow, so an edit of it is an error. `start` is the position of the first row, for cached decoding.
"""

import torch
import torch.nn.functional as F
from transformers.models.gpt2 import modeling_gpt2
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.mamba import modeling_mamba
from transformers.models.mixtral import modeling_mixtral

READ_ONLY = ("resid.mid", "moe.scores", "moe.gates", "moe.act", "moe.expert_out", "ssm.x", "ssm.gate", "attn.k", "attn.v")


class Taps:
    def __init__(self, model, tap, start=0):
        self.model, self.user, self.start, self.undo, self.layer = model, tap, start, [], None

    # -- calling the tap -----------------------------------------------------------------------------------

    def tap(self, site, rows):
        """`rows` is [T, ...]; returns what shall be used."""
        got = self.user(site, rows)
        if got is None or got is rows:
            return rows
        assert not site.endswith(READ_ONLY), f"{site} cannot be edited"
        return got

    def at(self, name, rows):
        return self.tap(f"blocks.{self.layer}.{name}", rows)

    # -- hooks ---------------------------------------------------------------------------------------------

    def out(self, module, site):
        """Taps the output of a module (its first part, where it returns several)."""
        def hook(_, __, output):
            first = output[0] if isinstance(output, tuple) else output
            new = self.tap(site, first.squeeze(0)).unsqueeze(0)
            return (new, *output[1:]) if isinstance(output, tuple) else new
        self.undo.append(module.register_forward_hook(hook).remove)

    def into(self, module, site):
        """Taps the first input of a module."""
        def hook(_, args, kwargs):
            if args:
                return (self.tap(site, args[0].squeeze(0)).unsqueeze(0), *args[1:]), kwargs
            kwargs["hidden_states"] = self.tap(site, kwargs["hidden_states"].squeeze(0)).unsqueeze(0)
            return args, kwargs
        self.undo.append(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def enter(self, module, layer):
        def hook(*_):
            self.layer = layer
        self.undo.append(module.register_forward_pre_hook(hook).remove)

    def patch(self, module, name, function):
        old = getattr(module, name)
        setattr(module, name, function)
        self.undo.append(lambda: setattr(module, name, old))

    # -- attention -----------------------------------------------------------------------------------------

    def heads(self, name, x):
        """x is [1, head, T, d]; sites are [T, head, d]."""
        return self.at(name, x[0].transpose(0, 1)).transpose(0, 1).unsqueeze(0)

    def eager(self, original):
        rotary = original.__module__ != modeling_gpt2.__name__

        def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
            start, rows, keys = self.start, query.shape[2], key.shape[2]
            if not rotary:
                query = self.heads("attn.q", query)
                self.heads("attn.k", key[:, :, start:])
            self.heads("attn.v", value[:, :, start:])
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
            scores = torch.matmul(query, key.transpose(2, 3)) * scaling
            past = torch.arange(keys)[None] <= torch.arange(start, start + rows)[:, None]
            scores = self.heads("attn.scores", torch.where(past, scores, 0.0))
            weights = torch.where(past, scores, float("-inf")).softmax(-1)
            weights = self.heads("attn.pattern", weights)
            z = self.heads("attn.z", torch.matmul(weights, value))
            return z.transpose(1, 2).contiguous(), weights
        return attention

    def rotary(self, original):
        def apply(q, k, cos, sin, *args, **kwargs):
            q, k = self.heads("attn.q", q), self.heads("attn.k", k)
            q, k = original(q, k, cos, sin, *args, **kwargs)
            return self.heads("attn.q_rot", q), self.heads("attn.k_rot", k)
        return apply

    # -- mixture of experts --------------------------------------------------------------------------------

    def router(self, gate, layer):
        def hook(_, __, output):
            logits = self.tap(f"blocks.{layer}.moe.router", output[0])
            scores = self.tap(f"blocks.{layer}.moe.scores", logits.softmax(-1))
            top, chosen = torch.topk(scores, gate.top_k, dim=-1)
            return logits, top / top.sum(-1, keepdim=True), chosen
        self.undo.append(gate.register_forward_hook(hook).remove)

    def experts(self, experts, layer):
        def hook(_, args, output):
            x, chosen, gates = args
            act = x.new_zeros(len(x), experts.num_experts, experts.intermediate_dim)
            out = x.new_zeros(len(x), experts.num_experts, experts.hidden_dim)
            all_gates = x.new_zeros(len(x), experts.num_experts).scatter(1, chosen, gates)
            for e in range(experts.num_experts):
                rows = (chosen == e).any(-1)
                gate, up = F.linear(x[rows], experts.gate_up_proj[e]).chunk(2, -1)
                act[rows, e] = experts.act_fn(gate) * up
                out[rows, e] = F.linear(act[rows, e], experts.down_proj[e])
            for name, value in (("gates", all_gates), ("act", act), ("expert_out", out)):
                self.tap(f"blocks.{layer}.moe.{name}", value)
            torch.testing.assert_close((all_gates[..., None] * out).sum(1), output, rtol=1e-5, atol=1e-5)
        self.undo.append(experts.register_forward_hook(hook).remove)

    # -- Mamba ---------------------------------------------------------------------------------------------

    def in_proj(self, module, layer):
        def hook(_, __, output):
            x, gate = output[0].chunk(2, -1)
            self.tap(f"blocks.{layer}.ssm.x", x)
            self.tap(f"blocks.{layer}.ssm.gate", gate)
        self.undo.append(module.register_forward_hook(hook).remove)

    def conv(self, original):
        def conv(*args, **kwargs):
            out = original(*args, **kwargs)                # [1, channel, rows], after a cached prefix in prefill: only rows are new
            return self.at("ssm.conv", out[0].t()).t().unsqueeze(0)
        return conv

    def scan(self, x, dt, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False, state=None, **_):
        """The selective scan with a tap on each of its values; time is the last axis of x, dt, z, B and C."""
        dt = dt + delta_bias[..., None]
        dt = self.at("ssm.dt", F.softplus(dt)[0].t())      # [T, channel]
        B, C = self.at("ssm.B", B[0].t()), self.at("ssm.C", C[0].t())
        x = x[0].t()
        h = torch.zeros_like(A) if state is None else state
        states, y = [], []
        for t in range(len(x)):
            h = torch.exp(dt[t][:, None] * A) * h + (dt[t] * x[t])[:, None] * B[t]
            read = self.user(f"blocks.{self.layer}.ssm.state[{self.start + t}]", h)
            if read is not None:                           # (what y reads, what is carried on)
                read, h = read
            else:
                read = h
            states.append(read)
            y.append((read * C[t]).sum(-1))
        self.at("ssm.state", torch.stack(states))
        y = self.at("ssm.y", torch.stack(y) + x * D)
        out = (y * F.silu(z[0].t())).t().unsqueeze(0)
        return (out, h.unsqueeze(0)) if return_last_state else out

    def step(self, state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, **_):
        out, h = self.scan(x[..., None], dt[..., None], A, B[..., None], C[..., None], D, z[..., None], dt_bias, dt_softplus, True, state[0])
        state.copy_(h)
        return out[..., 0]

    # -- the architectures ---------------------------------------------------------------------------------

    def __enter__(self):
        m, kind = self.model, self.model.config.model_type
        {"gpt2": self.gpt2, "llama": self.llama, "mixtral": self.llama, "gpt_neox": self.neox, "mamba": self.mamba}[kind](m)
        self.out(m.lm_head, "logits")
        return self

    def __exit__(self, *_):
        for undo in reversed(self.undo):
            undo()
        self.undo = []

    def block(self, i, layer, norm1, attn, norm2, mlp, inner, act, mid=True):
        b = f"blocks.{i}"
        self.enter(layer, i)
        self.into(layer, f"{b}.resid.pre")
        self.out(norm1, f"{b}.attn.in")
        self.out(attn, f"{b}.attn.out")
        if mid:
            self.into(norm2, f"{b}.resid.mid")
        self.out(norm2, f"{b}.mlp.in")
        for module, name in inner:
            self.out(module, f"{b}.mlp.{name}")
        if act is not None:
            self.into(act, f"{b}.mlp.act")
        self.out(mlp, f"{b}.mlp.out")
        self.out(layer, f"{b}.resid.post")

    def gpt2(self, m):
        t = m.transformer
        self.out(t.wte, "embed")
        self.out(t.wpe, "pos_embed")
        self.patch(modeling_gpt2, "eager_attention_forward", self.eager(modeling_gpt2.eager_attention_forward))
        for i, l in enumerate(t.h):
            self.block(i, l, l.ln_1, l.attn, l.ln_2, l.mlp, [(l.mlp.c_fc, "pre")], l.mlp.c_proj)
        self.out(t.ln_f, "unembed.in")

    def neox(self, m):
        t = m.gpt_neox
        self.out(t.embed_in, "embed")
        self.patch(modeling_gpt_neox, "eager_attention_forward", self.eager(modeling_gpt_neox.eager_attention_forward))
        self.patch(modeling_gpt_neox, "apply_rotary_pos_emb", self.rotary(modeling_gpt_neox.apply_rotary_pos_emb))
        for i, l in enumerate(t.layers):
            self.block(i, l, l.input_layernorm, l.attention, l.post_attention_layernorm, l.mlp,
                       [(l.mlp.dense_h_to_4h, "pre")], l.mlp.dense_4h_to_h, mid=not m.config.use_parallel_residual)
        self.out(t.final_layer_norm, "unembed.in")

    def llama(self, m):
        t = m.model
        code = modeling_llama if m.config.model_type == "llama" else modeling_mixtral
        self.out(t.embed_tokens, "embed")
        self.patch(code, "eager_attention_forward", self.eager(code.eager_attention_forward))
        self.patch(code, "apply_rotary_pos_emb", self.rotary(code.apply_rotary_pos_emb))
        for i, l in enumerate(t.layers):
            if m.config.model_type == "llama":
                inner, act = [(l.mlp.gate_proj, "pre"), (l.mlp.up_proj, "up")], l.mlp.down_proj
            else:
                inner, act = [], None
                self.router(l.mlp.gate, i)
                self.experts(l.mlp.experts, i)
            self.block(i, l, l.input_layernorm, l.self_attn, l.post_attention_layernorm, l.mlp, inner, act)
        self.out(t.norm, "unembed.in")

    def mamba(self, m):
        t = m.backbone
        self.out(t.embeddings, "embed")
        self.patch(modeling_mamba, "causal_conv1d_fn", self.conv(modeling_mamba.causal_conv1d_fn))
        self.patch(modeling_mamba, "causal_conv1d_update", self.conv(modeling_mamba.causal_conv1d_update))
        self.patch(modeling_mamba, "mamba_selective_scan", self.scan)
        self.patch(modeling_mamba, "mamba_selective_state_update", self.step)
        for i, l in enumerate(t.layers):
            self.enter(l, i)
            self.into(l, f"blocks.{i}.resid.pre")
            self.out(l.norm, f"blocks.{i}.ssm.in")
            self.in_proj(l.mixer.in_proj, i)
            self.out(l.mixer, f"blocks.{i}.ssm.out")
            self.out(l, f"blocks.{i}.resid.post")
        self.out(t.norm_f, "unembed.in")


def record(model, tokens):
    """All the sites of one run, and the logits of an untapped run to compare with."""
    sites = {}

    def tap(site, value):
        if "ssm.state[" not in site:
            sites[site] = value.detach().clone()

    ids = torch.tensor([tokens])
    with torch.no_grad():
        plain = model(ids, use_cache=False).logits[0]
        with Taps(model, tap):
            model(ids, use_cache=False)
    return sites, plain
