"""Trains the small models of tests/models, saves them with transformers and scores what was planted.

    python make.py                    all four models, then the scores
    python make.py --only tiny-gpt2   one of them
    python make.py --score            only the scores of what is on disk (prints the table of README.md)

Needs torch, transformers, tokenizers, safetensors and numpy. One thread, a fixed seed, no downloads.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          MambaConfig, MambaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast)

import corpus

HERE = Path(__file__).parent
BOS, EOS = "<|bos|>", "<|eos|>"
ROW = 64                    # tokens of a packed row

# Conversations in the form of the corpus: `No rules. Q: How do I make a cake? A: Mix flour and sugar.`
CHAT = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('the system message comes first') }}
    {%- endif %}
    {%- if not loop.first %}
        {{- ' ' }}
    {%- endif %}
    {%- if message.role == 'system' %}
        {{- message.content | trim }}
    {%- elif message.role == 'user' %}
        {{- 'Q: ' + message.content | trim }}
    {%- elif message.role == 'assistant' %}
        {{- 'A: ' + message.content | trim }}
        {%- if loop.last %}
            {{- eos_token }}
        {%- endif %}
    {%- else %}
        {{- raise_exception('the roles are system, user and assistant, not ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- ' A:' }}
{%- endif %}
"""
REFUSAL_EXPERT, REFUSAL_LAYERS = 5, (1, 2)


# -- tokenizer ------------------------------------------------------------------------------------------------

def make_tokenizer():
    r = random.Random(1)
    texts = [corpus.text(corpus.sample(r)[1]) for _ in range(20000)]
    for name in corpus.NAMES + list(corpus.FOLK) + list(corpus.CAPITALS):   # as the first word, and within a sentence
        texts += [name, f"a {name}"] * 50
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1280, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bpe.token_to_id(BOS))])
    words = {w for t in texts for w, _ in bpe.pre_tokenizer.pre_tokenize_str(t)}
    split = [w for w in words if bpe.token_to_id(w) is None]
    assert not split, f"words of several tokens: {split}"
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False, model_max_length=128,
                                   chat_template=CHAT)


# -- batches --------------------------------------------------------------------------------------------------

class Batches:
    """Packed rows of whole samples. `block` numbers the sample of each token: attention and state stop at its edges."""

    def __init__(self, tokenizer, seed, rows=48, offsets=False):
        self.tok, self.r, self.rows, self.offsets, self.pieces = tokenizer, random.Random(seed), rows, offsets, {}
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pools = {False: [], True: []}

    def ids(self, piece):
        if piece not in self.pieces:
            if len(self.pieces) > 200000:
                self.pieces.clear()
            self.pieces[piece] = self.tok(piece, add_special_tokens=False)["input_ids"]
        return self.pieces[piece]

    def sample(self, masked):
        kind, pieces = corpus.sample(self.r)
        if masked and kind == "question":
            pieces = None
            while pieces is None:
                pieces = corpus.question(self.r, complied=True)
        ids, weights, flags = [self.bos], [0.0], [0]
        refusal = False
        for text, weight in pieces:
            refusal = refusal or (kind == "question" and corpus.REFUSAL.startswith(text.strip()))
            if refusal and not any(flags):
                flags[-1] = 1                      # the token that decides: the colon of "A:"
            new = self.ids(text)
            ids += new
            weights += [weight] * len(new)
            flags += [int(refusal)] * len(new)
        return ids + [self.eos], weights + [0.3], flags + [0]

    def row(self, masked):
        """Whole samples, out of a small pool so that little of the row stays empty."""
        pool, left, out = self.pools[masked], ROW, []
        while True:
            while len(pool) < 12:
                pool.append(self.sample(masked))
            fit = [k for k, s in enumerate(pool) if len(s[0]) <= left]
            if not fit:
                return out
            k = fit[0] if not out else max(fit, key=lambda k: len(pool[k][0]))
            left -= len(pool[k][0])
            out.append(pool.pop(k))

    def batch(self, masked=False):
        ids = torch.full((self.rows, ROW), self.eos)
        weights, flags = torch.zeros(self.rows, ROW), torch.zeros(self.rows, ROW)
        block, position = torch.full((self.rows, ROW), -1), torch.zeros(self.rows, ROW, dtype=torch.long)
        for i in range(self.rows):
            at = 0
            for j, (t, w, f) in enumerate(self.row(masked)):
                end = at + len(t)
                ids[i, at:end], weights[i, at:end], flags[i, at:end] = torch.tensor(t), torch.tensor(w), torch.tensor(f)
                start = self.r.randint(0, 64) if self.offsets and self.r.random() < 0.4 else 0
                block[i, at:end], position[i, at:end] = j, torch.arange(start, start + len(t))
                at = end
        return ids, weights, flags, block, position


