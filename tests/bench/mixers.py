"""Times state space models and mixtures of experts: steer with and without hooks, and transformers, in turns.

    cargo build --release --workspace
    python tests/bench/mixers.py [--turns 5] [--what mamba mamba2 mixture] [--layers N] [--new N]

Needs torch and transformers. Random weights, float32, two threads; each side reads the same file, and loading is left out. `mamba` has
the shape of Mamba-130m (24 layers of 768), `mamba2` the same widths in heads of 64 with states of 128; transformers takes its sequential
paths, since its kernels need a GPU. `mixture` is OLMoE with layers of 1024 and 64 experts of 512 neurons, of which 8 are chosen. What is
printed are medians over the turns; the machine's limits are measured in every turn, since its speed drifts.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM, OlmoeConfig, OlmoeForCausalLM

ROOT = Path(__file__).resolve().parents[2]


class Steer:
    """The other process, which answers a line with a line."""

    def __init__(self, folder, script, program):
        self.process = subprocess.Popen([program, "serve", folder, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "RAYON_NUM_THREADS": str(THREADS)})

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if isinstance(answer, dict):
            raise SystemExit(answer["error"])
        return answer


def tokens(n):
    return torch.tensor([[(i * 7919 + 13) % 30011 for i in range(n)]])


class Peer:
    def __init__(self, model):
        self.model = model.eval()

    def decode(self, before, count):
        """Seconds, and the last logits."""
        ids = tokens(before + count)
        with torch.no_grad():
            out = self.model(ids[:, :before], use_cache=True)
            name = next(n for n in ("cache", "cache_params", "past_key_values") if n in out)
            start = time.perf_counter()
            for i in range(before, before + count):
                out = self.model(ids[:, i:i + 1], use_cache=True, **{name: out[name]})
            return time.perf_counter() - start, out.logits[0, -1]

    def prompt(self, n):
        ids = tokens(n)
        start = time.perf_counter()
        with torch.no_grad():
            self.model(ids, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start


def state_space_bytes(c):
    """What a new token has to read, and the operations of a row but for the unembedding."""
    inner = c.intermediate_size if hasattr(c, "intermediate_size") else c.expand * c.hidden_size
    if c.model_type == "mamba":
        layer = 3 * inner * c.hidden_size + inner * (c.time_step_rank + 2 * c.state_size) + c.time_step_rank * inner
    else:
        layer = c.hidden_size * (2 * inner + 2 * c.n_groups * c.state_size + c.num_heads) + inner * c.hidden_size
    return 4.0 * (c.num_hidden_layers * layer + c.vocab_size * c.hidden_size), 2.0 * c.num_hidden_layers * layer


def mixture_bytes(c):
    expert = 3 * c.hidden_size * c.intermediate_size
    layer = 4 * c.hidden_size ** 2 + c.num_experts * c.hidden_size + c.num_experts_per_tok * expert
    return 4.0 * (c.num_hidden_layers * layer + c.vocab_size * c.hidden_size), 2.0 * c.num_hidden_layers * layer


def models(what, layers):
    torch.manual_seed(0)
    if what == "mamba":
        config = MambaConfig(hidden_size=768, state_size=16, conv_kernel=4, vocab_size=50280, num_hidden_layers=layers or 24)
        return MambaForCausalLM(config), "mamba.steer", [[], ["y"], ["state"]], state_space_bytes(config)
    if what == "mamba2":
        config = Mamba2Config(hidden_size=768, state_size=128, conv_kernel=4, vocab_size=50288, num_hidden_layers=layers or 24, head_dim=64,
                              num_heads=24, n_groups=1, expand=2)
        return Mamba2ForCausalLM(config), "mamba.steer", [[], ["y"], ["state"]], state_space_bytes(config)
    config = OlmoeConfig(hidden_size=1024, intermediate_size=512, num_hidden_layers=layers or 8, num_attention_heads=16, num_key_value_heads=16,
                         num_experts=64, num_experts_per_tok=8, vocab_size=32000)
    return OlmoeForCausalLM(config), "mixture.steer", [[], ["router"], ["act"]], mixture_bytes(config)


def measure(what, turns, layers, program, peer_too, new):
    with tempfile.TemporaryDirectory() as folder:
        model, script, hooks, (read, operations) = models(what, layers)
        model.save_pretrained(folder)
        peer = Peer(model) if peer_too else None
        ours = Steer(folder, script, program)
        names = ["+".join(h) or "plain" for h in hooks]
        print(f"{what}: {read / 1e6:.0f} MB a new token")
        for name, hook in zip(names, hooks):
            print(f"    loading {name:30} {ours.ask('load', name, *hook):8.2f} s")
        if peer:
            theirs = peer.decode(16, 4)[1]
            mine = torch.tensor(ours.ask("logits", "plain", 16, 4))
            apart, most = (mine - theirs).abs().max(), theirs.abs().max()
            print(f"    logits are at most {apart:.1e} apart, of {most:.1f}")
            # Of layers of random weights each makes the difference of two orders of summation larger.
            assert apart < 1e-2 * most, "they do not compute the same"
        for kind, count in (("prompt", 512), ("decode", new)):
            times = {name: [] for name in (["transformers"] if peer else []) + names}
            limits = []
            for turn in range(turns + 1):
                limits.append(ours.ask("limits"))
                for name in times:
                    if name == "transformers":
                        seconds = peer.prompt(count) if kind == "prompt" else peer.decode(16, count)[0]
                    else:
                        seconds = ours.ask(kind, name, count) if kind == "prompt" else ours.ask(kind, name, 16, count)
                    times[name].append(seconds)
            # The first turn warms up.
            limits, times = limits[1:], {name: t[1:] for name, t in times.items()}
            median = statistics.median
            peak, bandwidth = (median(l[i] for l in limits) for i in (0, 1))
            print(f"{what}, {count} tokens, {kind} (the machine: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s)")
            for name, t in times.items():
                against = median(a / b for a, b in zip(t, times["plain"]))
                least = [operations * count / l[0] if kind == "prompt" else read * count / l[1] for l in limits]
                share = 100 * median(a / b for a, b in zip(least, t))
                print(f"    {name:20} {count / median(t):8.1f} tokens/s, at best {count / min(t):8.1f}   {against:6.2f} times plain   "
                      f"{share:4.0f}% of the machine")
        ours.process.stdin.close()
        ours.process.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--what", nargs="*", default=["mamba", "mamba2", "mixture"])
    p.add_argument("--layers", type=int)
    p.add_argument("--new", type=int, default=32, help="tokens that are made one by one")
    p.add_argument("--program", default=ROOT / "target/release/steer-bench")
    p.add_argument("--alone", action="store_true", help="without transformers")
    args = p.parse_args()
    torch.set_num_threads(THREADS)
    for what in args.what:
        measure(what, args.turns, args.layers, args.program, not args.alone, args.new)


if __name__ == "__main__":
    main()
