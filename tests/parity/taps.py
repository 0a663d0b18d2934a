"""Taps: every named value of a transformers model, to read and to edit, by module hooks and patched functions.

    with Taps(model, tap):
        model(tokens)

calls `tap(site, value)` for each site as transformers computes it; what `tap` returns takes the value's place (None
leaves it). Values come with rows first: [T, ...], as in the fixtures. A site in READ_ONLY is recomputed or stands
outside of the data flow, so an edit of it is an error. `start` is the position of the first row, for cached decoding.
"""

import importlib
import inspect
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from transformers.activations import ACT2FN
from transformers.models.gpt2 import modeling_gpt2
from transformers.models.gpt_neo import modeling_gpt_neo
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.mixtral import modeling_mixtral

# Decoders of Llama's kind: where transformers computes them.
ROTARY = {kind: importlib.import_module(f"transformers.models.{module}.modeling_{module}") for kind, module in {
    "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3",
    "gemma3": "gemma3", "phi3": "phi3", "gpt_oss": "gpt_oss", "olmo2": "olmo2", "olmoe": "olmoe", "qwen2_moe": "qwen2_moe", "qwen3_moe": "qwen3_moe"}.items()}
# Encoders, whose rows see the whole text.
ENCODERS = ("bert", "roberta", "distilbert")
# Norms of queries and keys; norms behind the parts.
HEAD_NORMS = ("qwen3", "gemma3_text", "gemma3", "olmo2", "olmoe", "qwen3_moe")
NORMS_BEHIND = ("gemma2", "gemma3_text", "gemma3", "olmo2")