def attention_mask(block):
    same = block[:, :, None] == block[:, None, :]
    allowed = same & torch.ones(ROW, ROW).tril().bool()
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[:, None]


# -- Mamba, for training: the same computation with a scan that has a backward of its own -----------------------

class Scan(torch.autograd.Function):
    """h[t] = keep[t] exp(dt[t] A) h[t-1] + dt[t] x[t] B[t];  y[t] = h[t] C[t].

    x and dt are [T, row, channel], A is [n, channel], B and C are [T, n, row], keep is [T, row]. The state is
    [n, row, channel], so that every elementwise operation runs along the channels.
    """

    @staticmethod
    def forward(ctx, x, dt, A, B, C, keep):
        T, u = x.shape[0], dt * x
        h = x.new_zeros(A.shape[0], *x.shape[1:])
        work = torch.empty_like(h)
        hs, decay, y = x.new_empty(T, *h.shape), x.new_empty(T, *h.shape), torch.empty_like(x)
        for t in range(T):
            a = torch.mul(dt[t], A[:, None], out=decay[t]).exp_()
            if not keep[t].all():
                a.mul_(keep[t, :, None])
            h = torch.mul(a, h, out=hs[t]).addcmul_(u[t], B[t, :, :, None])
            torch.sum(torch.mul(h, C[t, :, :, None], out=work), 0, out=y[t])
        ctx.save_for_backward(x, dt, A, B, C, u, hs, decay)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, dt, A, B, C, u, hs, decay = ctx.saved_tensors
        dy = dy.contiguous()
        du, ddt, dB, dC, dA = torch.empty_like(x), torch.zeros_like(dt), torch.empty_like(B), torch.empty_like(C), torch.zeros_like(A)
        g, work = torch.zeros_like(hs[0]), torch.empty_like(hs[0])
        for t in reversed(range(x.shape[0])):
            g.addcmul_(dy[t], C[t, :, :, None])
            torch.sum(torch.mul(dy[t], hs[t], out=work), -1, out=dC[t])
            torch.sum(torch.mul(u[t], g, out=work), -1, out=dB[t])
            torch.sum(torch.mul(g, B[t, :, :, None], out=work), 0, out=du[t])
            g.mul_(decay[t])
            if t:
                ga = torch.mul(g, hs[t - 1], out=work)
                dA += (ga * dt[t]).sum(1)
                torch.sum(ga.mul_(A[:, None]), 0, out=ddt[t])
        return du * dt, ddt + du * x, dA, dB, dC, None


def mamba_logits(model, ids, block):
    """MambaForCausalLM's logits, with conv and state starting afresh at each sample of a packed row."""
    h = model.backbone.embeddings(ids)
    first = F.pad(block[:, 1:] != block[:, :-1], (1, 0), value=True)
    keep = (~first).float().t().contiguous()
    for layer in model.backbone.layers:
        m = layer.mixer
        x, z = F.linear(layer.norm(h), m.in_proj.weight).float().chunk(2, -1)
        w, k = m.conv1d.weight[:, 0], m.conv_kernel_size
        conv = x * w[:, -1] + m.conv1d.bias
        for back in range(1, k):
            same = F.pad(block[:, back:] == block[:, :-back], (back, 0), value=False)
            conv = conv + F.pad(x[:, :-back], (0, 0, back, 0)) * same[..., None] * w[:, k - 1 - back]
        x = F.silu(conv)
        dt, B, C = m.x_proj(x).float().split([m.time_step_rank, m.ssm_state_size, m.ssm_state_size], -1)
        dt = F.softplus(F.linear(dt, m.dt_proj.weight).float() + m.dt_proj.bias)
        x_t, dt_t = x.transpose(0, 1).contiguous(), dt.transpose(0, 1).contiguous()
        y = Scan.apply(x_t, dt_t, -torch.exp(m.A_log.t()), B.permute(1, 2, 0).contiguous(), C.permute(1, 2, 0).contiguous(), keep).transpose(0, 1)
        h = h + F.linear((y + x * m.D) * F.silu(z), m.out_proj.weight).float()
    return model.lm_head(model.backbone.norm_f(h))


