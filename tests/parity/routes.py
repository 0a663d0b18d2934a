"""Writes tests/parity/routes: routes on the random mixtures of experts, done on transformers by hooks on their routers.

    python routes.py

NAME.json says what was done to the checkpoint NAME: the tokens, and for each case the statements of a route, as the
language writes them, and the rows from which on it acts. NAME.safetensors holds the logits of every row by the number of
the case. What a statement means is written here once more, from the routers of transformers, not from the language.
"""

import json

import torch
from safetensors.torch import save_file

from make import HERE, load
from taps import first_largest, in_groups

FOLDER = HERE / "routes"
CHECKPOINTS = ["mixtral-top2", "olmoe-hub", "qwen2moe-shared", "qwen3moe-normed", "deepseek2-groups", "deepseek3-groups", "gptoss-plain"]
MARGIN = 2e-4        # between the last chosen and the first that is not
CASES = [
    [("mask", 2)],
    [("mask", 1), ("mask", 2)],
    [("drop", 2)],
    [("drop", 0), ("drop", 1), ("drop", 2), ("drop", 3)],
    [("mute", 2)],
    [("force", 3, None)],
    [("force", 3, "max")],
    [("force", 3, 0.3)],
    [("bias", 1, 0.07)],
    [("top_k", 1)],
    [("top_k", 3)],
    [("mask", 0), ("force", 3, "max"), ("top_k", 3), ("drop", 2)],
]


def text(statement):
    word, *rest = statement
    if word == "top_k":
        return f"top_k = {rest[0]}"
    by = f" by {rest[1]}" if len(rest) > 1 and rest[1] is not None else ""
    return f"{word} {rest[0]}{by}"


class Routes:
    """A hook on every router that does what statements say on the rows from `first` on."""

    def __init__(self, model, statements, first):
        self.statements, self.first, self.closest, self.config = statements, first, float("inf"), model.config
        self.undo = []
        for layer in model.model.layers:
            gate = getattr(layer.mlp, "gate", getattr(layer.mlp, "router", None))
            if isinstance(gate, torch.nn.Module) and hasattr(gate, "top_k"):
                self.undo.append(gate.register_forward_hook(self.hook))

    def scores(self, gate, logits):
        return logits.sigmoid() if self.config.model_type == "deepseek_v3" else logits.softmax(-1)

    def shares(self, gate, gates):
        """Gates of scores that are 0 where an expert is not chosen."""
        kind = self.config.model_type
        if kind in ("mixtral", "gpt_oss") or getattr(gate, "norm_topk_prob", False):
            gates = gates / (gates.sum(-1, keepdim=True) + (1e-20 if kind == "deepseek_v3" else 0))
        return gates * getattr(gate, "routed_scaling_factor", 1.0)

    def hook(self, gate, _, output):
        logits, k = output[0].float(), gate.top_k
        bias = gate.e_score_correction_bias if self.config.model_type == "deepseek_v3" else 0
        said = {(s[0], s[1]): s[2:] for s in self.statements}
        masked = [s[1] for s in self.statements if s[0] == "mask"]
        for s in self.statements:
            k = s[1] if s[0] == "top_k" else k
        changed = logits.clone()
        changed[:, masked] = float("-inf")
        scores = self.scores(gate, changed)
        choice = scores + bias
        choice[:, masked] = float("-inf")
        for (word, e), rest in said.items():
            if word == "bias":
                choice[:, e] += rest[0]
            if word == "force":
                choice[:, e] = 9.0
        choice = in_groups(gate, self.config, choice)
        self.note(choice, k)
        gates = torch.zeros_like(scores)
        chosen = first_largest(choice, k)
        # Where too few are left, fewer are chosen.
        there = choice.gather(1, chosen) > float("-inf")
        gates.scatter_(1, chosen, scores.gather(1, chosen) * there)
        for (word, e), rest in said.items():
            if word == "force" and rest[0] is not None:
                gates[:, e] = gates.max(-1).values if rest[0] == "max" else rest[0]
        gates = self.shares(gate, gates)
        whole = gates.sum(-1)
        dropped = [e for (word, e) in said if word == "drop"]
        if dropped:
            gates[:, dropped] = 0
            left = gates.sum(-1)
            gates *= torch.where(left > 0, whole / left, torch.zeros_like(left))[:, None]
        gates[:, [e for (word, e) in said if word == "mute"]] = 0
        # Every row hands on as many experts; those without a gate give nothing.
        plain = torch.zeros_like(scores)
        own = self.scores(gate, logits)
        choice = in_groups(gate, self.config, own + bias)
        self.note(choice, gate.top_k)
        top = first_largest(choice, gate.top_k)
        plain.scatter_(1, top, own.gather(1, top))
        plain = self.shares(gate, plain)
        rows = torch.arange(len(logits)) >= self.first
        gates = torch.where(rows[:, None], gates, plain)
        everyone = torch.arange(gates.shape[1]).expand_as(gates)
        return output[0], gates.to(output[1].dtype), everyone

    def note(self, choice, k):
        top = choice.sort(-1, descending=True).values
        if k < top.shape[1]:
            gap = top[:, k - 1] - top[:, k]
            # Experts outside of the best groups are equals; of these the first is taken.
            self.closest = min(self.closest, gap[gap != 0].nan_to_num(9.0).min().item() if (gap != 0).any() else 9.0)

    def remove(self):
        for hook in self.undo:
            hook.remove()


def run(model, tokens, statements, first):
    routes = Routes(model, statements, first)
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    routes.remove()
    return logits, routes.closest


def make(name):
    model = load(name)
    for attempt in range(200):
        generator = torch.Generator().manual_seed(7000 + 100 * CHECKPOINTS.index(name) + attempt)
        tokens = torch.randint(model.config.vocab_size, (12,), generator=generator).tolist()
        cases = [(s, 0 if i % 3 else 5) for i, s in enumerate(CASES)]
        results = [run(model, tokens, *case) for case in cases]
        if min(closest for _, closest in results) > MARGIN:
            break
    else:
        raise SystemExit(f"{name}: no seed with clear margins")
    plain = run(model, tokens, [], 99)[0]
    with torch.no_grad():
        torch.testing.assert_close(plain, model(torch.tensor([tokens]), use_cache=False).logits[0], rtol=1e-5, atol=1e-5)
    FOLDER.mkdir(exist_ok=True)
    tensors = {str(i): logits.contiguous() for i, (logits, _) in enumerate(results)} | {"plain": plain.contiguous()}
    save_file(tensors, FOLDER / f"{name}.safetensors")
    (FOLDER / f"{name}.safetensors").chmod(0o644)
    lines = [json.dumps({"from": first, "route": [text(s) for s in statements]}) for statements, first in cases]
    about = f'{{"tokens": {json.dumps(tokens)}, "cases": [\n  ' + ",\n  ".join(lines) + "\n]}\n"
    (FOLDER / f"{name}.json").write_text(about)
    moved = [(logits - plain).abs().max().item() for logits, _ in results]
    print(name, "moves the logits by", " ".join(f"{m:.3f}" for m in moved))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for checkpoint in CHECKPOINTS:
        make(checkpoint)
