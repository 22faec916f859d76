"""A tiny Llama that says a given text after whatever it has read: each token calls for the next."""

import torch
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

from atlas_bench.models import causal_lm

WIDTH = 32  # one direction for each token to say, one for all others, one for the end


def save(folder, pieces, *, template=None, special=()):
    """A folder as save_pretrained() writes it.

    pieces   texts, all different, that are said one after the other, each a token of its own
    template the chat template
    special  those of them that are special tokens, which decode() leaves out
    """
    tokenizer = causal_lm.tokenizer()
    tokenizer.add_tokens([AddedToken(x, special=x in special, normalized=False) for x in pieces], special_tokens=False)
    tokenizer.chat_template = template
    ids = [tokenizer.convert_tokens_to_ids(x) for x in pieces]
    assert len(set(ids)) == len(pieces) < WIDTH - 1
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, max_position_embeddings=4096, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        for block in model.model.layers:  # what a token calls for does not depend on those before it
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        directions = torch.eye(WIDTH)
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings[:] = directions[0]
        head.zero_()
        for n, token in enumerate([*ids, 0]):  # 0 ends the text
            head[token] = directions[n]
            if token:
                embeddings[token] = directions[n + 1]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
