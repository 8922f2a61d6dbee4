"""Parameters of models as their frameworks make them, without values; `python tests/references/model_trees.py` writes
what `explain` says of each into tests/data/roles, to be read before it is committed."""

from pathlib import Path

import equinox as eqx
import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp

HERE = Path(__file__).parents[1] / "data" / "roles"
D, V, T = 8, 50, 6


def tree_of(shapes):
    """{"a/b": shape} -> {"a": {"b": …}}."""
    tree = {}
    for path, shape in shapes.items():
        *modules, name = path.split("/")
        node = tree
        for module in modules:
            node = node.setdefault(module, {})
        node[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return tree


# ---- flax.linen -----------------------------------------------------------------------------------------


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return x + nn.Dense(D)(nn.gelu(nn.Dense(4 * D)(nn.LayerNorm()(x)))), None


class LinenLanguageModel(nn.Module):
    scanned: bool = False

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(V, D)(tokens) + self.param("pos_embedding", nn.initializers.zeros, (1, T, D))
        if self.scanned:
            stack = nn.scan(LinenBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            x, _ = stack(name="layers")(x, None)
        else:
            for _ in range(2):
                x, _ = LinenBlock()(x)
        return nn.Dense(V)(nn.LayerNorm()(x))


class LinenResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (7, 7), name="conv_init")(x)))
        for i in range(2):
            y = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3), name=f"block{i}_conv1")(x)))
            x = x + nn.GroupNorm(2)(nn.Conv(4, (3, 3), name=f"block{i}_conv2")(y))
        return nn.Dense(10)(x.mean((1, 2)))


class LinenVisionTransformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(D, (4, 4), strides=(4, 4), name="embedding")(x).reshape(1, -1, D)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, D))
        x = jnp.concatenate([cls, x], 1) + self.param("posembed_input", nn.initializers.zeros, (1, 5, D))
        for i in range(2):
            x, _ = LinenBlock(name=f"encoderblock_{i}")(x)
        return nn.Dense(10, name="head")(nn.LayerNorm(name="encoder_norm")(x)[:, 0])


class ActorCritic(nn.Module):
    @nn.compact
    def __call__(self, x):
        def net(x, outputs, name):
            return nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(16), nn.tanh, nn.Dense(outputs)], name=name)(x)

        return net(x, 4, "actor"), net(x, 1, "critic")


def linen(model, x):
    return jax.eval_shape(model.init, jax.random.key(0), x)["params"]


# ---- flax.nnx -------------------------------------------------------------------------------------------


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.RMSNorm(D, rngs=rngs), nnx.RMSNorm(D, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, D, decode=False, rngs=rngs)
        self.gate, self.up = nnx.Linear(D, 3 * D, rngs=rngs), nnx.Linear(D, 3 * D, rngs=rngs)
        self.down = nnx.Linear(3 * D, D, rngs=rngs)


class NnxLanguageModel(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(V, D, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(2)])
        self.final_norm = nnx.RMSNorm(D, rngs=rngs)
        self.lm_head = nnx.Linear(D, V, use_bias=False, rngs=rngs)


# ---- equinox --------------------------------------------------------------------------------------------


class EquinoxBlock(eqx.Module):
    n1: eqx.nn.LayerNorm
    n2: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.n1 = self.n2 = eqx.nn.LayerNorm(D)
        self.attention = eqx.nn.MultiheadAttention(2, D, use_query_bias=True, key=a)
        self.mlp = eqx.nn.MLP(D, D, 4 * D, 1, key=b)


class EquinoxLanguageModel(eqx.Module):
    table: eqx.nn.Embedding
    layers: list
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.table = eqx.nn.Embedding(V, D, key=keys[0])
        self.layers = [EquinoxBlock(keys[1]), EquinoxBlock(keys[2])]
        self.norm, self.out = eqx.nn.LayerNorm(D), eqx.nn.Linear(D, V, key=keys[3])


class EquinoxDigits(eqx.Module):
    layers: list

    def __init__(self, key):
        a, b, c, d = jax.random.split(key, 4)
        self.layers = [
            eqx.nn.Conv2d(1, 4, 3, key=a), eqx.nn.BatchNorm(4, axis_name="batch", mode="ema"),
            eqx.nn.Conv2d(4, 8, 3, key=b), eqx.nn.Linear(8, 16, key=c), eqx.nn.Linear(16, 10, key=d),
        ]  # fmt: skip


