"""The network: a decoder-only transformer of the Llama kind, over a paged KV cache.

What families differ in is in the checkpoint (biases) or in `ModelConfig` (norms of heads, windows);
`engine.family` says what else would need work here.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from torch import Tensor

from .arithmetic import Arithmetic, Attending, Linear, Linears, Norm
from .checkpoint import Checkpoint
from .lora import Adapters
from .model_config import ModelConfig
from .runner import OnLayer


class Attention(Struct, frozen=True):
    queries_keys_values: Linears
    output: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    window: int | None
    """How many tokens each token looks back at, itself included; None for all."""


class FeedForward(Struct, frozen=True):
    gate_up: Linears
    down: Linear


class Layer(Struct, frozen=True):
    attention_norm: Norm
    attention: Attention
    feed_forward_norm: Norm
    feed_forward: FeedForward


class Unfinished(Struct, frozen=True):
    """Tokens whose keys and values are in the pages of a layer that has yet to be gone through."""

    x: Tensor
    """What the layer was given, ``[tokens, hidden_size]``."""
    queries: Tensor
    """Turned, ``[tokens, num_heads, head_dim]``."""

    def select(self, places: Tensor) -> Unfinished:
        return Unfinished(self.x.index_select(0, places), self.queries.index_select(0, places))


class Decoder(Struct, frozen=True):
    """All weights of one model."""

    config: ModelConfig
    arithmetic: Arithmetic
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear

    def fill(
        self,
        tokens: Tensor,
        paged: Attending,
        caches: Sequence[Tensor],
        on_layer: OnLayer,
    ) -> Unfinished:
        """Fill every layer's pages. What is left of the last layer, `finish` computes, of the
        tokens that something is to be known of.

        ``on_layer`` hears of each layer when its pages are written.
        """
        x = self.embedding.index_select(0, tokens)
        *layers, (last, last_cache) = zip(self.layers, caches, strict=True)
        for index, (layer, cache) in enumerate(layers):
            filled = self._fill(layer, x, paged, cache)
            on_layer(index)
            x = self._go_on(layer, filled, paged, cache)
        filled = self._fill(last, x, paged, last_cache)
        on_layer(len(layers))
        return filled

    def finish(self, tokens: Unfinished, paged: Attending, cache: Tensor) -> Tensor:
        """float32 logits ``[tokens, vocab_size]``; ``cache`` is the last layer's."""
        hidden = self._go_on(self.layers[-1], tokens, paged, cache)
        return self.head(self.norm(hidden)).float()

    def _go_on(self, layer: Layer, tokens: Unfinished, paged: Attending, cache: Tensor) -> Tensor:
        """The layer's result, of tokens whose keys and values are in its pages."""
        heads, window = self.config.num_kv_heads, layer.attention.window
        found = paged.attend(cache, tokens.queries, heads, window)
        x = layer.attention.output(found.flatten(1), tokens.x)
        return self._feed_forward(layer, x)

    def _fill(self, layer: Layer, x: Tensor, paged: Attending, cache: Tensor) -> Unfinished:
        """Put this layer's keys and values into its pages."""
        attention = layer.attention
        queries, keys, values = attention.queries_keys_values(layer.attention_norm(x))
        queries = self._heads(queries, attention.query_norm)
        keys = self._heads(keys, attention.key_norm)
        return Unfinished(x, paged.write(cache, queries, keys, self._heads(values, None)))

    def _feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        normed, network = layer.feed_forward_norm(x), layer.feed_forward
        gate, up = network.gate_up(normed)
        return network.down(self.arithmetic.gated(gate, up), x)

    def _heads(self, x: Tensor, norm: Norm | None) -> Tensor:
        heads = x.view(len(x), -1, self.config.head_dim)
        return heads if norm is None else norm(heads)


