"""Claims about products that no probe saw."""

import pytest

from hwprof.predict.ceilings.product_times import ProductRates, unprobed_s
from hwprof.specs.catalogue.lookup import load_device


def rates(shapes, **changes):
    plain = {"dtype": "fp32", "flop_per_s": 1e11, "byte_per_s": 1e10, "roof_name": "matmul.fp32", "shapes": shapes}
    return ProductRates(**plain | changes)


SQUARES = {(side, side, side): 5e10 for side in (256, 512, 1024)}


def test_between_measured_shapes_a_curve_keeps_their_share_of_the_roof():
    found = unprobed_s([(700, 700, 700)], rates(SQUARES))
    assert found.seconds[0] == pytest.approx(2 * 700**3 / 5e10, rel=0.02)
    assert found.lo_s[0] < found.seconds[0] < found.hi_s[0]
    assert found.basis.word == "measured_here"


def test_more_work_never_takes_less_time():
    shapes = [(m, 512, 512) for m in (64, 128, 256, 512, 1024, 4096)]
    seconds = unprobed_s(shapes, rates(SQUARES | {(128, 512, 512): 1e10})).seconds
    assert list(seconds) == sorted(seconds)


def test_a_product_of_one_row_takes_the_time_of_its_operands():
    # 1 x 4096 x 4096: 67 MB at 1e10 bytes/s, half of the roof as everywhere, against 0.3 ms of arithmetic
    found = unprobed_s([(1, 4096, 4096)], rates(SQUARES))
    assert found.seconds[0] == pytest.approx(2 * 4 * (4096 * 4096 + 2 * 4096) / 1e10, rel=0.1)


def test_fewer_than_three_measured_products_make_no_curve():
    found = unprobed_s([(100, 50, 1000)], rates({(1, 1, 1): 1e10}))
    assert (found.seconds[0], found.lo_s[0], found.hi_s[0]) == pytest.approx((2e-4, 1e-4, 4e-4))
    assert found.basis.text == "an assumed 50 % (25 to 100 %) of matmul.fp32"


def test_a_known_device_s_published_products_speak_where_nothing_was_probed():
    found = unprobed_s([(8192, 8192, 8192)], rates({}, dtype="bf16", device=load_device("h100-sxm5-80gb")))
    assert found.basis.word == "measured"
    assert 4e14 < 2 * 8192**3 / found.seconds[0] < 9.9e14


def test_what_was_probed_here_comes_before_what_others_measured():
    slow = {(8192, 8192, 8192): 2e14, (4096, 8192, 8192): 2e14, (8192, 4096, 8192): 2e14}
    h100 = load_device("h100-sxm5-80gb")
    found = unprobed_s([(8192, 8192, 4096)], rates(slow, dtype="bf16", device=h100))
    assert found.basis.word == "measured_here"
    assert 2 * 8192 * 8192 * 4096 / found.seconds[0] < 3e14
