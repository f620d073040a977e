"""Which tensor of Hugging Face's files is which leaf: tables of BERT, LLaMA and GPT-2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from flax import linen as nn

from jaxcompress.annotations import Json
from jaxcompress.models import GPT2, Decoder, Encoder

__all__ = ["ARCHITECTURES", "Architecture"]

FIELDS = {"weight": "", "bias": "bias", "gamma": "", "beta": "bias"}
"""What a torch module calls its arrays; BERT's first files have names of TensorFlow's."""


class Architecture(NamedTuple):
    """How the tensors of one architecture are called.

    Attributes:
        modules: the path of a torch module, `#` for the number of a layer, to the path of ours
            with the field that its `weight` becomes; a `bias` stays one.
        config: fields of `config.json` to fields of the module.
        constants: fields of `config.json` that decide what is computed, and their only value.
        prefix: what may stand before every name.
        ignored: names of what is no weight, as shell patterns.
        copies: tensors that repeat another one where the network ties them.
        output_first: whether kernels are `[out, in]`.

    Example:
        >>> llama = ARCHITECTURES[Decoder]
        >>> llama.path_of("model.layers.3.mlp.up_proj.weight")
        'params/layer3/up/kernel'
        >>> llama.name_of("params/layer3/up/kernel")
        'model.layers.3.mlp.up_proj.weight'
    """

    modules: Mapping[str, str]
    config: Mapping[str, str]
    constants: Mapping[str, Json]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    copies: Mapping[str, str] = MappingProxyType({})
    output_first: bool = True

    def plain(self, name: str) -> str:
        """Return a tensor's name without the prefix."""
        return name.removeprefix(self.prefix)

    def path_of(self, name: str) -> str | None:
        """Return the path of a tensor's leaf, None if it has none."""
        module, _, field = self.plain(name).rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        ours = self.modules.get(re.sub(r"\.\d+\.", ".#.", module, count=1))
        if ours is None or field not in FIELDS:
            return None
        path, _, weight = ours.rpartition("/")
        path = path.replace("#", number.group(1) if number else "#")
        return f"params/{path}/{FIELDS[field] or weight}"

    def name_of(self, path: str) -> str | None:
        """Return the name of a leaf's tensor, None if it has none."""
        ours, _, field = path.removeprefix("params/").rpartition("/")
        number = re.search(r"^layer(\d+)/", ours)
        ours = re.sub(r"^layer\d+/", "layer#/", ours)
        for module, target in self.modules.items():
            whole, _, weight = target.rpartition("/")
            if whole == ours and field in (weight, "bias"):
                module = module.replace("#", number.group(1) if number else "#")
                return f"{module}.{'weight' if field == weight else 'bias'}"
        return None


BERT = Architecture(
    {
        "embeddings.word_embeddings": "token_embedding/embedding",
        "embeddings.position_embeddings": "position_embedding/embedding",
        "embeddings.token_type_embeddings": "type_embedding/embedding",
        "embeddings.LayerNorm": "embedding_norm/scale",
        "encoder.layer.#.attention.self.query": "layer#/attention/query/kernel",
        "encoder.layer.#.attention.self.key": "layer#/attention/key/kernel",
        "encoder.layer.#.attention.self.value": "layer#/attention/value/kernel",
        "encoder.layer.#.attention.output.dense": "layer#/attention/out/kernel",
        "encoder.layer.#.attention.output.LayerNorm": "layer#/norm1/scale",
        "encoder.layer.#.intermediate.dense": "layer#/mlp_expand/kernel",
        "encoder.layer.#.output.dense": "layer#/mlp_project/kernel",
        "encoder.layer.#.output.LayerNorm": "layer#/norm2/scale",
        "pooler.dense": "pooler/kernel",
        "classifier": "classifier/kernel",
    },
    {
        "vocab_size": "vocabulary",
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "num_attention_heads": "heads",
        "intermediate_size": "mlp_width",
        "max_position_embeddings": "positions",
        "type_vocab_size": "types",
        "layer_norm_eps": "epsilon",
    },
    {"hidden_act": "gelu", "position_embedding_type": "absolute"},
    prefix="bert.",
    ignored=("*embeddings.position_ids",),
)
LLAMA = Architecture(
    {
        "model.embed_tokens": "token_embedding/embedding",
        "model.layers.#.input_layernorm": "layer#/norm1/scale",
        "model.layers.#.self_attn.q_proj": "layer#/query/kernel",
        "model.layers.#.self_attn.k_proj": "layer#/key/kernel",
        "model.layers.#.self_attn.v_proj": "layer#/value/kernel",
        "model.layers.#.self_attn.o_proj": "layer#/out/kernel",
        "model.layers.#.post_attention_layernorm": "layer#/norm2/scale",
        "model.layers.#.mlp.gate_proj": "layer#/gate/kernel",
        "model.layers.#.mlp.up_proj": "layer#/up/kernel",
        "model.layers.#.mlp.down_proj": "layer#/down/kernel",
        "model.norm": "final_norm/scale",
        "lm_head": "head/kernel",
    },
    {
        "vocab_size": "vocabulary",
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "num_attention_heads": "heads",
        "num_key_value_heads": "kv_heads",
        "intermediate_size": "mlp_width",
        "tie_word_embeddings": "tied",
        "rope_theta": "rope_base",
        "rms_norm_eps": "epsilon",
    },
    {"hidden_act": "silu", "rope_scaling": None, "rope_type": "default", "attention_bias": False},
    ignored=("*rotary_emb.inv_freq",),
    copies={"lm_head.weight": "model.embed_tokens.weight"},
)
GPT = Architecture(
    {
        "wte": "token_embedding/embedding",
        "wpe": "position_embedding/embedding",
        "h.#.ln_1": "layer#/norm1/scale",
        "h.#.attn.c_attn": "layer#/query_key_value/kernel",
        "h.#.attn.c_proj": "layer#/out/kernel",
        "h.#.ln_2": "layer#/norm2/scale",
        "h.#.mlp.c_fc": "layer#/mlp_expand/kernel",
        "h.#.mlp.c_proj": "layer#/mlp_project/kernel",
        "ln_f": "final_norm/scale",
    },
    {
        "vocab_size": "vocabulary",
        "n_embd": "width",
        "n_layer": "depth",
        "n_head": "heads",
        "n_positions": "positions",
        "layer_norm_epsilon": "epsilon",
    },
    {"activation_function": "gelu_new"},
    prefix="transformer.",
    ignored=("*.attn.bias", "*.attn.masked_bias"),
    copies={"lm_head.weight": "wte.weight"},
    output_first=False,
)

ARCHITECTURES: Mapping[type[nn.Module], Architecture] = MappingProxyType(
    {Encoder: BERT, Decoder: LLAMA, GPT2: GPT}
)
"""By the module's class."""
