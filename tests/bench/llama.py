"""Times new tokens and prompts: steer, llama.cpp and transformers, in turns, plain and with a control vector.

    cargo build --release --workspace
    CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_BLAS=OFF" pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36
    python tests/bench/llama.py [--shape qwen2.5-0.5b gpt2 ...] [--format f32 bf16 q8_0 q4_k] [--turns 5] [--new 16] [--prompt 512]

steer and llama.cpp read the same GGUF file, which `steer-bench write` makes of random weights; transformers, in float32 and bfloat16, a
folder with the same numbers. All with two threads. The control vector is of all layers but the first, as llama.cpp has it; transformers
adds it in a hook of PyTorch. What is printed are medians over the turns; new tokens are made in turns one by one, and the machine's limits
are measured in every turn, since its speed drifts. Before anything is timed the logits are compared.

Needs numpy and llama_cpp (0.3.36), and for transformers torch and transformers; `--only` leaves sides out.
"""

import argparse
import ctypes
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/steer-bench"
BEFORE = 16


def tokens(n):
    return [(i * 7919 + 13) % 30011 for i in range(n)]


class Steer:
    """The other process, which answers a line with a line."""

    def __init__(self, model, script="control.steer", hooks=("control",), activations="f32"):
        self.process = subprocess.Popen([PROGRAM, "serve", model, script, "--activations", activations, "--threads", str(THREADS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.ask("load", "plain")
        if hooks:
            self.ask("load", "control", *hooks)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if isinstance(answer, dict):
            raise SystemExit(answer["error"])
        return answer

    def start(self, kind, n):
        self.ask("start", kind, n)

    def next(self, kind):
        return self.ask("next", kind)

    def prompt(self, kind, n):
        return self.ask("prompt", kind, n)

    def logits(self, kind, n, m):
        return np.array(self.ask("logits", kind, n, m))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Side:
    """A side in this process: `see` takes tokens and gives the logits of the last one, `begin` forgets them."""

    def start(self, kind, n):
        self.begin(kind)
        self.see(tokens(n))
        self.at = {**getattr(self, "at", {}), kind: n}

    def prompt(self, kind, n):
        self.begin(kind)
        start = time.perf_counter()
        self.see(tokens(n))
        return time.perf_counter() - start

    def logits(self, kind, n, m):
        self.begin(kind)
        self.see(tokens(n))
        return [self.see([t]) for t in tokens(n + m)[n:]][-1]

    def next(self, kind):
        self.turn_to(kind)
        self.at[kind] += 1
        token = tokens(self.at[kind])[-1]
        start = time.perf_counter()
        self.see([token])
        return time.perf_counter() - start


class Llama(Side):
    """Of one model, a context without and one with the control vector."""

    def __init__(self, path, control=None, context=1024, exact=False, all_logits=False):
        import llama_cpp
        self.api = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise ValueError(f"llama.cpp does not load {path}")
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab = llama_cpp.llama_vocab_n_tokens(vocab)
        self.contexts = {}
        for kind in ["plain"] + (["control"] if control is not None else []):
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = context, 512, 512
            params.n_threads = params.n_threads_batch = THREADS
            if exact:
                # Keys and values as they are, and attention as it is written down.
                params.type_k = params.type_v = 0
                params.flash_attn_type = 0
            self.contexts[kind] = llama_cpp.llama_init_from_model(self.model, params)
            if not self.contexts[kind]:
                raise ValueError("llama.cpp makes no context")
        if control is not None:
            # It has no direction for the first block.
            layers, width = control.shape
            data = np.ascontiguousarray(control[1:], np.float32)
            pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            assert llama_cpp.llama_set_adapter_cvec(self.contexts["control"], pointer, data.size, width, 1, layers) == 0

    def turn_to(self, kind):
        self.context = self.contexts[kind]

    def begin(self, kind):
        self.turn_to(kind)
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def see(self, ids):
        ids = (self.api.llama_token * len(ids))(*ids)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(ids, len(ids))) != 0:
            raise ValueError("llama.cpp does not run it")
        return np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, -1), (self.vocab,)).copy()

    def close(self):
        for context in self.contexts.values():
            self.api.llama_free(context)
        self.api.llama_model_free(self.model)


class Transformers(Side):
    def __init__(self, folder, control, dtype):
        import torch
        from transformers import AutoModelForCausalLM
        self.torch = torch
        torch.set_num_threads(THREADS)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        base = self.model.base_model
        blocks = base.h if hasattr(base, "h") else base.layers
        self.on, self.caches = False, {}
        for block, direction in list(zip(blocks, torch.from_numpy(control).to(getattr(torch, dtype))))[1:]:
            def add(_, __, out, direction=direction):
                if self.on:
                    return (out[0] + direction, *out[1:]) if isinstance(out, tuple) else out + direction
            block.register_forward_hook(add)

    def turn_to(self, kind):
        self.kind, self.on = kind, kind == "control"

    def begin(self, kind):
        self.turn_to(kind)
        self.caches[kind] = {}

    def see(self, ids):
        with self.torch.no_grad():
            out = self.model(self.torch.tensor([ids]), use_cache=True, logits_to_keep=1, **self.caches[self.kind])
        name = next(n for n in ("cache", "cache_params", "past_key_values") if n in out)
        self.caches[self.kind] = {name: out[name]}
        return out.logits[0, -1].float().numpy()

    def close(self):
        del self.model


