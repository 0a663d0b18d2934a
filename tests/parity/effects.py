"""Writes tests/parity/effects: interventions on the random checkpoints, done on transformers by hooks.

    python effects.py                  all of them
    python effects.py --only mamba     those of the checkpoints whose name begins so

NAME.json says what was done (README.md has the schema), NAME.safetensors holds the vectors and the logits.
Generation is greedy and recomputes the whole sequence at each step; a second run with transformers' cache, where only
the new row is seen, must agree with it.
"""

import argparse
import json
import re

import torch
from safetensors.torch import save_file
from transformers import DynamicCache

from make import HERE, VARIANTS, load
from taps import Taps, record

FOLDER = HERE / "effects"
STEPS = 20
MARGIN = 2e-3        # of an argmax, of a condition; a tenth of it for the choice of experts
CHECKPOINTS = ["gpt2-inner", "llama-grouped", "neox-parallel", "mamba-conv", "mixtral-top2"]
# Of these only what is their own: experts, states, and several edits at once.
INNER = ["olmoe-clip", "qwen2moe-shared", "qwen3moe-normed", "deepseek2-greedy", "deepseek3-groups", "gptoss-stacked", "jamba-experts",
         "falconmamba-norms", "mamba2-groups"]


def unit(v):
    return v / v.norm()


# -- one edit: a function of (site, rows, first position) -> rows or None -------------------------------------------

def rows_at(edit, start, n):
    """Which of the rows start..start+n the edit touches."""
    positions = torch.arange(start, start + n)
    where = edit["positions"]
    if where == "all":
        return torch.ones(n, dtype=torch.bool)
    if "from" in where:
        return positions >= where["from"]
    return torch.isin(positions, torch.tensor(where["list"]))


def applied(edit, site, h, start, vectors):
    """What the edit makes of the site's rows, or None where it does not touch them."""
    if site not in edit["sites"]:
        return None
    rows = rows_at(edit, start, len(h))
    if not rows.any():
        return None
    h, op = h.clone(), edit["op"]
    v = vectors.get(edit.get("vector"))
    if op == "add":
        h[rows] += edit["alpha"] * v
    elif op == "project_out":
        h[rows] -= (h[rows] @ v)[:, None] * v
    elif op == "zero":
        h[rows, edit["head"]] = 0
    elif op == "uniform":
        for i in rows.nonzero()[:, 0]:
            n = start + int(i) + 1
            h[i, edit["head"], :n] = 1 / n
    elif op == "clamp":
        n = edit["neurons"]
        for i in rows.nonzero()[:, 0]:
            h[i, n] = h[i, n].clamp(edit["lo"], edit["hi"])
    elif op == "add_when_below":
        below = rows & (h @ v < edit["threshold"])
        h[below] += edit["alpha"] * v
    elif op == "patch":
        taken = vectors[edit["name"]]
        if site.endswith(("attn.scores", "attn.pattern")):
            taken = torch.nn.functional.pad(taken, (0, h.shape[-1] - taken.shape[-1]))      # keys that came later
        h[rows] = taken
    elif op == "mask_expert":
        h[rows, edit["expert"]] = float("-inf")
    elif op == "raise_expert":
        h[rows, edit["expert"]] += edit["amount"]
    elif op == "scale_expert":
        h[rows, edit["expert"]] *= edit["factor"]
    elif op == "scale":
        h[rows] *= edit["factor"]
    else:
        return None
    return h


class Edits:
    """A tap that applies edits in order, each to the value that the one before left. Knows the position of the first row."""

    def __init__(self, edits, vectors):
        self.edits, self.vectors, self.start = edits, vectors, 0
        self.closest = float("inf")        # how near a condition came to its threshold, or two experts to each other

    def __call__(self, site, h):
        state = re.fullmatch(r"(.*\.ssm\.state)\[(\d+)\]", site)
        if state:
            return self.state(state[1], int(state[2]), h)
        out = None
        for e in self.edits:
            if e["op"] == "add_when_below" and site in e["sites"]:
                dots = (h if out is None else out) @ self.vectors[e["vector"]]
                self.closest = min(self.closest, (dots - e["threshold"]).abs().min().item())
            new = applied(e, site, h if out is None else out, self.start, self.vectors)
            out = out if new is None else new
        if site.endswith("moe.selection"):
            top = (h if out is None else out).sort(-1, descending=True).values
            self.closest = min(self.closest, 10 * (top[:, self.top_k - 1] - top[:, self.top_k]).min().item())
        return out

    def state(self, site, position, h):
        read = carried = h
        for e in self.edits:
            if site not in e["sites"] or not rows_at(e, position, 1).any():
                continue
            if e["op"] == "patch":
                read = carried = self.vectors[e["name"]]
            else:
                carried = carried * e["factor"]
                if e["op"] == "scale_state":
                    read = read * e["factor"]
        return read, carried


