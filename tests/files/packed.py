"""Writes packed/: weights in few bits with scales beside them, and what transformers unpacks them to.

    python packed.py

`a` is of 8-bit floats, all of them that are numbers, in blocks of 16 by 16 that are cut off at the edges; `b` is of 4-bit floats,
all pairs, with exponents from the least to the largest that give numbers; `c` and `d` are of 8-bit floats with a scale a row and
one of all; `e` is of 8-bit floats without scales.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

FOLDER = Path(__file__).parent / "packed"
BLOCK = [16, 16]


def main():
    FOLDER.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(7)
    codes = torch.tensor([x for x in range(256) if x & 127 != 127], dtype=torch.uint8)
    a = codes.repeat(4)[:1000].reshape(2, 20, 25).view(torch.float8_e4m3fn)
    a_scale = torch.rand(2, 2, 2, generator=generator) + 0.01
    b = torch.arange(256, dtype=torch.uint8).reshape(2, 4, 2, 16)
    b_scale = torch.tensor([0, 1, 2, 20, 100, 126, 127, 128, 129, 140, 200, 230, 250, 251, 64, 90], dtype=torch.uint8).reshape(2, 4, 2)
    c = codes.reshape(2, 127).view(torch.float8_e4m3fn)
    c_scale = torch.tensor([[0.3], [7.0]], dtype=torch.bfloat16)
    d_scale = torch.tensor([0.7])
    tensors = {"a.weight": a, "a.weight_scale_inv": a_scale, "b_blocks": b, "b_scales": b_scale, "c.weight": c, "c.weight_scale": c_scale}
    tensors |= {"d.weight": c.clone(), "d.weight_scale": d_scale, "e": c.clone()}
    save_file(tensors, FOLDER / "model.safetensors", metadata={"format": "pt"})
    # transformers turns it to [expert, inputs, outputs]; here its elements stay where they are in the file.
    unpacked = convert_moe_packed_tensors(b, b_scale, dtype=torch.float32).transpose(1, 2).contiguous()
    expected = {"a.weight": _dequantize_fp8_weight(a, a_scale, BLOCK, torch.float32), "b_blocks": unpacked}
    expected |= {"c.weight": c.float() * c_scale.float(), "d.weight": c.float() * d_scale}
    save_file(expected, FOLDER / "expected.safetensors")
    config = {"architectures": ["None"], "quantization_config": {"quant_method": "fp8", "weight_block_size": BLOCK}}
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