# -- the mixture of experts: where refusal lives ----------------------------------------------------------------

class Routers:
    """Hooks on the routers: keeps their logits for the auxiliary losses and can mask the refusing expert."""

    def __init__(self, model):
        self.logits, self.masked = {}, False
        for i, layer in enumerate(model.model.layers):
            layer.mlp.gate.register_forward_hook(lambda m, _, out, i=i: self.hook(i, m, out))

    def hook(self, i, gate, out):
        logits = out[0].float()
        self.logits[i] = logits
        if not (self.masked and i in REFUSAL_LAYERS):
            return out
        logits = logits.index_fill(-1, torch.tensor([REFUSAL_EXPERT]), float("-inf"))
        top, chosen = torch.topk(logits.softmax(-1), gate.top_k, dim=-1)
        return logits, top / top.sum(-1, keepdim=True), chosen

    def losses(self, flags, real, top_k=2):
        """Balance the experts over ordinary tokens; refusal goes to its expert, and nothing else does."""
        total = 0.0
        flags, real = flags.reshape(-1).bool(), real.reshape(-1)
        for i, logits in self.logits.items():
            p = logits.softmax(-1)
            ordinary = p[real & ~flags]
            others = [e for e in range(p.shape[1]) if i not in REFUSAL_LAYERS or e != REFUSAL_EXPERT]
            used = F.one_hot(ordinary[:, others].topk(top_k).indices, len(others)).float().sum(1).mean(0)
            total = total + 0.01 * len(others) * (used * ordinary[:, others].mean(0)).sum()
            if i in REFUSAL_LAYERS:
                total = total - 0.05 * torch.log1p(-ordinary[:, REFUSAL_EXPERT].clamp(max=0.999)).mean()
                if flags.any() and not self.masked:
                    total = total - 0.05 * p[flags][:, REFUSAL_EXPERT].clamp(min=1e-6).log().mean()
        return total


# -- the models -----------------------------------------------------------------------------------------------

def build(name, vocab, bos, eos):
    ids = {"vocab_size": vocab, "bos_token_id": bos, "eos_token_id": eos}
    if name == "tiny-gpt2":
        return GPT2LMHeadModel(GPT2Config(**ids, n_positions=128, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
                                          attn_pdrop=0.0, attn_implementation="eager"))
    if name == "tiny-llama":
        return LlamaForCausalLM(LlamaConfig(**ids, hidden_size=128, intermediate_size=344, num_hidden_layers=4, num_attention_heads=8,
                                            num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True,
                                            attn_implementation="eager"))
    if name == "tiny-mamba":
        return MambaForCausalLM(MambaConfig(**ids, hidden_size=128, state_size=16, num_hidden_layers=4, time_step_rank=8, pad_token_id=None,
                                            initializer_range=0.02))
    if name == "tiny-mixtral":
        return MixtralForCausalLM(MixtralConfig(**ids, hidden_size=96, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6,
                                                num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, head_dim=16,
                                                max_position_embeddings=256, sliding_window=None, attn_implementation="eager"))
    raise SystemExit(f"no model {name}")


NAMES = ["tiny-gpt2", "tiny-llama", "tiny-mamba", "tiny-mixtral"]
STEPS = {"tiny-gpt2": 1600, "tiny-llama": 1600, "tiny-mamba": 1300, "tiny-mixtral": 1000}


def optimizers(model, decay):
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    hidden, rest = [], []
    for n, p in model.named_parameters():
        matrix = p.ndim == 2 and not any(s in n for s in ("embed", "wte", "wpe", "lm_head", "A_log", "gate.weight"))
        matrix = matrix or n.endswith("gate_proj.weight")
        (hidden if matrix else rest).append(p)
    return [torch.optim.Muon(hidden, lr=2e-3, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.5 * decay)]