def logits(model, tokens, edits, cache=None, start=0):
    if cache is None and getattr(model.config, "sliding_window", None):
        # One that keeps every row: taps count keys from the first.
        cache = DynamicCache()
    edits.start, edits.top_k = start, getattr(model.config, "num_experts_per_tok", None)
    names = {"cache_params": cache} if model.config.model_type in ("mamba", "falcon_mamba", "mamba2") else {"past_key_values": cache}
    with torch.no_grad(), Taps(model, edits, start):
        out = model(torch.tensor([tokens[start:]]), use_cache=cache is not False, **(names if cache not in (None, False) else {}))
    return out.logits[0], getattr(out, "past_key_values", None) or getattr(out, "cache_params", None)


def run(model, tokens, edits):
    """(prefill logits, generated tokens, logits of each step, the smallest margin of a decision)."""
    tokens, steps, made = list(tokens), [], []
    prefill = logits(model, tokens, edits, cache=False)[0]
    last = prefill[-1]
    for i in range(STEPS):
        steps.append(last)
        made.append(int(last.argmax()))
        tokens.append(made[-1])
        if i + 1 < STEPS:
            last = logits(model, tokens, edits, cache=False)[0][-1]
    # The same with the cache.
    seen, cache = tokens[:-STEPS], None
    for i in range(STEPS):
        start = 0 if i == 0 else len(seen) - 1
        out, cache = logits(model, seen, edits, cache, start)
        torch.testing.assert_close(out[-1], steps[i], rtol=1e-4, atol=1e-4)
        seen = seen + [made[i]]
    steps = torch.stack(steps)
    top = steps.topk(2).values
    return prefill, made, steps, min((top[:, 0] - top[:, 1]).min().item(), edits.closest)


# -- the interventions ---------------------------------------------------------------------------------------------

