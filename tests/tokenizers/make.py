"""Writes folders of tokenizers without tokenizer.json, as models of the hub have them, and what transformers makes of texts there.

    python make.py

Needs transformers (5.x), tokenizers and sentencepiece, and takes seconds. expected.json has a list for each folder: pairs of a text
and its tokens, and last the text that transformers decodes all tokens to.

| folder | files | what it covers |
|---|---|---|
| opt | vocab.json, merges.txt | a beginning before each text, special tokens as objects beside the configuration |
| gpt2 | the same | a folder that names no class, with added_tokens.json |
| roberta | the same | tokens around each text, a mask that takes the space before it |
| qwen2 | the same | another way to split texts, added_tokens_decoder |
| bert, bert-cased | vocab.txt | lowered texts without accents, and texts as they are |
| llama | tokenizer.model | merges, bytes, a padding token behind the vocabulary, a space before the first part alone (as Llama 2) |
| mistral | the same | the same model with a space before every part |
| gemma | the same | no space before texts, pieces that are never parts of others |
| xlm-roberta | sentencepiece.bpe.model | the most probable pieces, a table of characters, other numbers than in the file |
"""

import json
import shutil
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "Once upon a time, there was a big dog.",
    " Once upon a time",
    "   three spaces before",
    "two  spaces, three   and    four",
    "behind   ",
    "\ttabs\tand\n\nlines\r\nof two kinds\n",
    "It's we're they'll I'd don't CAN'T",
    "numbers 1 12 123 1234 12345 3.14 1,000",
    "\u00e9t\u00e9 na\u00efve Zo\u00eb \u00dcber",
    "e\u0301te\u0301 (two code points)",
    "\u65e5\u672c\u8a9e and \u4f60\u597d, mixed\u4f60with\u597dwords",
    "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u26a0\ufe0f",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u00a0no-break\u3000wide\u2028line",
    "\u200bzero width\u200d\ufeff",
    "\u2581already \u2581there",
    "<s> </s> <unk> <pad> <mask>",
    "a <mask> b<mask>c <mask>",
    "[CLS] [SEP] [MASK] [UNK] [PAD] [mask]",
    "<|endoftext|> x<|endoftext|>y",
    "<|im_start|>user\nHi<|im_end|>",
    "<start_of_turn>user\n\n\nHi<end_of_turn>",
    "</s>x </s> x",
    "<s>[INST] Why? [/INST] Because.</s>",
    "<0x0A> is no byte",
    "UPPER lower MiXeD",
    "hyphen-ated under_scored, \"quoted\" (bracketed) {braced} $5 50% a/b\\c",
    "unknownword" * 12,
    "\u2160\u2161 \ufb01ne \uff21\uff22 \u00bd \u2122",
    "x" * 70,
    "<tool>call</tool> <tool> call",
    "\x00\x07control\x7f",
]
LINES = [
    "Once upon a time, there was a big dog. It was the best day of all, and they laughed.",
    "Lily was so happy that she sang. Ben was so sad that he cried and wept for two days.",
    "It's late, we're tired, they'll sleep, I'd stay, and you don't know what they said.",
    "He gave a drink to Mary; she took it, and the numbers 1 2 3 12 123 were on the wall.",
    "\u00e9t\u00e9 na\u00efve Zo\u00eb \u00dcber, \u65e5\u672c\u8a9e \u4f60\u597d user assistant call Why? Because.",
] * 40


