"""Answers of Hugging Face's own networks on weights that anyone can draw: what ours are held to.

    python -m tests.artifact.hugging_face_answers

Needs torch and transformers, and writes `hugging_face_answers.json` beside this file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcompress.annotations import Json

__all__ = ["CONFIGS", "FILE", "MASK", "TOKENS", "tensors"]

FILE = Path(__file__).with_suffix(".json")
TOKENS = [[1, 4, 10, 0, 3], [2, 2, 7, 5, 5]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
BERT = {
    "vocab_size": 11,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 7,
}
LLAMA = {
    "vocab_size": 11,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 10,
}
GPT2 = {"vocab_size": 11, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 7}
CONFIGS: dict[str, tuple[str, str, dict[str, Json]]] = {
    "bert": ("BertConfig", "BertModel", BERT),
    "bert_tokens": ("BertConfig", "BertForTokenClassification", {**BERT, "num_labels": 4}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", LLAMA),
    "llama_tied": ("LlamaConfig", "LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT2),
}
"""Class of the configuration, class of the network, configuration."""


def tensors(shapes: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """Draw a tensor of each name, the same for the same name."""
    seeds = {name: np.random.default_rng(zlib.crc32(name.encode())) for name in shapes}
    return {n: seeds[n].normal(0.1, 0.3, shape).astype(np.float32) for n, shape in shapes.items()}


def answers(config_class: str, network_class: str, config: dict[str, Json]) -> dict[str, Json]:
    """Ask one network."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    import transformers  # type: ignore[import-not-found, unused-ignore]

    made = getattr(transformers, config_class)(**config)
    network: Any = getattr(transformers, network_class)(made).eval()
    parameters = dict(network.named_parameters())
    shapes = {name: list(leaf.shape) for name, leaf in parameters.items()}
    with torch.no_grad():
        for name, tensor in tensors(shapes).items():
            parameters[name].copy_(torch.tensor(tensor))
        result = network(input_ids=torch.tensor(TOKENS), attention_mask=torch.tensor(MASK))
    count = 2 if network_class == "BertModel" else 1
    outputs = [result[number].tolist() for number in range(count)]
    return {"config": config, "shapes": shapes, "outputs": outputs}


def main() -> None:
    """Ask all of them."""
    import transformers

    asked = {name: answers(*row) for name, row in CONFIGS.items()}
    FILE.write_text(json.dumps({"transformers": transformers.__version__, **asked}) + "\n")


if __name__ == "__main__":
    main()