def tolerance(form, layers):
    """How far apart logits may be, as a part of their norm. Of each product llama.cpp rounds what it multiplies: to bfloat16, or to 8 bits
    in blocks of 32 (q8_0, q5_0) and 256 numbers (q4_K), whose largest is about 2.4 and 2.9 deviations. With float32 weights it is its cache
    that is rounded, to float16. Errors of some eight products a layer add up as independent ones do; three times that is allowed."""
    each = {"f32": 2 ** -11, "bf16": 2 ** -8, "q8_0": 2.4 / 127, "q4_k": 2.9 / 127}[form] / math.sqrt(12)
    return 3 * each * math.sqrt(8 * layers)


def apart(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def agree(sides, form, layers):
    ours = {kind: sides["steer"].logits(kind, BEFORE, 4) for kind in ("plain", "control")}
    moved = apart(ours["control"], ours["plain"])
    most = tolerance(form, layers)
    for name, side in sides.items():
        if name == "steer":
            continue
        far = {kind: apart(side.logits(kind, BEFORE, 4), ours[kind]) for kind in ours}
        allowed = max(most, tolerance("bf16", layers)) if name == "transformers" and form == "bf16" else most
        if name == "transformers" and form == "f32":
            # Nothing is rounded but the order of sums differs.
            allowed = 1e-4
        print(f"    logits of {name}: {far['plain']:.1e} from steer's, {far['control']:.1e} with the control vector, which moves them by "
              f"{moved:.2f}; allowed {allowed:.1e}")
        assert max(far.values()) < allowed, "they do not compute the same"
        assert max(far.values()) < moved / 3, "the control vector is not told from errors"


def written(shape, form, folder, layers, prompt, *options):
    layers = ["--layers", str(layers)] if layers else []
    out = subprocess.run([PROGRAM, "write", shape, form, folder, "--prompt", str(prompt), *layers, *options], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def measure(shape, form, args):
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        model = written(shape, form, folder, args.layers, args.prompt, "--gguf")
        control = np.load(folder / "control.npy")
        print(f"{model['name']}, {form}: {model['bytes'] / 1e6:.0f} MB a new token, {model['operations'] / 1e9:.0f} GFLOP a prompt of {args.prompt}")
        sides = {}
        if "steer" in args.only:
            sides["steer"] = Steer(model["path"], activations=args.activations)
        if "llama.cpp" in args.only:
            sides["llama.cpp"] = Llama(model["path"], control)
        if "transformers" in args.only and form in ("f32", "bf16"):
            path = written(shape, form, folder, args.layers, args.prompt)["path"]
            sides["transformers"] = Transformers(path, control, {"f32": "float32", "bf16": "bfloat16"}[form])
        agree(sides, form, len(control))
        pairs = [(name, kind) for name in sides for kind in ("plain", "control")]
        turns = {"new tokens": [], "prompt": []}
        for turn in range(args.turns + 1):
            times, reading = dict.fromkeys(pairs, 0.0), 0.0
            for name, kind in pairs:
                sides[name].start(kind, BEFORE)
            for step in range(args.new):
                reading += 1 / sides["steer"].ask("limits")[1]
                for at in range(len(pairs)):
                    name, kind = pairs[(turn + step + at) % len(pairs)]
                    # Threads of the side before may still look for work.
                    time.sleep(0.005)
                    times[name, kind] += sides[name].next(kind)
            turns["new tokens"].append((times, args.new / reading))
            times, peaks = {}, []
            for at in range(len(pairs) if args.prompt else 0):
                name, kind = pairs[(turn + at) % len(pairs)]
                peaks.append(sides["steer"].ask("limits")[0])
                times[name, kind] = sides[name].prompt(kind, args.prompt)
            if times:
                turns["prompt"].append((times, statistics.median(peaks)))
        for side in sides.values():
            side.close()
    for what, count, work in (("new tokens", args.new, model["bytes"] * args.new), ("prompt", args.prompt, model["operations"])):
        # The first turn warms up.
        show(what, count, work, pairs, turns[what][1:])


def show(what, count, work, pairs, turns):
    if not turns:
        return
    median = lambda f: statistics.median(f(times, limit) for times, limit in turns)
    limit = median(lambda _, limit: limit)
    print(f"  {what}, {count} a turn (the machine: {limit / 1e9:.1f} {'GB/s' if what == 'new tokens' else 'GFLOP/s'})")
    for name, kind in pairs:
        own = lambda times: times[name, kind]
        rate = median(lambda t, _: count / own(t))
        best = max(count / own(t) for t, _ in turns)
        share = median(lambda t, limit: work / limit / own(t))
        line = f"    {name + (', control' if kind == 'control' else ''):22} {rate:8.1f} tokens/s, at best {best:8.1f} {100 * share:5.0f}% of the machine"
        if name != "steer" and ("steer", kind) in pairs:
            line += f"   steer is {median(lambda t, _: own(t) / t['steer', kind]):5.2f} times as fast"
        elif kind == "control":
            line += f"   {median(lambda t, _: own(t) / t[name, 'plain']):5.2f} times plain's time"
        print(line, flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--shape", nargs="*", default=["qwen2.5-0.5b"])
    p.add_argument("--format", nargs="*", default=["f32", "bf16", "q8_0", "q4_k"])
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--new", type=int, default=16, help="tokens that are made one by one in a turn")
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--layers", type=int)
    p.add_argument("--activations", default="f32", help="what steer's products read of rows: f32, bf16, or q8_0 as llama.cpp's do")
    p.add_argument("--only", nargs="*", default=["steer", "llama.cpp", "transformers"])
    p.add_argument("--folder", help="where checkpoints are written; they are deleted after use")
    args = p.parse_args()
    for shape in args.shape:
        for form in args.format:
            measure(shape, form, args)


if __name__ == "__main__":
    main()
