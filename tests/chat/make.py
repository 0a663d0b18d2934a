"""Writes what transformers makes of conversations: their texts, tokens and masks by the templates of this folder.

    python make.py

Needs transformers (5.x) and jinja2, and takes seconds. `bytes` and `pieces` are small tokenizers, of the two kinds that models have.
expected.json has a list, each entry with

    tokenizer, template     the folder and the file
    messages                pairs of a role and a text
    ending                  "prompt": with what begins the assistant's turn; "closed": without; "go on": cut off behind the last words
    text, tokens            what comes of it; or
    refused                 the message of the template's exception
    assistant               where the template marks the assistant's words: the tokens that have a part of them
"""

import json
from pathlib import Path

import jinja2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = ["<|begin|>", "<|end|>", "<|head|>", "<|/head|>", "<|turn|>"]

SYSTEM = ("system", "Answer in one word.")
ASK, REPLY = ("user", "Where is the sea?"), ("assistant", "West of here.")
CONVERSATIONS = [
    [ASK],
    [SYSTEM, ASK],
    [ASK, REPLY],
    [SYSTEM, ASK, REPLY, ("user", "And the hill, Zoë?")],
    [SYSTEM, ASK, REPLY, ("user", "And the hill?"), ("assistant", "East, \u4f60\u597d \U0001f642")],
    # Spaces around the words.
    [("system", " \n Be brief.\n"), ("user", "  What grows there? "), ("assistant", "\nGrass \n")],
    [("user", "What grows there?"), ("assistant", "Grass, ")],
    # The same words twice, and words that templates write themselves.
    [("user", "Yes"), ("assistant", "Yes"), ("user", "Yes")],
    [("system", "system"), ("user", "user"), ("assistant", "assistant"), ("user", "head <|turn|> begin")],
    # Nothing at all, and nothing but spaces.
    [("user", ""), ("assistant", "I hear nothing."), ("user", " ")],
    # Of the first answer some templates keep the end alone.
    [ASK, ("assistant", "<think>\nThe sea.\n</think>\n\nWest."), ("user", "Sure?"), ("assistant", "<think>\nYes.\n</think>\n\nSure.")],
    # Roles that not every template knows, and an order that not every one takes.
    [ASK, ("tool", 'a "map" <1>')],
    [ASK, ASK],
    [ASK, SYSTEM],
]


def lines():
    texts = [t for c in CONVERSATIONS for _, t in c] + [(HERE / f"{n}.jinja").read_text() for n in TEMPLATES]
    return [line for t in texts for line in t.splitlines()] * 3


def byte_tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    # A beginning before every text, which a conversation must not get once more.
    bpe.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", bpe.token_to_id("<|begin|>"))])
    return bpe


def piece_tokenizer():
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bpe.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    # Pieces of several words would be learned from whole lines, so it learns from words.
    words = [w for line in lines() for w in line.split(" ")]
    bpe.train_from_iterator(words, trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<unk>"] + SPECIAL + [f"<0x{b:02X}>" for b in range(256)], limit_alphabet=40, show_progress=False))
    saved = json.loads(bpe.to_str())
    # Bytes are tokens of the vocabulary, not words of their own in a text.
    saved["added_tokens"] = [t for t in saved["added_tokens"] if not t["content"].startswith("<0x")]
    bpe = Tokenizer.from_str(json.dumps(saved))
    bpe.add_tokens([AddedToken("[INST]", normalized=False), AddedToken("[/INST]", normalized=False)])
    return bpe


TEMPLATES = ["headers", "turns", "brackets", "thoughts"]


def case(tok, template, messages, ending):
    chat = [{"role": r, "content": t} for r, t in messages]
    options = {"prompt": {"add_generation_prompt": True}, "closed": {}, "go on": {"continue_final_message": True}}[ending]
    out = {"template": template, "messages": messages, "ending": ending}
    tok.chat_template = (HERE / f"{template}.jinja").read_text()
    try:
        out["text"] = tok.apply_chat_template(chat, tokenize=False, **options)
    except jinja2.exceptions.TemplateError as e:
        return {**out, "refused": str(e)}
    marked = "generation %}" in tok.chat_template and ending != "go on"
    got = tok.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=marked, **options)
    out["tokens"] = got["input_ids"]
    if marked:
        out["assistant"] = [i for i, m in enumerate(got["assistant_masks"]) if m]
    return out


def main():
    out = []
    for name, make in (("bytes", byte_tokenizer), ("pieces", piece_tokenizer)):
        tok = PreTrainedTokenizerFast(tokenizer_object=make(), bos_token="<|begin|>", eos_token="<|end|>", clean_up_tokenization_spaces=False)
        tok.save_pretrained(HERE / name)
        for f in (HERE / name).iterdir():
            f.chmod(0o644)
        for template in TEMPLATES:
            for messages in CONVERSATIONS:
                endings = ["closed", "go on"] if messages[-1][0] == "assistant" else ["prompt", "closed"]
                out += [{"tokenizer": name, **case(tok, template, messages, e)} for e in endings]
    text = ",\n".join(" " + json.dumps(x, ensure_ascii=False) for x in out)
    (HERE / "expected.json").write_text(f"[\n{text}\n]\n")
    print(len(out), "cases,", sum("refused" in x for x in out), "refused")


if __name__ == "__main__":
    main()