def write(folder, name, value):
    path = HERE / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def byte_level(folder, first, normal=None, split=None):
    """vocab.json and merges.txt, whose first tokens are these."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normal
    bpe.pre_tokenizer = split or pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(LINES, trainers.BpeTrainer(
        vocab_size=400, special_tokens=first, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(bpe.to_str())["model"]
    write(folder, "vocab.json", json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    write(folder, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")


def special(text, **more):
    return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **more}


def opt():
    byte_level("opt", ["<s>", "<pad>", "</s>", "<unk>"])
    write("opt", "config.json", {"architectures": ["OPTForCausalLM"], "model_type": "opt", "bos_token_id": 2, "eos_token_id": 2})
    write("opt", "tokenizer_config.json", {
        "errors": "replace", "add_prefix_space": False, "add_bos_token": True, "tokenizer_class": "GPT2Tokenizer", "special_tokens_map_file": None,
        "bos_token": {"__type": "AddedToken", **special("</s>")}, "eos_token": {"__type": "AddedToken", **special("</s>")},
        "unk_token": {"__type": "AddedToken", **special("</s>")}, "pad_token": {"__type": "AddedToken", **special("<pad>")}})
    write("opt", "special_tokens_map.json", {"bos_token": special("</s>"), "eos_token": special("</s>"), "unk_token": special("</s>"), "pad_token": special("<pad>")})


def gpt2():
    byte_level("gpt2", ["<|endoftext|>"])
    write("gpt2", "config.json", {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})
    size = len(json.loads((HERE / "gpt2" / "vocab.json").read_text()))
    write("gpt2", "added_tokens.json", {"<tool>": size, "</tool>": size + 1})


def roberta():
    byte_level("roberta", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    # Whole enough for a check.
    write("roberta", "config.json", {
        "architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu"})
    write("roberta", "tokenizer_config.json", {"add_prefix_space": True, "model_max_length": 512})
    write("roberta", "special_tokens_map.json", {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>",
        "mask_token": special("<mask>", lstrip=True, normalized=False)})


def qwen2():
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
    from tokenizers import Regex
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level("qwen2", [], normalizers.NFC(), split)
    size = len(json.loads((HERE / "qwen2" / "vocab.json").read_text()))
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    write("qwen2", "config.json", {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})
    write("qwen2", "tokenizer_config.json", {
        "add_prefix_space": False, "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
        "additional_special_tokens": names[1:],
        "added_tokens_decoder": {str(size + i): special(n, normalized=False, special=True) for i, n in enumerate(names)}})


def bert(folder, lower):
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=lower)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=260, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    vocab = words.get_vocab()
    write(folder, "vocab.txt", "\n".join(sorted(vocab, key=vocab.get)) + "\n")
    write(folder, "config.json", {"architectures": ["BertForMaskedLM"], "model_type": "bert"})
    if not lower:
        write(folder, "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512, "tokenize_chinese_chars": False})


def pieces(folder, name, **options):
    corpus = HERE / "corpus.txt"
    corpus.write_text("\n".join(LINES), encoding="utf-8")
    (HERE / folder).mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(HERE / folder / "made"), character_coverage=0.99, minloglevel=2, num_threads=1, **options)
    corpus.unlink()
    (HERE / folder / "made.vocab").unlink()
    (HERE / folder / "made.model").rename(HERE / folder / name)


def llama():
    pieces("llama", "tokenizer.model", vocab_size=480, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
           remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True)
    write("llama", "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    write("llama", "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "legacy": False, "tokenizer_class": "LlamaTokenizer",
        "bos_token": {"__type": "AddedToken", **special("<s>")}, "eos_token": {"__type": "AddedToken", **special("</s>")},
        "unk_token": {"__type": "AddedToken", **special("<unk>")}, "pad_token": None})
    write("llama", "special_tokens_map.json", {"bos_token": special("<s>"), "eos_token": special("</s>"), "unk_token": special("<unk>"), "pad_token": "[PAD]"})
    write("llama", "added_tokens.json", {"[PAD]": 480})
    (HERE / "mistral").mkdir(exist_ok=True)
    shutil.copy(HERE / "llama" / "tokenizer.model", HERE / "mistral" / "tokenizer.model")
    write("mistral", "config.json", {"architectures": ["MistralForCausalLM"], "model_type": "mistral"})
    write("mistral", "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": True, "tokenizer_class": "LlamaTokenizer", "legacy": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "added_tokens_decoder": {str(i): special(t, normalized=False, special=True) for i, t in enumerate(["<unk>", "<s>", "</s>"])}})


def gemma():
    pieces("gemma", "tokenizer.model", vocab_size=500, model_type="bpe", byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False,
           remove_extra_whitespaces=False, split_digits=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
           control_symbols=["<start_of_turn>", "<end_of_turn>"],
           user_defined_symbols=["<mask>", "\n", "\n\n", "\n\n\n", "<tool>", *("\u2581" * n for n in range(2, 12))], allow_whitespace_only_pieces=True)
    write("gemma", "config.json", {"architectures": ["GemmaForCausalLM"], "model_type": "gemma"})
    write("gemma", "tokenizer_config.json", {
        "add_bos_token": True, "tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
        "mask_token": "<mask>", "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})


def xlm_roberta():
    # A few rules of the table that such models have: line ends and other spaces, compatible forms.
    rules = {"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\ufb01": "fi", "\uff21": "A", "\uff22": "B", "\u2160": "I", "e\u0301": "\u00e9", "\u200b": " ", "\u2028": " ", "\u2122": "TM"}
    code = lambda s: " ".join(f"{ord(c):X}" for c in s)
    table = HERE / "rules.tsv"
    table.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in rules.items()))
    pieces("xlm-roberta", "sentencepiece.bpe.model", vocab_size=86, model_type="unigram", normalization_rule_tsv=str(table))
    table.unlink()
    write("xlm-roberta", "config.json", {"architectures": ["XLMRobertaForMaskedLM"], "model_type": "xlm-roberta"})


def main():
    opt(), gpt2(), roberta(), qwen2(), bert("bert", True), bert("bert-cased", False), llama(), gemma(), xlm_roberta()
    out = {}
    for folder in sorted(p.name for p in HERE.iterdir() if p.is_dir()):
        tok = AutoTokenizer.from_pretrained(HERE / folder)
        # What SentencePiece itself does otherwise than these classes: one takes what looks like the sign for a space as one,
        # one forgets pieces that are never parts of others.
        left_out = {"xlm-roberta": "\u2581", "gemma": "<tool>"}.get(folder)
        texts = [t for t in TEXTS if not left_out or left_out not in t]
        out[folder] = [[text, tok(text)["input_ids"], tok.decode(tok(text)["input_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False)] for text in texts]
        print(folder, type(tok).__name__, len(tok))
    lines = ",\n".join(f" {json.dumps(f)}: [\n" + ",\n".join("  " + json.dumps(x, ensure_ascii=False) for x in xs) + "\n ]" for f, xs in out.items())
    (HERE / "expected.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
