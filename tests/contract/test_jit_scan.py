"""jit traces once; a scan is the loop; donation; state in mid-run; abstract init."""

import pickle

import jax
import jax.numpy as jnp
import quick

from cases import assert_same_bits, descend, every, on_device, on_host, params_like, whole


@every("jit")
def test_traced_once_and_scan_is_loop_and_resume_gives_the_same_bits(case):
    opt, params = whole(case), params_like()
    traces = []

    @quick.exact
    def step(carry):
        traces.append(1)
        return descend(opt)(carry)[0]

    start = carry = (params, opt.init(params))
    saved = None
    for i in range(4):
        if i == 2:
            saved = pickle.dumps(on_host(carry))
        carry = step(carry)
    assert len(traces) == 1
    assert jax.tree.structure(carry) == jax.tree.structure(start)

    scanned, _ = quick.exact(lambda c: jax.lax.scan(descend(opt), c, None, 4))(start)
    assert_same_bits(scanned, carry)

    resumed = on_device(pickle.loads(saved), carry)
    assert_same_bits(step(step(resumed)), carry)
    assert len(traces) == 1


@every("donation", parts=False)
def test_donated_buffers_are_separate_and_init_is_pure(case):
    opt, params = whole(case), params_like()
    step = quick.exact(lambda p, s: descend(opt)((p, s))[0], donate_argnums=(0, 1))
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
