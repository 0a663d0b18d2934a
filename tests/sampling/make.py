"""Writes what transformers makes of logits before a token is drawn: probabilities, by its own logits processors.

    python make.py

Needs torch and transformers (5.x), and takes seconds. expected.json has a list, each entry with

    logits, before          of the next token, and the tokens so far
    temperature, top_k, top_p, min_p, repetition_penalty
                            as `generate` has them; null where one is not given
    probabilities           of each token; 0 for one that is never drawn

greedy.json has a list of continuations of tests/models/tiny-llama: prompt, repetition_penalty, tokens.
"""

import json
from itertools import product
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

HERE = Path(__file__).parent
MODEL = HERE.parent / "models" / "tiny-llama"
VOCAB = 24

model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
random = torch.Generator().manual_seed(7)


def probabilities(logits, before, **options):
    """By the processors that `model.generate` itself would take, in its order."""
    given = {k: v for k, v in options.items() if v is not None}
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **given})
    config._eos_token_tensor = None
    ids = torch.tensor([before])
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=ids.shape[1])
    return torch.softmax(processors(ids, torch.tensor([logits])), dim=-1)[0].tolist()


def cases():
    for temperature, (top_k, top_p, min_p), penalty in product(
        [0.5, 1.0, 1.7],
        [(None, None, None), (5, None, None), (None, 0.7, None), (None, None, 0.1), (9, 0.8, 0.2), (12, 0.95, 0.02)],
        [None, 1.3, 0.8],
    ):
        logits = [round(x, 4) for x in (3 * torch.randn(VOCAB, generator=random)).tolist()]
        before = torch.randint(VOCAB, (9,), generator=random).tolist()
        options = dict(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
        yield dict(logits=logits, before=before, **options, probabilities=probabilities(logits, before, **options))


def greedy(prompt, penalty):
    ids = tokenizer(prompt, return_tensors="pt")
    config = GenerationConfig(
        do_sample=False, max_new_tokens=24, repetition_penalty=penalty, eos_token_id=None, pad_token_id=0
    )
    out = model.generate(**ids, generation_config=config)[0]
    return dict(prompt=prompt, repetition_penalty=penalty, tokens=out[ids["input_ids"].shape[1] :].tolist())


def write(name, entries):
    lines = ",\n".join(json.dumps(e) for e in entries)
    (HERE / name).write_text(f"[\n{lines}\n]\n")


write("expected.json", cases())
prompts = ["Tom went to the park.", "One day Ben was at the school."]
write("greedy.json", [greedy(p, x) for p in prompts for x in (1.0, 1.3, 2.5)])
