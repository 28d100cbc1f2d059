"""What does a fused kernel spare? Steps of a few calls, their bytes added up by hand."""

from hwprof.emulate.fusion import Flow, fused

MB = 10**6
A, B, C, D, E, F, G = range(7)


def _flow(number, kind, reads, writes, *, region=0, backward=False):
    place = None if region is None else (region, backward, number)
    parts = [tuple((each, 0, MB) for each in group) for group in (reads, writes)]
    return Flow(event=number, call=number, region=place, kind=kind, reads=parts[0], writes=parts[1])


def _left(*flows):
    made = [_flow(number, *each[:3], **(each[3] if len(each) > 3 else {})) for number, each in enumerate(flows)]
    leaves = Flow(event=len(made), call=-1, region=None, kind="other", reads=((G, 0, MB),), writes=())
    return [(one.spared_bytes // MB, one.joined, one.stored) for one in fused([*made, leaves])[:-1]]


def test_a_chain_reads_once_and_writes_once():
    """a -> b -> c -> g: three calls move 6 MB, one kernel 2."""
    found = _left(("pointwise", [A], [B]), ("pointwise", [B], [C]), ("pointwise", [C], [G]))
    assert found == [(1, False, False), (2, True, False), (1, True, True)]


def test_what_two_calls_of_a_kernel_read_is_read_once():
    found = _left(("pointwise", [A], [B]), ("pointwise", [A, B], [G]))
    assert found == [(1, False, False), (2, True, True)]


def test_a_product_needs_its_argument_in_memory():
    found = _left(("pointwise", [A], [B]), ("other", [B], [C]), ("pointwise", [C], [G]))
    assert found == [(0, False, True), (0, False, True), (0, False, True)]


def test_a_gate_waits_for_the_second_product():
    """silu of one product times another: one kernel behind both."""
    found = _left(("other", [A], [B]), ("pointwise", [B], [C]), ("other", [A], [D]), ("pointwise", [C, D], [G]))
    assert found[1] == (1, False, False)
    assert found[3] == (1, True, True)


def test_a_residual_is_kept_over_the_products_between():
    """b is read by the norm's kernel, which writes it, and again by the last addition, another kernel."""
    found = _left(("pointwise", [A], [B]), ("reduction", [B], [C]), ("other", [C], [D]), ("pointwise", [B, D], [G]))
    assert found == [(0, False, True), (1, True, True), (0, False, True), (0, False, True)]


def test_the_backward_pass_computes_pointwise_results_again_and_reads_reductions():
    back = {"backward": True}
    found = _left(
        ("pointwise", [A], [B]),
        ("reduction", [B], [C]),
        ("pointwise", [B, C], [G]),
        ("pointwise", [B, C], [D], back),
        ("other", [D], [E], back),
    )
    assert [stored for _, _, stored in found] == [False, True, True, True, True]


def test_memory_that_was_there_before_is_changed():
    """An update in place is written although nothing reads it in this step."""
    assert _left(("pointwise", [A], [A]))[0] == (0, False, True)


def test_outside_of_compiled_code_nothing_is_spared():
    found = _left(("pointwise", [A], [B], {"region": None}), ("pointwise", [B], [G], {"region": None}))
    assert found == [(0, False, True), (0, False, True)]


def test_regions_do_not_share_kernels():
    found = _left(("pointwise", [A], [B]), ("pointwise", [B], [G], {"region": 1}))
    assert found == [(0, False, True), (0, False, True)]


def test_views_cost_nothing_in_compiled_code():
    assert _left(("view", [A], [A]), ("pointwise", [A], [G]))[0] == (0, True, True)


def test_what_only_the_forward_pass_of_its_region_reads_passes():
    back, outside = {"backward": True}, {"region": None}
    flows = [
        ("other", [A], [B]),
        ("pointwise", [B], [C]),
        ("other", [C], [D]),
        ("other", [D], [G]),
        ("other", [A], [E]),
        ("pointwise", [E], [E], outside),
        ("other", [C], [F], back),
    ]
    made = [_flow(number, *each[:3], **(each[3] if len(each) > 3 else {})) for number, each in enumerate(flows)]
    leaves = Flow(event=len(made), call=-1, region=None, kind="other", reads=((G, 0, MB),), writes=())
    assert [each.passing for each in fused([*made, leaves])] == [True, False, True, False, False, False, False, False]


def test_what_a_checkpoint_computes_again_for_nobody_is_not_computed():
    """The forward pass b, c, g runs again in the backward pass: d and e, but not the last addition, which reads c."""
    back = {"backward": True}
    flows = [
        ("pointwise", [A], [B]),
        ("other", [B], [C]),
        ("pointwise", [A, C], [G]),
        ("pointwise", [A], [D], back),
        ("pointwise", [A, C], [E], back),
        ("other", [D], [F], back),
    ]
    made = [_flow(number, *each[:3], **(each[3] if len(each) > 3 else {})) for number, each in enumerate(flows)]
    leaves = Flow(event=len(made), call=-1, region=None, kind="other", reads=((G, 0, MB), (F, 0, MB)), writes=())
    found = fused([*made, leaves])
    assert [each.passing for each in found[:3]] == [True, True, False]
    assert (found[4].spared_bytes, found[4].joined, found[4].stored) == (3 * MB, True, False)
    assert found[3].stored
