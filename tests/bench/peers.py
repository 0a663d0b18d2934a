"""Times sweeps of activation patching: steer, TransformerLens and plain hooks on transformers, in turn.

    cargo build --release --workspace
    python tests/bench/peers.py [--turns 3] [--what resid heads harvest]

Needs torch, transformers and transformer_lens. Everything is GPT-2-small's shape with random weights, float32, two threads.
`resid` patches the residual stream at every layer and position of a pair of 15 tokens that differs at the first; `heads` each head
at some positions of 4 pairs of 128 tokens, 2,304 cells, under `--memory 2GiB`; `harvest` writes resid.post of layer 6 of 20,000 tokens.
Each side is timed without loading; the share of the machine's limit is that of the operations that steer reports, against
fused multiply-adds between registers, measured in the same run.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

ROOT = Path(__file__).resolve().parents[2]
STEER = ROOT / "target" / "release" / "steer"
WORDS = "and John went to the shop and the friend of John gave a drink to".split()


def checkpoint(folder):
    """Random weights of GPT-2-small's shape, with a tokenizer of one token a word and no token in front."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    model.save_pretrained(folder)
    tokenizer = json.loads((ROOT / "tests/models/tiny-gpt2/tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((ROOT / "tests/models/tiny-gpt2/tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if "add_bos" not in k}))
    return model


def hooked(model):
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    c = model.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head, n_heads=c.n_head, d_mlp=4 * c.n_embd,
        d_vocab=c.vocab_size, act_fn="gelu_new", eps=c.layer_norm_epsilon, normalization_type="LN", device="cpu")
    out = HookedTransformer(cfg)
    out.load_and_process_state_dict(convert_gpt2_weights(model, cfg), fold_ln=False, center_writing_weights=False,
                                    center_unembed=False, fold_value_biases=False)
    return out.eval()


def build_limits():
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "steer-kernels", "--example", "limits"], cwd=ROOT, check=True)


def peak():
    """GFLOP/s of the machine now: a second of fused multiply-adds between registers, by the kernels' own program."""
    out = subprocess.run([ROOT / "target/release/examples/limits", "peak", str(THREADS)], capture_output=True, text=True, check=True).stdout
    return float(out)


def between(work):
    """What work gives, and the machine's peak around it: the machine's own speed drifts."""
    before = peak()
    out = work()
    return out, (before + peak()) / 2


def steer(folder, text, *options):
    """(seconds without loading, of the whole process, report)."""
    script, report = folder / "bench.steer", folder / "report.json"
    script.write_text(text)
    start = time.time()
    subprocess.run([STEER, "run", script, "--json", report, "--threads", str(THREADS), *options], check=True, capture_output=True)
    whole = time.time() - start
    result = json.loads(report.read_text())
    seconds = result["timings"]["seconds"]
    return seconds["plan"] + seconds["compile"] + seconds["prompts"], whole, result


def metric_of(tokenizer):
    a, b = (tokenizer(" " + w)["input_ids"][0] for w in ("Mary", "Anna"))
    return lambda logits: logits[0, -1, a] - logits[0, -1, b]


HEAD = """model "MODEL"
prompt clean = "CLEAN"
prompt corrupt = "CORRUPT"
metric ld = logit(" Mary") - logit(" Anna")
"""


