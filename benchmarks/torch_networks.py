"""Public PyTorch architectures with small sizes: how they are built, and an input of each.

A line gives the type of model as `transformers` names it, the kind of task, and what is not as in
`SMALL`. Weights are random; nothing is downloaded.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxcompress.annotations import Array, Json

__all__ = ["NETWORKS", "build", "example"]

TEXT: Json = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2}
GROUPED: Json = {**TEXT, "num_key_value_heads": 2, "head_dim": 8}
VISION: Json = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 4, "intermediate_size": 64, "num_labels": 10}
STAGES: Json = {"image_size": 32, "hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 10}
SEQ2SEQ: Json = {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
SEQ2SEQ |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "pad_token_id": 0}
SEQ2SEQ |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
AUDIO: Json = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
AUDIO |= {"intermediate_size": 64, "conv_dim": (16, 16), "conv_stride": (5, 4)}
AUDIO |= {"conv_kernel": (10, 8), "num_conv_pos_embeddings": 16}
AUDIO |= {"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 2}


MASKED = "bert roberta albert electra distilbert deberta deberta-v2 mpnet convbert camembert"
MASKED += " xlm-roberta squeezebert fnet nystromformer big_bird ernie roformer megatron-bert"
MASKED += " modernbert layoutlm esm"
CAUSAL = "gpt2 gpt_neo gpt_neox gptj opt bloom codegen xglm biogpt rwkv mamba mamba2 falcon mpt"
GROUPED_CAUSAL = "llama mistral qwen2 qwen3 gemma gemma2 phi phi3 stablelm starcoder2 cohere olmo"
GROUPED_CAUSAL += " olmo2 granite mixtral smollm3 glm persimmon nemotron"
IMAGES = "vit deit beit dinov2 vit_msn"
STAGED = "resnet convnext convnextv2 regnet swin swinv2 segformer poolformer pvt mobilevit"
STAGED += " mobilenet_v1 mobilenet_v2 efficientnet focalnet levit cvt bit"
TRANSLATION = "t5 bart mbart pegasus marian m2m_100 blenderbot"
SOUND = "wav2vec2 hubert wavlm"

WINDOWS: Json = {"image_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16}
WINDOWS |= {"depths": [1, 1], "num_heads": [2, 4]}
FOUR: Json = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
# What is not as in the line of its kind.
OTHERS: dict[str, Json] = {
    "squeezebert": {"embedding_size": 32},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "convbert": {"embedding_size": 32},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "xglm": {"d_model": 32, "attention_heads": 4, "num_layers": 2, "ffn_dim": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 2, "chunk_size": 8},
    "deit": {"architectures": ["DeiTForImageClassification"]},
    "convnext": FOUR,
    "convnextv2": FOUR,
    "swin": WINDOWS,
    "swinv2": WINDOWS,
    "focalnet": {"patch_size": 2, "embed_dim": 16, "depths": [1, 1], "focal_levels": [2, 2]},
    "segformer": {**FOUR, "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 16},
    "poolformer": FOUR,
    "pvt": {**FOUR, "num_attention_heads": [1, 2, 2, 4]},
    "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 12, 16, 20, 24, 32]},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320},
    "levit": {
        "architectures": ["LevitForImageClassification"],
        "image_size": 64,
        "hidden_sizes": [16, 24, 32],
        "depths": [1, 1, 1],
    },
    "cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "bit": {"num_groups": 4, "embedding_size": 16, "layer_type": "preactivation"},
    "t5": {"num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8},
}


class Network(NamedTuple):
    """How an architecture is made.

    Attributes:
        task: what it is built for, as the classes of `transformers` call it.
        sizes: its configuration.
    """

    task: str
    sizes: Json


KINDS: tuple[tuple[str, str, Json], ...] = (
    (MASKED, "MaskedLM", TEXT),
    (CAUSAL, "CausalLM", TEXT),
    (GROUPED_CAUSAL, "CausalLM", GROUPED),
    (IMAGES, "ImageClassification", VISION),
    (STAGED, "ImageClassification", STAGES),
    (TRANSLATION, "Seq2SeqLM", SEQ2SEQ),
    (SOUND, "CTC", AUDIO),
)
NETWORKS = {
    name: Network(task, {**sizes, **OTHERS.get(name, {})})
    for names, task, sizes in KINDS
    for name in names.split()
}


def build(name: str) -> Any:
    """Return a module of `transformers` with random weights, none of them trivial."""
    import torch
    import transformers

    network = NETWORKS[name]
    transformers.logging.set_verbosity_error()
    config = transformers.AutoConfig.for_model(name, **network.sizes)
    torch.manual_seed(0)
    module = getattr(transformers, f"AutoModelFor{network.task}").from_config(config)
    with torch.no_grad():
        for parameter in module.parameters():
            inputs = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 25
            parameter.add_(torch.randn_like(parameter) / inputs**0.5)
    return module.eval()


def example(name: str) -> tuple[tuple[Array, ...], dict[str, Json]]:
    """Return inputs of two examples, and the keywords that a module is called with."""
    generator, task = np.random.default_rng(0), NETWORKS[name].task
    if task == "CTC":
        return (generator.standard_normal((2, 400), np.float32),), {}
    if task == "ImageClassification":
        size = NETWORKS[name].sizes["image_size"]
        return (generator.standard_normal((2, 3, size, size), np.float32),), {}
    ids = generator.integers(3, 99, (2, 8))
    if task == "MaskedLM":
        return (ids,), {}
    if task == "CausalLM":
        return (ids,), {"use_cache": False}
    return (ids,), {"decoder_input_ids": ids, "use_cache": False}