def equinox(model):
    return eqx.filter(eqx.filter_eval_shape(model, jax.random.key(0)), lambda x: hasattr(x, "dtype"))


# ---- names of other houses ------------------------------------------------------------------------------

HAIKU = {
    "transformer/embed/embeddings": (V, D),
    "transformer/~/positional_embeddings": (T, D),
    **{
        f"transformer/h{i}_{module}": shape
        for i in range(2)
        for module, shape in {
            "ln_1/scale": (D,), "ln_1/offset": (D,), "attn/query/w": (D, D), "attn/query/b": (D,),
            "attn/key/w": (D, D), "attn/value/w": (D, D), "attn/linear/w": (D, D), "attn/linear/b": (D,),
            "mlp/linear/w": (D, 32), "mlp/linear/b": (32,), "mlp/linear_1/w": (32, D), "mlp/linear_1/b": (D,),
        }.items()
    },
    "transformer/ln_f/scale": (D,),
    "transformer/linear/w": (D, V),
    "transformer/linear/b": (V,),
}  # fmt: skip
GPT2 = {
    "wte/embedding": (V, D),
    "wpe/embedding": (T, D),
    **{
        f"h/{i}/{module}": shape
        for i in range(2)
        for module, shape in {
            "ln_1/scale": (D,), "attn/c_attn/kernel": (D, 3 * D), "attn/c_attn/bias": (3 * D,),
            "attn/c_proj/kernel": (D, D), "ln_2/bias": (D,), "mlp/c_fc/kernel": (D, 32), "mlp/c_proj/kernel": (32, D),
        }.items()
    },
    "ln_f/scale": (D,),
}  # fmt: skip
L, E, M = 3, 4, 12
EXPERTS = {
    "embed_tokens/embedding": (V, D),
    "layers/input_layernorm/weight": (L, D),
    "layers/self_attn/q_proj/kernel": (L, D, D),
    "layers/self_attn/k_proj/kernel": (L, D, 4),
    "layers/self_attn/v_proj/kernel": (L, D, 4),
    "layers/self_attn/o_proj/kernel": (L, D, D),
    "layers/self_attn/q_norm/weight": (L, 4),
    "layers/moe/gate/kernel": (L, D, E),
    "layers/moe/gate/e_score_correction_bias": (L, E),
    "layers/moe/experts/gate_proj/kernel": (L, E, D, M),
    "layers/moe/experts/up_proj/kernel": (L, E, D, M),
    "layers/moe/experts/down_proj/kernel": (L, E, M, D),
    "layers/moe/shared_expert/up_proj/kernel": (L, D, M),
    "norm/weight": (D,),
    "lm_head/kernel": (D, V),
}
STACKED = {"embed_tokens": 0, "layers": 1, "norm": 0, "lm_head": 0}


def trees():
    """name -> (params, the options of `explain` it needs)."""
    tokens, image = jnp.zeros((1, T), int), jnp.zeros((1, 8, 8, 3))
    scanned = linen(LinenLanguageModel(scanned=True), tokens)
    return {
        "linen_language_model": (linen(LinenLanguageModel(), tokens), {}),
        "linen_scanned": (scanned, {"stack_axes": {name: int(name == "layers") for name in scanned}}),
        "linen_resnet": (linen(LinenResNet(), image), {}),
        "linen_vision_transformer": (linen(LinenVisionTransformer(), image), {}),
        "linen_actor_critic": (linen(ActorCritic(), jnp.zeros((1, 3))), {}),
        "nnx_language_model": (nnx.state(nnx.eval_shape(lambda: NnxLanguageModel(nnx.Rngs(0))), nnx.Param), {}),
        "equinox_language_model": (equinox(EquinoxLanguageModel), {}),
        "equinox_digits": (equinox(EquinoxDigits), {}),
        "haiku_transformer": (tree_of(HAIKU), {}),
        "gpt2": (tree_of(GPT2), {}),
        "mixture_of_experts": (tree_of(EXPERTS), {"stack_axes": STACKED}),
    }


def main():
    from jaxopt_ko.wrappers.routing import explain

    for name, (params, options) in trees().items():
        text = str(explain(params, **options))
        (HERE / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
        print(f"{name}\n{text}\n")


if __name__ == "__main__":
    main()