def load_decoder(
    config: ModelConfig, checkpoint: Checkpoint, arithmetic: Arithmetic, adapters: Adapters
) -> Decoder:
    """Take every weight of the network.

    Raises:
        BrokenModel: one is missing or of the wrong shape.
        UnsupportedModel: there are weights that this network does not have.
    """
    decoder = _Loading(config, checkpoint, arithmetic, adapters).decoder()
    checkpoint.check_all_taken()
    adapters.check_all_wrapped()
    return decoder


class _Loading:
    """Knows what the weights of a Hugging Face checkpoint are called."""

    def __init__(
        self,
        config: ModelConfig,
        checkpoint: Checkpoint,
        arithmetic: Arithmetic,
        adapters: Adapters,
    ) -> None:
        self._config, self._checkpoint = config, checkpoint
        self._arithmetic, self._adapters = arithmetic, adapters

    def decoder(self) -> Decoder:
        config = self._config
        embedding = self._checkpoint.take(
            "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
        )
        windows = config.windows or (None,) * config.num_layers
        layers = tuple(self._layer(f"model.layers.{i}", w) for i, w in enumerate(windows))
        norm = self._norm("model.norm", config.hidden_size)
        head = self._head(embedding)
        return Decoder(config, self._arithmetic, embedding, layers, norm, head)

    def _head(self, embedding: Tensor) -> Linear:
        if self._config.tied_embeddings:
            self._checkpoint.ignore("lm_head.weight")
            return self._arithmetic.linear(embedding, None)
        return self._linear("lm_head", self._config.hidden_size, self._config.vocab_size)

    def _layer(self, prefix: str, window: int | None) -> Layer:
        hidden = self._config.hidden_size
        return Layer(
            attention_norm=self._norm(f"{prefix}.input_layernorm", hidden),
            attention=self._attention(f"{prefix}.self_attn", window),
            feed_forward_norm=self._norm(f"{prefix}.post_attention_layernorm", hidden),
            feed_forward=self._feed_forward(f"{prefix}.mlp"),
        )

    def _attention(self, prefix: str, window: int | None) -> Attention:
        config = self._config
        hidden = config.hidden_size
        query_size = config.num_heads * config.head_dim
        kv_size = config.num_kv_heads * config.head_dim
        normed = config.has_qk_norm
        projections = [
            self._linear(f"{prefix}.q_proj", hidden, query_size),
            self._linear(f"{prefix}.k_proj", hidden, kv_size),
            self._linear(f"{prefix}.v_proj", hidden, kv_size),
        ]
        return Attention(
            queries_keys_values=self._arithmetic.together(projections),
            output=self._linear(f"{prefix}.o_proj", query_size, hidden),
            query_norm=self._norm(f"{prefix}.q_norm", config.head_dim) if normed else None,
            key_norm=self._norm(f"{prefix}.k_norm", config.head_dim) if normed else None,
            window=window,
        )

    def _feed_forward(self, prefix: str) -> FeedForward:
        hidden, inner = self._config.hidden_size, self._config.intermediate_size
        gate = self._linear(f"{prefix}.gate_proj", hidden, inner)
        up = self._linear(f"{prefix}.up_proj", hidden, inner)
        return FeedForward(
            gate_up=self._arithmetic.together([gate, up]),
            down=self._linear(f"{prefix}.down_proj", inner, hidden),
        )

    def _linear(self, name: str, size_in: int, size_out: int) -> Linear:
        """With a bias where the checkpoint has one."""
        weight = self._checkpoint.take(f"{name}.weight", (size_out, size_in))
        bias = f"{name}.bias"
        has_bias = bias in self._checkpoint
        given = self._checkpoint.take(bias, (size_out,)) if has_bias else None
        linear = self._arithmetic.linear(weight, given)
        return self._adapters.wrap(name, linear, (size_out, size_in))

    def _norm(self, name: str, size: int) -> Norm:
        weight = self._checkpoint.take(f"{name}.weight", (size,))
        return self._arithmetic.norm(weight, self._config.norm_epsilon)