READ_ONLY = ("resid.mid", "ssm.window", "moe.chosen", "moe.shared_router", "moe.shared_gate", "moe.shared_out", "moe.shared", "ssm.x", "ssm.gate", "ssm.conv_pre", "ssm.gated", "ssm.normed", "attn.k", "attn.v",
             "attn.sink")


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
            first = output.logits if hasattr(output, "logits") else output[0] if isinstance(output, tuple) else output
            new = self.tap(site, first.squeeze(0)).unsqueeze(0)
            if hasattr(output, "logits"):
                output.logits = new
                return output
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
        """x is [1, head, T, d]; sites are [T, head, d], a single entry without an axis."""
        if name == "attn.sink":
            self.at(name, x[0, ..., 0].t())
            return x
        return self.at(name, x[0].transpose(0, 1)).transpose(0, 1).unsqueeze(0)

    def eager(self, original):
        learned = original.__module__ == modeling_gpt2.__name__ or self.model.config.model_type == "jamba"
        clipped = clips(self.model)

        def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, sliding_window=None, softcap=None, s_aux=None, **kwargs):
            start, rows, keys = self.start, query.shape[2], key.shape[2]
            if learned:
                query = self.heads("attn.q", query)
                self.heads("attn.k", key[:, :, start:])
            if not clipped:
                self.heads("attn.v", value[:, :, start:])
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
            scores = torch.matmul(query, key.transpose(2, 3)) * scaling
            if self.model.config.model_type == "qwen2_moe":
                # Its mask alone says so.
                sliding_window = getattr(module, "sliding_window", None)
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            encoder = self.model.config.model_type in ENCODERS
            past = torch.ones(rows, keys).bool() if encoder else seen(start, rows, keys, sliding_window)
            scores = self.heads("attn.scores", torch.where(past, scores, 0.0))
            scores = torch.where(past, scores, float("-inf"))
            if s_aux is None:
                weights = scores.softmax(-1)
            else:
                # The sink is one more key, to which nothing belongs.
                sinks = s_aux.reshape(1, -1, 1, 1).expand(1, -1, rows, 1)
                weights = torch.cat([scores, sinks], -1).softmax(-1)
                self.heads("attn.sink", weights[..., -1:])
                weights = weights[..., :-1]
            weights = self.heads("attn.pattern", weights)
            z = self.heads("attn.z", torch.matmul(weights, value))
            return z.transpose(1, 2).contiguous(), weights
        return attention

    def neo(self, module, query, key, value, attention_mask=None):
        """The attention of GPT-Neo is a method."""
        window = module.config.window_size if module.attention_type == "local" else None
        z, weights = self.eager(modeling_gpt2.eager_attention_forward)(module, query, key, value, None, 1.0, sliding_window=window)
        return z.transpose(1, 2), weights

    def projected(self, module, site, d_head):
        """Taps a projection [1, T, head * d_head]."""
        def hook(_, __, output):
            rows = self.tap(site, output[0].unflatten(-1, (-1, d_head)))
            return rows.flatten(1).unsqueeze(0)
        self.undo.append(module.register_forward_hook(hook).remove)

    def rotary(self, original, names=("attn.q", "attn.k")):
        def apply(q, k, cos, sin, *args, **kwargs):
            if names is not None:
                q, k = self.heads(names[0], q), self.heads(names[1], k)
            q, k = original(q, k, cos, sin, *args, **kwargs)
            return self.heads("attn.q_rot", q), self.heads("attn.k_rot", k)
        return apply

    # -- mixture of experts --------------------------------------------------------------------------------

    def router(self, gate, layer):
        kind, config, b = self.model.config.model_type, self.model.config, f"blocks.{layer}.moe"

        def hook(_, __, output):
            logits = self.tap(f"{b}.router", output[0])
            scores = self.tap(f"{b}.scores", logits.sigmoid() if kind == "deepseek_v3" else logits.softmax(-1))
            bias = gate.e_score_correction_bias if kind == "deepseek_v3" else 0
            selection = self.tap(f"{b}.selection", scores + bias)
            self.tap(f"{b}.top_k", torch.full((len(scores),), float(gate.top_k)))
            # Of equals the first, which torch.topk does not promise.
            chosen = first_largest(in_groups(gate, config, selection), gate.top_k)
            self.tap(f"{b}.chosen", torch.zeros_like(scores).scatter(1, chosen, 1.0))
            top = scores.gather(1, chosen)
            self.tap(f"{b}.chosen_scores", torch.zeros_like(scores).scatter(1, chosen, top))
            if kind in ("mixtral", "gpt_oss") or getattr(gate, "norm_topk_prob", False):
                top = top / (top.sum(-1, keepdim=True) + (1e-20 if kind == "deepseek_v3" else 0))
            top = top * getattr(gate, "routed_scaling_factor", 1.0)
            gates = self.tap(f"{b}.gates", torch.zeros_like(scores).scatter(1, chosen, top))
            return logits, gates.gather(1, chosen), chosen
        self.undo.append(gate.register_forward_hook(hook).remove)

    def experts(self, experts, layer):
        b, oss = f"blocks.{layer}.moe", self.model.config.model_type == "gpt_oss"

        def up(x, e):
            if oss:
                return experts._apply_gate(x @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e])
            gate, up = F.linear(x, experts.gate_up_proj[e]).chunk(2, -1)
            return experts.act_fn(gate) * up

        def down(act, e):
            return act @ experts.down_proj[e] + experts.down_proj_bias[e] if oss else F.linear(act, experts.down_proj[e])

        def hook(_, args, output):
            x, chosen, gates = args
            n, sizes = experts.num_experts, (experts.intermediate_size, experts.hidden_size) if oss else (experts.intermediate_dim, experts.hidden_dim)
            each = [(e, (chosen == e).any(-1)) for e in range(n)]
            act, out = (x.new_zeros(len(x), n, size) for size in sizes)
            all_gates = x.new_zeros(len(x), n).scatter(1, chosen, gates)
            for e, rows in each:
                act[rows, e] = up(x[rows], e)
            old, act = act, self.tap(f"{b}.act", act)
            for e, rows in each:
                out[rows, e] = down(act[rows, e], e)
            before, out = out, self.tap(f"{b}.expert_out", out)
            together = (all_gates[..., None] * out).sum(1)
            if act is old and out is before:
                torch.testing.assert_close(together, output, rtol=1e-5, atol=1e-5)
            return self.tap(f"{b}.out", together if act is not old or out is not before else output)
        self.undo.append(experts.register_forward_hook(hook).remove)

    def shared(self, mlp, layer):
        """The shared expert of Qwen, and what the others give beside it."""
        b = f"blocks.{layer}.moe"

        def gate(_, __, output):
            self.tap(f"{b}.shared_router", output[:, 0])
            self.tap(f"{b}.shared_gate", output.sigmoid()[:, 0])

        def expert(_, args, output):
            self.tap(f"{b}.shared_out", output)
            self.tap(f"{b}.shared", mlp.shared_expert_gate(args[0]).sigmoid() * output)

        def down(_, args):
            return (self.tap(f"{b}.shared_act", args[0]),)
        self.undo += [mlp.shared_expert_gate.register_forward_hook(gate).remove, mlp.shared_expert.register_forward_hook(expert).remove,
                      mlp.shared_expert.down_proj.register_forward_pre_hook(down).remove]

    # -- Mamba ---------------------------------------------------------------------------------------------

    def in_proj(self, module, layer):
        def hook(_, __, output):
            x, gate = output[0].chunk(2, -1)
            self.tap(f"blocks.{layer}.ssm.x", x)
            self.tap(f"blocks.{layer}.ssm.gate", gate)
        self.undo.append(module.register_forward_hook(hook).remove)

    def window(self, call):
        """What each row's convolution sees, [rows, tap, channel]: the rows before, and as the last tap its own."""
        x, taps = call["hidden_states"], call["weight"].shape[-1]
        before = call.get("conv_state", torch.zeros(1, x.shape[1], taps))[..., 1:]
        self.at("ssm.window", torch.cat([before, x], -1)[0].unfold(-1, taps, 1).permute(1, 2, 0))

    def conv(self, original, inner=None):
        """`inner` is the shape of the channels that the scan reads, where others are convolved beside them."""
        def conv(*args, **kwargs):
            bound = inspect.signature(original).bind(*args, **kwargs)
            act, bound.arguments["activation"] = ACT2FN[bound.arguments["activation"]], None
            self.window(bound.arguments)
            out = original(*bound.args, **bound.kwargs)[0].t()     # [rows, channel], after a cached prefix in prefill: only rows are new
            self.at("ssm.conv_pre", out if inner is None else out[:, :inner[0] * inner[1]].unflatten(-1, inner))
            out = act(out)
            return (out if inner is not None else self.at("ssm.conv", out)).t().unsqueeze(0)
        return conv

    def scan(self, x, dt, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False, state=None, **_):
        """The selective scan with a tap on each of its values; time is the last axis of x, dt, z, B and C."""
        dt = self.at("ssm.dt_pre", (dt + delta_bias[..., None])[0].t())
        dt = self.at("ssm.dt", F.softplus(dt))             # [T, channel]
        B, C = self.at("ssm.B", B[0].t()), self.at("ssm.C", C[0].t())
        x = x[0].t()
        decay = self.at("ssm.decay", torch.exp(dt[..., None] * A))
        h = torch.zeros_like(A) if state is None else state
        states, h = self.states(decay, (dt * x)[..., None] * B[:, None], h)
        y = self.at("ssm.read", torch.einsum("tcn,tn->tc", states, C))
        y = self.at("ssm.y", y + x * D)
        out = self.at("ssm.gated", y * F.silu(z[0].t())).t().unsqueeze(0)
        return (out, h.unsqueeze(0)) if return_last_state else out

    def states(self, decay, written, h):
        """The state that each row reads, and the last one that is carried on."""
        states = []
        for t in range(len(decay)):
            h = decay[t] * h + written[t]
            read = self.user(f"blocks.{self.layer}.ssm.state[{self.start + t}]", h)
            if read is not None:                           # (what y reads, what is carried on)
                read, h = read
            else:
                read = h
            states.append(read)
        return self.at("ssm.state", torch.stack(states)), h

    def step(self, state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, **_):
        out, h = self.scan(x[..., None], dt[..., None], A, B[..., None], C[..., None], D, z[..., None], dt_bias, dt_softplus, True, state[0])
        state.copy_(h)
        return out[..., 0]

    # -- the architectures ---------------------------------------------------------------------------------

    def __enter__(self):
        m, kind = self.model, self.model.config.model_type
        {"gpt2": self.gpt2, "llama": self.llama, "mixtral": self.llama, "gpt_neox": self.neox, "mamba": self.mamba, "falcon_mamba": self.mamba, "mamba2": self.mamba2, "jamba": self.jamba, "gpt_neo": self.gpt_neo,
         "opt": self.opt, "deepseek_v2": self.deepseek, "deepseek_v3": self.deepseek, **dict.fromkeys(ENCODERS, self.encoder)}.get(kind, self.decoder)(m)
        # A cap of logits stands behind the head.
        capped = getattr(m.config.get_text_config(), "final_logit_softcapping", None)
        self.out(m if capped or kind in ENCODERS else m.lm_head, "logits")
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

    def decoder(self, m):
        kind = m.config.model_type
        code, config = ROTARY[kind], m.config.get_text_config()
        t = m.model.language_model if kind == "gemma3" else m.model
        self.out(t.embed_tokens, "embed")
        self.patch(code, "eager_attention_forward", self.eager(code.eager_attention_forward))
        normed = kind in HEAD_NORMS
        names = ("attn.q_norm", "attn.k_norm") if normed else ("attn.q", "attn.k")
        clip = clips(m)
        if clip:
            # What comes behind it has no name.
            names = None
        self.patch(code, "apply_rotary_pos_emb", self.rotary(code.apply_rotary_pos_emb, names))
        for i, l in enumerate(t.layers):
            b = f"blocks.{i}"
            if normed:
                self.projected(l.self_attn.q_proj, f"{b}.attn.q", l.self_attn.head_dim)
                self.projected(l.self_attn.k_proj, f"{b}.attn.k", l.self_attn.head_dim)
            if clip:
                for part, name in (("q_norm", "q_norm"), ("k_norm", "k_norm"), ("v_proj", "v")):
                    self.projected(getattr(l.self_attn, part), f"{b}.attn.{name}", l.self_attn.head_dim)
            if hasattr(l.mlp, "experts"):
                self.router(l.mlp.router if kind == "gpt_oss" else l.mlp.gate, i)
                self.experts(l.mlp.experts, i)
                if hasattr(l.mlp, "shared_expert"):
                    self.shared(l.mlp, i)
            elif kind == "phi3":
                self.gate_up(l.mlp.gate_up_proj, b)
            else:
                self.out(l.mlp.gate_proj, f"{b}.mlp.pre")
                self.out(l.mlp.up_proj, f"{b}.mlp.up")
            if kind not in NORMS_BEHIND:
                down = None if hasattr(l.mlp, "experts") else l.mlp.down_proj
                self.block(i, l, l.input_layernorm, l.self_attn, l.post_attention_layernorm, l.mlp, [], down)
                continue
            self.enter(l, i)
            self.into(l, f"{b}.resid.pre")
            if kind == "olmo2":
                self.into(l.self_attn, f"{b}.attn.in")
                self.reads(l.mlp, f"{b}.resid.mid")
                self.into(l.mlp, f"{b}.mlp.in")
            else:
                self.out(l.input_layernorm, f"{b}.attn.in")
                self.into(l.pre_feedforward_layernorm, f"{b}.resid.mid")
                self.out(l.pre_feedforward_layernorm, f"{b}.mlp.in")
            self.out(l.self_attn, f"{b}.attn.proj")
            self.out(l.post_attention_layernorm, f"{b}.attn.out")
            self.into(l.mlp.down_proj, f"{b}.mlp.act")
            self.out(l.mlp, f"{b}.mlp.proj")
            self.out(l.post_feedforward_layernorm, f"{b}.mlp.out")
            self.out(l, f"{b}.resid.post")
        self.out(t.norm, "unembed.in")

    def deepseek(self, m):
        t, kind = m.model, m.config.model_type
        code = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
        self.out(t.embed_tokens, "embed")
        self.patch(code, "eager_attention_forward", self.latent(code.eager_attention_forward))
        for i, l in enumerate(t.layers):
            b, a = f"blocks.{i}", l.self_attn
            if a.q_proj is None:
                self.out(a.q_a_layernorm, f"{b}.attn.q_latent")
            self.out(a.kv_a_layernorm, f"{b}.attn.kv_latent")
            self.projected(a.q_proj or a.q_b_proj, f"{b}.attn.q", a.qk_head_dim)
            self.latent_keys(a, b)
            inner, down = [], None
            if hasattr(l.mlp, "experts"):
                self.router(l.mlp.gate, i)
                self.experts(l.mlp.experts, i)
                self.out(l.mlp.shared_experts, f"{b}.moe.shared")
                self.into(l.mlp.shared_experts.down_proj, f"{b}.moe.shared_act")
            else:
                inner, down = [(l.mlp.gate_proj, "pre"), (l.mlp.up_proj, "up")], l.mlp.down_proj
            self.block(i, l, l.input_layernorm, a, l.post_attention_layernorm, l.mlp, inner, down)
        self.out(t.norm, "unembed.in")

    def latent_keys(self, a, block):
        """Keys before the rotary embedding, of the new rows: what each head has of its own, and what all share."""
        shared = []

        def down(_, __, output):
            shared.append(output[0, :, a.kv_lora_rank:])

        def up(_, __, output):
            part = shared.pop()
            own = output[0, 0, -len(part):].unflatten(-1, (a.num_heads, -1))[..., :a.qk_nope_head_dim]
            self.tap(f"{block}.attn.k", torch.cat([own, part[:, None].expand(-1, a.num_heads, -1)], -1))
        self.undo += [a.kv_a_proj_with_mqa.register_forward_hook(down).remove, a.kv_b_proj.register_forward_hook(up).remove]

    def latent(self, original):
        """Where pairs stay beside each other, sites have the first of all pairs before the second ones."""
        inner, pairs = self.eager(original), self.model.config.model_type == "deepseek_v2"

        def attention(module, query, key, value, *args, **kwargs):
            n, parts = module.qk_nope_head_dim, ((-1, 2), (2, -1))
            turn = lambda x, to: torch.cat([x[..., :n], x[..., n:].unflatten(-1, to).transpose(-1, -2).flatten(-2)], -1) if pairs else x
            query = turn(self.heads("attn.q_rot", turn(query, parts[0])), parts[1])
            start = self.start
            turned = self.heads("attn.k_rot", turn(key[:, :, start:], parts[0]))
            key = torch.cat([key[:, :, :start], turn(turned, parts[1])], 2)
            return inner(module, query, key, value, *args, **kwargs)
        return attention

    def reads(self, module, site):
        """Shows the first input of a module and leaves it."""
        def hook(_, args):
            self.tap(site, args[0].squeeze(0))
        self.undo.append(module.register_forward_pre_hook(hook).remove)

    def gate_up(self, module, block):
        def hook(_, __, output):
            gate, up = output[0].chunk(2, -1)
            return torch.cat([self.tap(f"{block}.mlp.pre", gate), self.tap(f"{block}.mlp.up", up)], -1).unsqueeze(0)
        self.undo.append(module.register_forward_hook(hook).remove)

    def gpt_neo(self, m):
        t = m.transformer
        self.out(t.wte, "embed")
        self.out(t.wpe, "pos_embed")
        self.patch(modeling_gpt_neo.GPTNeoSelfAttention, "_attn", lambda module, *args: self.neo(module, *args))
        for i, l in enumerate(t.h):
            self.block(i, l, l.ln_1, l.attn, l.ln_2, l.mlp, [(l.mlp.c_fc, "pre")], l.mlp.c_proj)
        self.out(t.ln_f, "unembed.in")

    def opt(self, m):
        t, first = m.model.decoder, m.config.do_layer_norm_before
        self.out(t.project_in or t.embed_tokens, "embed")
        self.out(t.embed_positions, "pos_embed")
        code = importlib.import_module("transformers.models.opt.modeling_opt")
        self.patch(code, "eager_attention_forward", self.eager(code.eager_attention_forward))
        for i, l in enumerate(t.layers):
            b = f"blocks.{i}"
            self.enter(l, i)
            self.into(l, f"{b}.resid.pre")
            for name in "qk":
                self.projected(getattr(l.self_attn, f"{name}_proj"), f"{b}.attn.{name}", l.self_attn.head_dim)
            self.out(l.self_attn, f"{b}.attn.out")
            if first:
                self.out(l.self_attn_layer_norm, f"{b}.attn.in")
                self.into(l.final_layer_norm, f"{b}.resid.mid")
                self.out(l.final_layer_norm, f"{b}.mlp.in")
            else:
                self.into(l.self_attn, f"{b}.attn.in")
                self.out(l.self_attn_layer_norm, f"{b}.resid.mid")
                self.into(l.fc1, f"{b}.mlp.in")
            self.out(l.fc1, f"{b}.mlp.pre")
            self.into(l.fc2, f"{b}.mlp.act")
            self.out(l.fc2, f"{b}.mlp.out")
            self.out(l, f"{b}.resid.post")
        if t.final_layer_norm is not None:
            self.out(t.final_layer_norm, "unembed.in")
        else:
            self.into(t.project_out or m.lm_head, "unembed.in")

    def encoder(self, m):
        kind = m.config.model_type
        code = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
        self.patch(code, "eager_attention_forward", self.eager(code.eager_attention_forward))
        t = getattr(m, kind)
        self.out(t.embeddings.word_embeddings, "embed")
        self.out(t.embeddings.position_embeddings, "pos_embed")
        if kind != "distilbert":
            self.out(t.embeddings.token_type_embeddings, "type_embed")
        for i, l in enumerate(encoder_layers(m)):
            b = f"blocks.{i}"
            self.enter(l.layer, i)
            self.into(l.layer, f"{b}.resid.pre")
            self.into(l.attention, f"{b}.attn.in")
            self.projected(l.q, f"{b}.attn.q", l.d_head)
            self.projected(l.k, f"{b}.attn.k", l.d_head)
            self.out(l.out, f"{b}.attn.out")
            self.out(l.norm1, f"{b}.resid.mid")
            self.into(l.up, f"{b}.mlp.in")
            self.out(l.up, f"{b}.mlp.pre")
            self.into(l.down, f"{b}.mlp.act")
            self.out(l.down, f"{b}.mlp.out")
            self.out(l.layer, f"{b}.resid.post")
        self.out(encoder_head(m)[1], "unembed.in")

    def mamba(self, m):
        t, kind = m.backbone, m.config.model_type
        code = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
        self.out(t.embeddings, "embed")
        self.patch(code, "causal_conv1d_fn", self.conv(code.causal_conv1d_fn))
        self.patch(code, "causal_conv1d_update", self.conv(code.causal_conv1d_update))
        self.patch(code, "mamba_selective_scan", self.scan)
        self.patch(code, "mamba_selective_state_update", self.step)
        for i, l in enumerate(t.layers):
            self.enter(l, i)
            self.into(l, f"blocks.{i}.resid.pre")
            self.out(l.norm, f"blocks.{i}.ssm.in")
            self.in_proj(l.mixer.in_proj, i)
            self.out(l.mixer, f"blocks.{i}.ssm.out")
            self.out(l, f"blocks.{i}.resid.post")
        self.out(t.norm_f, "unembed.in")


    def jamba(self, m):
        t = m.model
        code = importlib.import_module("transformers.models.jamba.modeling_jamba")
        self.out(t.embed_tokens, "embed")
        self.patch(code, "causal_conv1d_fn", self.conv(code.causal_conv1d_fn))
        self.patch(code, "causal_conv1d_update", self.conv(code.causal_conv1d_update))
        self.patch(code, "mamba_selective_scan", self.scan)
        self.patch(code, "mamba_selective_state_update", self.step)
        self.patch(code, "eager_attention_forward", self.eager(code.eager_attention_forward))
        for i, l in enumerate(t.layers):
            b, mlp = f"blocks.{i}", l.feed_forward
            kind, part = ("ssm", l.mamba) if hasattr(l, "mamba") else ("attn", l.self_attn)
            self.enter(l, i)
            self.into(l, f"{b}.resid.pre")
            self.out(l.input_layernorm, f"{b}.{kind}.in")
            if kind == "ssm":
                self.in_proj(part.in_proj, i)
            self.out(part, f"{b}.{kind}.out")
            self.into(l.pre_ff_layernorm, f"{b}.resid.mid")
            self.out(l.pre_ff_layernorm, f"{b}.mlp.in")
            if hasattr(mlp, "experts"):
                self.router(mlp.router, i)
                self.experts(mlp.experts, i)
            else:
                self.out(mlp.gate_proj, f"{b}.mlp.pre")
                self.out(mlp.up_proj, f"{b}.mlp.up")
                self.into(mlp.down_proj, f"{b}.mlp.act")
            self.out(mlp, f"{b}.mlp.out")
            self.out(l, f"{b}.resid.post")
        self.out(t.final_layernorm, "unembed.in")

    def mamba2(self, m):
        t = m.backbone
        code = importlib.import_module("transformers.models.mamba2.modeling_mamba2")
        self.out(t.embeddings, "embed")
        inner = (m.config.num_heads, m.config.head_dim)
        self.patch(code, "causal_conv1d_fn", self.conv(code.causal_conv1d_fn, inner))
        self.patch(code, "causal_conv1d_update", self.conv(code.causal_conv1d_update, inner))
        self.patch(code, "mamba2_chunk_scan", self.heads_scan)
        self.patch(code, "mamba2_selective_state_update", self.heads_step)
        for i, l in enumerate(t.layers):
            self.enter(l, i)
            self.into(l, f"blocks.{i}.resid.pre")
            self.out(l.norm, f"blocks.{i}.ssm.in")
            self.parts(l.mixer, i)
            self.out(l.mixer, f"blocks.{i}.ssm.out")
            self.out(l, f"blocks.{i}.resid.post")
        self.out(t.norm_f, "unembed.in")

    def parts(self, mixer, layer):
        """What stands before the scan and behind it, in heads."""
        inner, heads = mixer.intermediate_size, (mixer.num_heads, mixer.head_dim)

        def projected(_, __, output):
            self.tap(f"blocks.{layer}.ssm.gate", output[0, :, :inner].unflatten(-1, heads))
            self.tap(f"blocks.{layer}.ssm.x", output[0, :, inner:2 * inner].unflatten(-1, heads))

        def normed(_, args):
            y, gate = args
            self.tap(f"blocks.{layer}.ssm.gated", (y * F.silu(gate))[0].unflatten(-1, heads))

        def behind(_, args):
            self.tap(f"blocks.{layer}.ssm.normed", args[0][0].unflatten(-1, heads))
        self.undo += [mixer.in_proj.register_forward_hook(projected).remove, mixer.norm.register_forward_pre_hook(normed).remove,
                      mixer.out_proj.register_forward_pre_hook(behind).remove]

    def heads_scan(self, x, dt, A, B, C, chunk_size, D=None, dt_bias=None, dt_limit=(0.0, float("inf")), initial_states=None,
                   return_final_states=False, **_):
        """The scan of Mamba-2 row by row, with a tap on each of its values."""
        x, B, C = self.at("ssm.conv", x[0]), self.at("ssm.B", B[0]), self.at("ssm.C", C[0])
        dt = self.at("ssm.dt_pre", dt[0] + dt_bias)
        dt = self.at("ssm.dt", F.softplus(dt).clamp(*dt_limit))
        B, C = (v.repeat_interleave(x.shape[1] // v.shape[1], 1) for v in (B, C))
        decay = self.at("ssm.decay", torch.exp(dt * A))
        h = torch.zeros(*x.shape[1:], B.shape[-1]) if initial_states is None else initial_states[0]
        states, h = self.states(decay[..., None, None], (dt[..., None] * x)[..., None] * B[:, :, None], h)
        y = self.at("ssm.read", torch.einsum("thcn,thn->thc", states, C))
        y = self.at("ssm.y", y + D[:, None] * x).unsqueeze(0)
        return (y, h.unsqueeze(0)) if return_final_states else y

    def heads_step(self, state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, **_):
        y, h = self.heads_scan(x[None], dt[None, ..., 0], A[:, 0, 0], B[None], C[None], 1, D[:, 0], dt_bias[:, 0], initial_states=state,
                               return_final_states=True)
        state.copy_(h)
        return y[0]


def in_groups(gate, config, by):
    """What experts are chosen by, masked by groups where there are any."""
    kind, n = config.model_type, getattr(gate, "num_group", None)
    if kind == "deepseek_v3":
        count, outside = 2, 0.0 if getattr(config, "group_mask", None) == "zero" else float("-inf")
    elif kind == "deepseek_v2" and gate.topk_method == "group_limited_greedy":
        count, outside = 1, 0.0
    else:
        return by
    groups = by.unflatten(-1, (n, -1))
    best = first_largest(groups.topk(count, dim=-1)[0].sum(-1), gate.topk_group)
    kept = torch.zeros(len(by), n).scatter(1, best, 1.0).bool()[..., None]
    return torch.where(kept, groups, outside).flatten(1)


def first_largest(x, k):
    """The places of the k largest, of equals the first."""
    return x.sort(dim=-1, descending=True, stable=True).indices[:, :k]


def encoder_layers(m):
    """The parts of the layers of an encoder."""
    if m.config.model_type == "distilbert":
        for l in m.distilbert.transformer.layer:
            a = l.attention
            yield SimpleNamespace(layer=l, attention=a, q=a.q_lin, k=a.k_lin, out=a.out_lin, norm1=l.sa_layer_norm, up=l.ffn.lin1,
                                  down=l.ffn.lin2, norm2=l.output_layer_norm, act=l.ffn.activation, d_head=a.attention_head_size)
    else:
        for l in getattr(m, m.config.model_type).encoder.layer:
            a = l.attention.self
            yield SimpleNamespace(layer=l, attention=l.attention, q=a.query, k=a.key, out=l.attention.output.dense,
                                  norm1=l.attention.output.LayerNorm, up=l.intermediate.dense, down=l.output.dense,
                                  norm2=l.output.LayerNorm, act=l.intermediate.intermediate_act_fn, d_head=a.attention_head_size)


def encoder_head(m):
    """The projection and the norm of the head that fills masks, and its unembedding."""
    kind = m.config.model_type
    if kind == "bert":
        h = m.cls.predictions
        return h.transform.dense, h.transform.LayerNorm, h.decoder
    if kind == "roberta":
        return m.lm_head.dense, m.lm_head.layer_norm, m.lm_head.decoder
    return m.vocab_transform, m.vocab_layer_norm, m.vocab_projector


def clips(model):
    """Whether queries, keys and values are clipped before they are used."""
    return getattr(model.config, "clip_qkv", None) is not None


def seen(start, rows, keys, window):
    """Which keys a row sees: those up to its own, as many as the window holds."""
    row, key = torch.arange(start, start + rows)[:, None], torch.arange(keys)[None]
    return (key <= row) & (row - key < (window or keys))


def record(model, tokens):
    """All the sites of one run, and the logits of an untapped run to compare with."""
    sites = {}

    def tap(site, value):
        if "ssm.state[" not in site:
            sites[site] = value.detach().clone()

    ids = torch.tensor([tokens])
    with torch.no_grad():
        more = {} if model.config.model_type in ENCODERS else {"use_cache": False}
        plain = model(ids, **more).logits[0]
        with Taps(model, tap):
            model(ids, **more)
    return sites, plain
