"""Compares llama.cpp's logits of the fixtures with those beside them, which are transformers'.

    python tests/gguf/llama.py [NAME...]

It needs what make.py needs but torch, and llama_cpp (llama-cpp-python 0.3.36). steer's own logits are compared with the same files by the tests,
so that all three agree. llama.cpp wants to be told of a vocabulary: it reads copies that say they have none. It does not load olmoe-clip, since
its OLMoE knows no grouped heads.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).parent
# llama.cpp looks GELU up in a table of float16.
GELU = ("gemma", "gpt2", "neox")
# tests/bench has a file of this name, too.
SPEC = importlib.util.spec_from_file_location("bench", HERE.parent / "bench/llama.py")
BENCH = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(BENCH)


def without_vocabulary(path, to):
    """A copy that says that it has no vocabulary."""
    reader = gguf.GGUFReader(path)
    family = reader.fields["general.architecture"].contents()
    w = gguf.GGUFWriter(to, family)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = field.types[0]
        w.add_key_value(key, field.contents(), kind, sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    w.add_tokenizer_model("no_vocab")
    # It takes the factors for long texts wherever a context is longer than the training's, and none is shorter than 256.
    short = {"rope_factors_long.weight": "rope_factors_short.weight"}
    tensors = {t.name: t for t in reader.tensors}
    for t in reader.tensors:
        w.add_tensor(t.name, tensors[short.get(t.name, t.name)].data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    names = sys.argv[1:] or sorted(p.stem for p in HERE.glob("*.gguf") if p.with_suffix(".safetensors").exists() and p.stem != "blocks")
    worst = 0
    for name in names:
        expected = load_file(HERE / f"{name}.safetensors")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            without_vocabulary(HERE / f"{name}.gguf", path)
            try:
                model = BENCH.Llama(path, context=256, exact=True)
            except ValueError as e:
                print(f"{name:20} not loaded: {e}")
                continue
            model.begin("plain")
            far = []
            for token, row in zip(expected["tokens"], expected["logits"]):
                try:
                    logits = model.see([int(token)])
                except ValueError as e:
                    print(f"{name:20} {e}")
                    break
                far.append(np.abs(logits - row).max() / np.abs(expected["logits"]).max())
            model.close()
        if far:
            # Sums of float32 in another order, or products of numbers in 8 bits.
            allowed = 0.05 if name == "quantized" else 1e-3 if name.startswith(GELU) else 1e-5
            print(f"{name:20} {max(far):.1e} apart{'' if max(far) < allowed else '   <-- too far: ' + ' '.join(f'{x:.0e}' for x in far)}")
            worst += int(max(far) >= allowed)
    sys.exit(min(worst, 1))


if __name__ == "__main__":
    main()