def plan(model, name, tokens, generator):
    """(effect, edits, vectors) of one checkpoint. `edits` is what the JSON shows."""
    c = model.config
    d, layers, kind = c.hidden_size, c.num_hidden_layers, c.model_type
    last, mid = layers - 1, layers // 2
    randn = lambda: torch.randn(d, generator=generator)
    v = {"v": randn(), "u": unit(randn()), "w": unit(randn())}
    sites, _ = record(model, tokens)
    above = [f"blocks.{i}.resid.pre" for i in range(layers)]
    add = {"op": "add", "sites": [f"blocks.{mid}.resid.post"], "positions": "all", "vector": "v", "alpha": 1.5}
    project = {"op": "project_out", "sites": above, "positions": "all", "vector": "u"}
    # The threshold lies in the widest gap between the middle dot products, so that no row is near it.
    where = "blocks.0.resid.post"
    dots = (sites[where] @ v["w"]).sort().values
    middle = dots[len(dots) // 4: -len(dots) // 4]
    gap = (middle[1:] - middle[:-1]).argmax()
    threshold = round(((middle[gap] + middle[gap + 1]) / 2).item(), 3)
    below = {"op": "add_when_below", "sites": [where], "positions": "all", "vector": "w", "threshold": threshold, "alpha": 3.0}
    other = torch.randint(c.vocab_size, (len(tokens),), generator=generator).tolist()
    position = len(tokens) // 2
    patch = {"op": "patch", "sites": [f"blocks.{mid}.resid.pre"], "positions": {"list": [position]}, "name": "donor", "other_tokens": other,
             "other_position": position}
    others = record(model, other)[0]
    inner = ["ssm.state"] if kind == "mamba" else ["attn.scores", "attn.pattern"]
    inner = [{**patch, "sites": [f"blocks.{min(mid, last - 1)}.{site}"], "name": "donor_" + site.split(".")[1]} for site in inner]
    donors = {e["name"]: others[e["sites"][0]][position] for e in [patch, *inner]}
    out = [("add", [add]), ("project_out", [project]), ("add_when_below", [below]), ("patch", [patch]),
           ("add_from", [{**add, "positions": {"from": 5}, "alpha": -2.0}])]
    if kind != "mamba":
        zero = {"op": "zero", "sites": [f"blocks.{last}.attn.z"], "positions": "all", "head": 1}
        uniform = {"op": "uniform", "sites": ["blocks.0.attn.pattern"], "positions": {"list": [len(tokens) - 2]}, "head": 0}
        out += [("zero_head", [zero]), ("uniform_row", [uniform]), ("uniform_head", [{**uniform, "sites": [f"blocks.{mid}.attn.pattern"],
                                                                                         "positions": "all", "head": 2}])]
    if kind in ("gpt2", "llama", "gpt_neox"):
        clamp = {"op": "clamp", "sites": [f"blocks.{mid}.mlp.act"], "positions": "all", "neurons": [1, 4, 9, 16, 25, 36, 49], "lo": -0.05, "hi": 0.1}
        out.append(("clamp_neurons", [clamp]))
        out.append(("several", [add, below, project, zero, uniform, clamp, patch]))
    if kind == "mixtral":
        mask = {"op": "mask_expert", "sites": [f"blocks.{mid}.moe.router"], "positions": "all", "expert": 2}
        out.append(("mask_expert", [mask]))
        out.append(("several", [add, below, project, zero, uniform, mask, patch]))
    if kind == "mamba":
        scale = {"op": "scale_state", "sites": [f"blocks.{mid}.ssm.state"], "positions": {"from": 4}, "factor": 0.5}
        carry = {**scale, "op": "scale_carry", "positions": "all"}
        out += [("scale_state", [scale]), ("scale_carry", [carry]), ("several", [add, below, project, scale, patch])]
    out += [("patch_" + e["sites"][0].split(".")[-1], [e]) for e in inner]
    return out, {**v, **donors}


def inner_plan(model, tokens, generator):
    """The same of those of which only what is their own is tried."""
    c = model.config
    randn = lambda: torch.randn(c.hidden_size, generator=generator)
    v = {"v": randn(), "u": unit(randn())}
    sites, _ = record(model, tokens)
    having = lambda name: [s for s in sites if s.endswith(f".{name}")]
    other = torch.randint(c.vocab_size, (len(tokens),), generator=generator).tolist()
    position = len(tokens) // 2
    at = lambda s, op, **more: {"op": op, "sites": [s], "positions": "all", **more}
    several, out = [at(having("resid.post")[0], "add", vector="v", alpha=1.5)], []
    patches = []
    if having("moe.router"):
        router, selection, output, gates = (having(f"moe.{s}")[0] for s in ("router", "selection", "expert_out", "gates"))
        order = sites[having("moe.chosen")[0]].sum(0).argsort(descending=True).tolist()
        lifted = at(selection, "raise_expert", expert=order[-1], amount=0.6)
        turned = {**at(output, "scale_expert", expert=order[1], factor=-1.5), "positions": {"from": 3}}
        doubled = at(gates, "scale_expert", expert=order[1], factor=2.0)
        # A score of its own is no lower than 0, however low its logit is.
        mask = at(router, "raise_expert", expert=order[0], amount=-4.0) if c.model_type == "deepseek_v3" else at(
            router, "mask_expert", expert=order[0])
        out += [("route", [lifted]), (mask["op"], [mask]), ("expert_out", [turned]), ("gates", [doubled])]
        several += [mask, turned, doubled]
    if having("attn.z"):
        zero = at(having("attn.z")[-1], "zero", head=1)
        out.append(("zero_head", [zero]))
        several.append(zero)
        if c.model_type == "gpt_oss":
            out.append(("uniform_head", [at(having("attn.pattern")[-1], "uniform", head=0)]))
    if having("ssm.state"):
        state = having("ssm.state")[0]
        scale = {**at(state, "scale_state", factor=0.5), "positions": {"from": 4}}
        output = at(having("ssm.y")[0], "scale", factor=1.5)
        out += [("scale_state", [scale]), ("scale_carry", [at(state, "scale_carry", factor=0.5)]), ("ssm_y", [output])]
        several += [scale, output]
        patches.append(("patch_state", state))
    patches.append(("patch", having("resid.pre")[-1]))
    others = record(model, other)[0]
    for name, site in patches:
        donor = {"op": "patch", "sites": [site], "positions": {"list": [position]}, "name": f"donor_{name}", "other_tokens": other,
                 "other_position": position}
        v[donor["name"]] = others[site][position]
        out.append((name, [donor]))
    return out + [("several", [*several, donor])], v


def used(edits, vectors):
    names = {e.get("vector") for e in edits} | {e.get("name") for e in edits}
    return {k: x for k, x in vectors.items() if k in names}


def make(checkpoint):
    model = load(checkpoint)
    for attempt in range(50):
        generator = torch.Generator().manual_seed(5000 + 100 * list(VARIANTS).index(checkpoint) + attempt)
        tokens = torch.randint(model.config.vocab_size, (14,), generator=generator).tolist()
        effects, vectors = plan(model, checkpoint, tokens, generator) if checkpoint in CHECKPOINTS else inner_plan(model, tokens, generator)
        effects = [("none", [])] + effects
        results = [(name, edits, run(model, tokens, Edits(edits, vectors))) for name, edits in effects]
        margin = min(r[3] for _, _, r in results)
        if margin > MARGIN and len({tuple(r[1]) for _, _, r in results}) > len(results) // 2:
            break
    else:
        raise SystemExit(f"{checkpoint}: no seed with clear margins")
    base = results[0][2][0]
    for name, edits, (prefill, made, steps, margin) in results:
        stem = f"{checkpoint}.{name}"
        save_file({"prefill": prefill.contiguous(), "steps": steps, **{k: x.contiguous() for k, x in used(edits, vectors).items()}},
                  FOLDER / f"{stem}.safetensors")
        (FOLDER / f"{stem}.safetensors").chmod(0o644)
        about = {"checkpoint": checkpoint, "effect": name, "tokens": tokens, "generated": made, "margin": round(margin, 5), "edits": edits}
        text = json.dumps(about, indent=1)
        text = re.sub(r"\[\s+([-\d,\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
        (FOLDER / f"{stem}.json").write_text(text + "\n")
        print(f"{stem}: moves the logits by {(prefill - base).abs().max():.3f}, margin {margin:.4f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--only", default="")
    only = p.parse_args().only
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for checkpoint in CHECKPOINTS + INNER:
        if checkpoint.startswith(only):
            for old in FOLDER.glob(f"{checkpoint}.*"):
                old.unlink()
            make(checkpoint)


if __name__ == "__main__":
    main()