def pair(length, clean="Mary", corrupt="Anna"):
    words = (WORDS * (length // len(WORDS) + 1))[:length - 1]
    return f" {clean} " + " ".join(words), f" {corrupt} " + " ".join(words)


def head(length):
    clean, corrupt = pair(length)
    return HEAD.replace("MODEL", "model").replace("CLEAN", clean).replace("CORRUPT", corrupt)


def plain_resid(model, clean, corrupt, metric):
    states = model(clean, output_hidden_states=True).hidden_states
    out = torch.zeros(model.config.n_layer, clean.shape[1])
    for layer, block in enumerate(model.transformer.h):
        for position in range(clean.shape[1]):
            def patch(_, args):
                h = args[0].clone()
                h[:, position] = states[layer][:, position]
                return (h, *args[1:])
            hook = block.register_forward_pre_hook(patch)
            out[layer, position] = metric(model(corrupt, use_cache=False).logits)
            hook.remove()
    return out


def show(name, seconds, best, note=""):
    print(f"    {name:32} {seconds:8.2f} s   {seconds / best:6.1f} times steer's{note}")


def resid(folder, model, lens, turns):
    from transformer_lens import patching
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    clean, corrupt = (torch.tensor([tokenizer(t)["input_ids"]]) for t in pair(15))
    assert clean.shape[1] == 15, clean.shape
    metric = metric_of(tokenizer)
    text = head(15) + ("sweep resid over b in blocks, t in tokens(corrupt) {\n    patch b.resid.pre on t from clean\n"
                       "    measure ld on corrupt\n}\n")
    times = {"steer": [], "steer, whole process": [], "TransformerLens": [], "plain hooks": []}
    limits = []
    for _ in range(turns):
        (ours, whole, report), around = between(lambda: steer(folder, text))
        limits.append(around)
        times["steer"].append(ours)
        times["steer, whole process"].append(whole)
        with torch.no_grad():
            start = time.time()
            _, cache = lens.run_with_cache(clean)
            theirs = patching.get_act_patch_resid_pre(lens, corrupt, cache, metric)
            times["TransformerLens"].append(time.time() - start)
            start = time.time()
            plain = plain_resid(model, clean, corrupt, metric)
            times["plain hooks"].append(time.time() - start)
    mine = torch.tensor(report["outputs"][0]["columns"][0]["values"]).reshape(theirs.shape)
    print(f"residual stream, {theirs.numel()} cells; largest difference {(mine - theirs).abs().max():.1e}, {(mine - plain).abs().max():.1e}")
    best = sorted(times["steer"])[turns // 2]
    for name, t in times.items():
        show(name, sorted(t)[turns // 2], best)
    work = report["timings"]["work"]
    limit = sorted(limits)[turns // 2]
    print(f"    {work['operations'] / 1e9:.0f} of {work['operations_naive'] / 1e9:.0f} GFLOP, {work['operations'] / 1e9 / best:.0f} GFLOP/s, "
          f"{100 * work['operations'] / 1e9 / best / limit:.0f}% of the machine's {limit:.0f}")


def heads(folder, model, lens, turns):
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    metric = metric_of(tokenizer)
    pairs = [pair(128, *names) for names in (("Mary", "Anna"), ("Tom", "Ben"), ("Lily", "Clara"), ("John", "Tom"))]
    tokens = [[torch.tensor([tokenizer(t)["input_ids"]]) for t in p] for p in pairs]
    assert all(t.shape[1] == 128 for p in tokens for t in p)
    (folder / "pairs.jsonl").write_text("".join(json.dumps({"clean": a, "corrupt": b}) + "\n" for a, b in pairs))
    # 4 positions of each of 144 heads of 4 pairs: 2,304 cells.
    places = [0, 40, 80, 120]
    text = ('model "model"\ndata pairs = jsonl("pairs.jsonl")\nmetric ld = logit(" Mary") - logit(" Anna")\n'
            f"sweep heads over p in pairs, b in blocks, i in head, t in {places} {{\n"
            "    hook b.attn.z on t from p.clean {\n        h[head = i] = donor[head = i]\n    }\n    measure ld on p.corrupt\n}\n")
    (seconds, whole, report), limit = between(lambda: steer(folder, text, "--memory", "2GiB"))
    mine = torch.tensor(report["outputs"][0]["columns"][0]["values"]).reshape(4, 12, 12, len(places))
    sample = [(n, l, h, p) for n in range(4) for l in (0, 5, 10) for h in (1, 7) for p in ((n + l) % 4,)]
    with torch.no_grad():
        caches = [lens.run_with_cache(clean)[1] for clean, _ in tokens]
        start, worst = time.time(), 0.0
        for n, l, h, p in sample:
            def patch(z, hook):
                z[:, places[p], h] = caches[n][hook.name][:, places[p], h]
                return z
            out = metric(lens.run_with_hooks(tokens[n][1], fwd_hooks=[(f"blocks.{l}.attn.hook_z", patch)]))
            worst = max(worst, abs(out.item() - mine[n, l, h, p].item()))
        theirs = (time.time() - start) * mine.numel() / len(sample)
    print(f"heads by position, 4 pairs, {mine.numel()} cells of 128 tokens; largest difference {worst:.1e}")
    show("steer", seconds, seconds)
    show("steer, whole process", whole, seconds)
    show("TransformerLens", theirs, seconds, f" (from {len(sample)} cells)")
    work = report["timings"]["work"]
    print(f"    {work['operations'] / 1e12:.2f} of {work['operations_naive'] / 1e12:.2f} TFLOP, "
          f"{100 * work['operations'] / 1e9 / seconds / limit:.0f}% of the machine's {limit:.0f} GFLOP/s")


def harvest(folder, model, lens, turns):
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    length, texts = 128, 156
    words = " ".join((WORDS * 10)[:length - 2])
    names = [w for w in json.loads((folder / "model/tokenizer.json").read_text())["model"]["vocab"] if re.fullmatch("Ġ[A-Za-z]+", w)][:texts * 2]
    lines = [f" {names[2 * i][1:]} {names[2 * i + 1][1:]} {words}" for i in range(texts)]
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    text = ('model "model"\ndata texts = lines("texts.txt")\ncapture blocks[6].resid.post of texts to "out.safetensors"\n')
    (seconds, whole, report), limit = between(lambda: steer(folder, text))
    ids = torch.tensor([tokenizer(t)["input_ids"] for t in lines])

    class Enough(Exception):
        pass
    kept = []

    def keep(_, __, out):
        kept.append((out[0] if isinstance(out, tuple) else out).clone())
        raise Enough
    hook = model.transformer.h[6].register_forward_hook(keep)
    with torch.no_grad():
        start = time.time()
        for i in range(0, texts, 8):
            try:
                model(ids[i:i + 8], use_cache=False)
            except Enough:
                pass
        from safetensors.torch import save_file
        save_file({"resid": torch.cat(kept)}, folder / "theirs.safetensors")
        theirs = time.time() - start
    hook.remove()
    work = report["timings"]["work"]
    print(f"harvest, {ids.numel()} tokens")
    total = report["timings"]["seconds"]["total"] - report["timings"]["seconds"]["load"]
    show("steer, written to disk", total, total)
    show("plain hooks with an early stop", theirs, total)
    # The same products on as many rows, by the same kernels and nothing around them.
    alone = float(subprocess.run([ROOT / "target/release/examples/limits", "products", str(ids.numel()), "7"], capture_output=True,
                                 text=True, check=True).stdout)
    print(f"    products alone {alone:.2f} s: {100 * alone / total:.0f}% of their speed")
    print(f"    {work['operations'] / 1e12:.2f} TFLOP, {100 * work['operations'] / 1e9 / total / limit:.0f}% of the machine's {limit:.0f} GFLOP/s")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--what", nargs="*", default=["resid", "heads", "harvest"])
    args = p.parse_args()
    torch.set_num_threads(THREADS)
    build_limits()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "model").mkdir()
        model = checkpoint(folder / "model")
        lens = hooked(model) if {"resid", "heads"} & set(args.what) else None
        for what in args.what:
            {"resid": resid, "heads": heads, "harvest": harvest}[what](folder, model, lens, args.turns)


if __name__ == "__main__":
    main()
