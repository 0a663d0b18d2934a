"""Writes files as other programs write them, and in expected.safetensors what is in them.

    python make.py

It needs PyTorch, safetensors and NumPy; GGUF is written here byte by byte, as llama.cpp and repeng lay it out.
"""

import json
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
torch.manual_seed(0)
EXPECTED = {}


def expect(name, tensor):
    EXPECTED[name] = tensor.detach().to(torch.float32).contiguous().clone()
    return tensor


def nested(name):
    """Views, types, parameters, dictionaries and lists in one another."""
    base = torch.randn(4, 6)
    own = lambda key, tensor: expect(f"{name}:{key}", tensor)
    return {
        "plain": own("plain", base),
        "turned": own("turned", base.t()),
        "part": own("part", base[1:3, ::2]),
        "half": own("half", torch.randn(5).half()),
        "brain": own("brain", torch.randn(2, 3).bfloat16()),
        "double": own("double", torch.randn(3, dtype=torch.float64)),
        "long": own("long", torch.arange(4)),
        "int": own("int", torch.arange(3, dtype=torch.int32)),
        "parameter": own("parameter", torch.nn.Parameter(torch.randn(2, 2))),
        "number": own("number", torch.tensor(2.5)),
        "inner": OrderedDict(vectors=[own("inner.vectors.0", torch.randn(3)), own("inner.vectors.1", torch.randn(3))], epochs=3),
        7: own("7", torch.randn(2)),
        "args": {"lr": 1e-3, "name": "x", "done": True, "none": None, "shape": torch.Size([1, 2]), "big": 1 << 70},
    }


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def gguf(path, metadata, tensors, version=3):
    """`metadata` has the bytes of kind and value; tensors are F32."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata:
        out += text(key) + value
    at = 0
    for name, tensor in tensors:
        out += text(name) + struct.pack("<I", tensor.dim()) + b"".join(struct.pack("<Q", d) for d in reversed(tensor.shape))
        out += struct.pack("<IQ", 0, at)
        at += -(-tensor.numel() * 4 // 32) * 32
    out += b"\0" * (-len(out) % 32)
    for _, tensor in tensors:
        data = tensor.numpy().astype("<f4").tobytes()
        out += data + b"\0" * (-len(data) % 32)
    path.write_bytes(out)


def directions(name, numbers, count, version=3, model="llama"):
    tensors = [(f"direction.{i}", torch.randn(128)) for i in numbers]
    for key, tensor in tensors:
        expect(f"{name}:{key}", tensor)
    kind = struct.pack("<I", 8)
    metadata = [("general.architecture", kind + text("controlvector")), ("controlvector.model_hint", kind + text(model)),
                ("controlvector.layer_count", count)]
    gguf(HERE / name, metadata, tensors, version)


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight


def main():
    torch.save(nested("nested.pt"), HERE / "nested.pt")
    torch.save(nested("legacy.pt"), HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(expect("one.pth:", torch.randn(128)), HERE / "one.pth")
    torch.save({"weights": torch.randn(2), "then": print}, HERE / "unsafe.pt")

    arrays = {"a": np.random.default_rng(0).normal(size=(3, 4)).astype("f4"), "b": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    np.savez(HERE / "plain.npz", **arrays)
    np.savez_compressed(HERE / "packed.npz", **arrays)
    for name in ["plain.npz", "packed.npz"]:
        for key, array in arrays.items():
            expect(f"{name}:{key}", torch.tensor(array))

    # repeng counts layers as u32; llama.cpp's generator as i32, and block l's direction is direction.{l + 1}.
    directions("repeng.gguf", [1, 2, 3], struct.pack("<II", 4, 3))
    directions("generator.gguf", [1, 2, 3], struct.pack("<Ii", 5, 3), version=2)
    directions("with_zero.gguf", [0, 2], struct.pack("<II", 4, 2))
    directions("another.gguf", [1, 9], struct.pack("<II", 4, 2), model="gemma")

    for folder, shards in [("whole", 1), ("shards", 2)]:
        at = HERE / folder
        at.mkdir(exist_ok=True)
        (at / "config.json").write_text('{"architectures": ["Plain"]}\n')
        state = Plain().state_dict()
        for key, tensor in state.items():
            expect(f"{folder}:{key}", tensor)
        if shards == 1:
            torch.save(state, at / "pytorch_model.bin")
            continue
        names, index = list(state), {}
        for i, part in enumerate([names[:2], names[2:]]):
            file = f"pytorch_model-{i + 1:05}-of-00002.bin"
            torch.save(OrderedDict((n, state[n].clone()) for n in part), at / file)
            index.update({n: file for n in part})
        (at / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, indent=1) + "\n")
    directions("shallow.gguf", [1, 2], struct.pack("<II", 4, 2), model="gemma")
    save_file(EXPECTED, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