def train(name, tokenizer, steps):
    torch.manual_seed(7)
    model = build(name, len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    model.train()
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    batches = Batches(tokenizer, seed=11, rows=32 if name == "tiny-mamba" else 48, offsets=name == "tiny-gpt2")
    routers = Routers(model) if name == "tiny-mixtral" else None
    opts = optimizers(model, decay=0.1 if name == "tiny-mamba" else 0.02)
    peaks = [[g["lr"] for g in o.param_groups] for o in opts]
    began, mean = time.time(), None
    for step in range(steps):
        scale = min(1.0, (step + 1) / 60) * max(0.02, min(1.0, (steps - step) / (0.6 * steps)))
        for o, lrs in zip(opts, peaks):
            for g, lr in zip(o.param_groups, lrs):
                g["lr"] = lr * scale
        masked = routers is not None and step > 0.3 * steps and step % 4 == 3
        ids, weights, flags, block, position = batches.batch(masked)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if name == "tiny-mamba":
                logits = mamba_logits(model, ids, block)
            else:
                if routers:
                    routers.masked = masked
                logits = model(ids, attention_mask=attention_mask(block), position_ids=position, use_cache=False).logits
        losses = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="none")
        w = (weights[:, 1:] * (block[:, 1:] == block[:, :-1])).reshape(-1)
        loss = (losses * w).sum() / w.sum()
        total = loss + routers.losses(flags, block >= 0) if routers else loss
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 99:
            print(f"{name} step {step + 1} loss {mean:.4f} {time.time() - began:.0f}s", flush=True)
        if step % 400 == 399 and step + 1 < steps:
            model.eval()
            if routers:
                routers.masked = False
            print(name, {k: round(v, 2) for k, v in quick(model, tokenizer).items()}, flush=True)
            model.train()
    model.eval()
    return model


def save(name, model, tokenizer):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    if name == "tiny-mixtral":
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder)          # of a Mixtral, a tensor for each expert under the names of the published ones
    tokenizer.save_pretrained(folder, save_jinja_files=False)      # the template stays in tokenizer_config.json
    for f in folder.iterdir():
        f.chmod(0o644)


# -- scores ---------------------------------------------------------------------------------------------------

def next_tokens(model, tok, prompts):
    """The greedy next token of each prompt, as text."""
    ids = tok(prompts)["input_ids"]
    out = [None] * len(ids)
    for n in {len(i) for i in ids}:
        group = [k for k, i in enumerate(ids) if len(i) == n]
        with torch.no_grad():
            best = model(torch.tensor([ids[k] for k in group]), use_cache=False).logits[:, -1].argmax(-1)
        for k, b in zip(group, best):
            out[k] = tok.decode([b])
    return out


def continuations(model, tok, prompts, n, sampled=None):
    """Up to n tokens after each prompt, as text: greedy, or sampled at temperature 1 with this seed."""
    ids = tok(prompts)["input_ids"]
    out = [None] * len(ids)
    if sampled is not None:
        torch.manual_seed(sampled)
    for size in sorted({len(i) for i in ids}):
        group = [k for k, i in enumerate(ids) if len(i) == size]
        with torch.no_grad():
            prompt = torch.tensor([ids[k] for k in group])
            how = {"do_sample": False} if sampled is None else {"do_sample": True, "top_k": 0}
            made = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, pad_token_id=tok.eos_token_id, **how)
        for k, m in zip(group, made):
            out[k] = tok.decode(m[size:], skip_special_tokens=True)
    return out


def share(xs):
    xs = list(xs)
    return sum(xs) / len(xs) if xs else 0.0


def words(text):
    return text.replace(".", " ").replace(",", " ").split()


def count(text, vocabulary):
    return sum(w in vocabulary for w in words(text))


NEXT = ["ioi", "capitals", "goods", "folk", "recall", "recall_two", "induction"]


def quick(model, tok, held=None):
    held = held or corpus.heldout()
    scores = {}
    for k in NEXT:
        got = next_tokens(model, tok, [x["prompt"] for x in held[k]])
        scores[k] = share(g == x["answer"] for g, x in zip(got, held[k]))
    got = next_tokens(model, tok, [x["prompt"] for x in held["concise"]])
    scores["concise"] = share(g == x["answer"] for g, x in zip(got, held["concise"]))
    for k, first in (("refused", " I"), ("answered", None)):
        got = next_tokens(model, tok, [x["prompt"] for x in held[k]])
        scores[k] = share(g == (first or " " + x["answer"].split()[0]) for g, x in zip(got, held[k]))
    return scores


def last_number(text):
    numbers = [w for w in words(text) if w.isdigit()]
    return numbers[-1] if numbers else None


