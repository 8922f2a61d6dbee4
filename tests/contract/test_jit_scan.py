"""jit traces once; a scan is the loop; donation; state in mid-run; abstract init."""

import pickle

import jax
import jax.numpy as jnp
import quick

from cases import assert_same_bits, descend, every, is_key, on_device, on_host, params_like, walk_of, whole
from engines import in_full


@every("jit")
def test_traced_once_and_a_loop_is_its_steps_and_resume_gives_the_same_bits(case):
    """One program, of as many steps as it is told: another program, of a fixed number, may round otherwise."""
    (walk, compiled), params = walk_of(case.name), params_like()
    start = (params, whole(case).init(params))
    middle = walk(walk(start, 1), 1)
    saved = pickle.dumps(on_host(middle))
    end = walk(walk(middle, 1), 1)
    assert jax.tree.structure(end) == jax.tree.structure(start)
    assert_same_bits(walk(start, 4), end)

    resumed = on_device(pickle.loads(saved), middle)
    assert_same_bits(walk(resumed, 2), end)
    assert len(compiled) == 1


@every("donation")
def test_no_two_leaves_share_a_buffer(case):
    """Neither of a state, nor of two states, nor of a state and the parameters: each may be donated."""
    opt, params = whole(case), params_like()
    leaves = jax.tree.leaves((params, opt.init(params), opt.init(params)))
    buffers = [x.unsafe_buffer_pointer() for x in leaves if isinstance(x, jax.Array) and x.size and not is_key(x)]
    assert len(set(buffers)) == len(buffers)


@every("donation", in_full, parts=False)
def test_donated_buffers_are_separate_and_init_is_pure(case):
    opt, params = whole(case), params_like()
    step = quick.jit(lambda p, s: descend(opt)((p, s))[0], donate_argnums=(0, 1))
    fresh = jax.tree.map(jnp.copy, params)
    first = step(*step(params, opt.init(params)))
    again = step(*step(fresh, opt.init(fresh)))  # init after its first state was given away
    assert_same_bits(first, again)


@every("abstract")
def test_init_from_shapes_alone(case):
    opt, params = whole(case), params_like()
    shapes = jax.eval_shape(lambda: params)
    state = opt.init(params)
    want = jax.eval_shape(lambda: state)
    assert jax.eval_shape(opt.init, shapes) == want
    assert jax.eval_shape(lambda: opt.init(shapes)) == want