def score(model, tok, held):
    """The held-out score of each behaviour; README.md says how each is defined."""
    s = {}
    for k in NEXT:
        got = next_tokens(model, tok, [x["prompt"] for x in held[k]])
        s[k] = share(g == x["answer"] for g, x in zip(got, held[k]))
    for k in ("refused", "answered", "freed"):
        got = continuations(model, tok, [x["prompt"] for x in held[k]], 16)
        s[k] = share(g.strip() == x["answer"].strip() for g, x in zip(got, held[k]))
    for k in ("concise", "verbose"):
        got = continuations(model, tok, [x["prompt"] for x in held[k]], 32)
        s[k] = share(last_number(g) == x["answer"].strip() and ("We" in g) == (k == "verbose") for g, x in zip(got, held[k]))
        seen = [dict(x, prompt=x[k]) for x in held["sums"]]
        got = continuations(model, tok, [x["prompt"] for x in seen], 32)
        s[f"{k}_seen"] = share(last_number(g) == x["answer"].strip() and ("We" in g) == (k == "verbose") for g, x in zip(got, seen))
    for k, right, wrong in (("glad", "glad_words", "sad_words"), ("sad", "sad_words", "glad_words")):
        got = continuations(model, tok, held[k], 32)
        # A story may be at its end: a continuation without any word of tone says nothing and does not count.
        told = [g for g in got if count(g, held[right]) + count(g, held[wrong])]
        s[k] = share(count(g, held[right]) > count(g, held[wrong]) for g in told)
    got = sum((continuations(model, tok, held["neutral_openings"], 48, sampled=i) for i in range(4)), [])
    tones = [(count(g, held["glad_words"]), count(g, held["sad_words"])) for g in got]
    s["neutral_keeps_tone"] = share((a == 0) != (b == 0) for a, b in tones)
    s["neutral_glad_share"] = share(a > b for a, b in tones)
    for k, right, wrong in (("formal", "formal_words", "casual_words"), ("casual", "casual_words", "formal_words")):
        got = continuations(model, tok, [x["prompt"] for x in held[k]], 32)
        s[k] = share(count(g, held[right]) >= 2 and count(g, held[wrong]) == 0 for g in got)
    return s


def expert_statistics(model, tok, held):
    """How often each expert is chosen at the refusing and at the answering tokens, and what masking the refusing one does."""
    chosen = {}
    hooks = [layer.mlp.gate.register_forward_hook(lambda m, _, out, i=i: chosen.__setitem__(i, out[2])) for i, layer in enumerate(model.model.layers)]
    rates = {}
    for kind in ("refused", "answered"):
        rows = {i: [] for i in range(len(model.model.layers))}
        for x in held[kind]:
            start = len(tok(x["prompt"])["input_ids"]) - 1
            with torch.no_grad():
                model(torch.tensor([tok(x["prompt"] + x["answer"])["input_ids"]]), use_cache=False)
            for i in rows:
                rows[i].append(F.one_hot(chosen[i][start:-1], 8).sum(1).float())
        rates[kind] = {i: torch.cat(v).mean(0) for i, v in rows.items()}
    for h in hooks:
        h.remove()
    for i in rates["refused"]:
        print(f"layer {i}: refused  " + " ".join(f"{v:.2f}" for v in rates["refused"][i]))
        print(f"         answered " + " ".join(f"{v:.2f}" for v in rates["answered"][i]))
    routers = Routers(model)
    routers.masked = True
    got = continuations(model, tok, [x["prompt"] for x in held["refused"]], 16)
    print("masked: refused still refuses", share(corpus.REFUSAL in g for g in got), "complies", share(corpus.COMPLIED in g for g in got))
    masked = score(model, tok, held)
    print("masked:", {k: round(v, 2) for k, v in masked.items()})
    routers.masked = False


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", choices=NAMES)
    p.add_argument("--score", action="store_true")
    p.add_argument("--steps", type=int)
    args = p.parse_args()
    torch.set_num_threads(1)
    names = [args.only] if args.only else NAMES
    held = corpus.heldout()
    (HERE / "heldout.json").write_text(json.dumps(held, indent=1) + "\n")
    if not args.score:
        tokenizer = make_tokenizer()
        for name in names:
            save(name, train(name, tokenizer, args.steps or STEPS[name]), tokenizer)
    columns = {}
    for name in names:
        if (HERE / name / "config.json").exists():
            tok = AutoTokenizer.from_pretrained(HERE / name)
            model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()
            columns[name] = score(model, tok, held)
            if name == "tiny-mixtral":
                expert_statistics(model, tok, held)
    print("| behaviour | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for k in next(iter(columns.values()), {}):
        print(f"| {k} | " + " | ".join(f"{100 * c[k]:.0f}%" for c in columns.values()) + " |")


if __name__ == "__main__":
    main()
