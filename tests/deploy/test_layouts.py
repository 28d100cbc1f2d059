"""How tables write layouts, and what is read from them."""

from __future__ import annotations

import pytest
from serving_shapes import deployment

from hwprof.deploy.layouts import fleet_of_row

TOGETHER = {"mode": "agg", "concurrency": "64", "pp_size": "1"}


def row(tp, dp, moe_tp, ep, **more):
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    return TOGETHER | dict(zip(names, map(str, (tp, dp, moe_tp, ep)), strict=True)) | more


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (row(8, 1, 8, 1), (8, 1, 1, 8)),
        (row(4, 1, 1, 4), (4, 1, 4, 1)),
        (row(1, 8, 1, 8), (1, 8, 8, 1)),
        (row(8, 1, 2, 4), (8, 1, 4, 2)),
        (row(64, 1, 8, 8), (8, 1, 8, 1)),  # tensor times expert degree
        (row(1, 64, 8, 8), (1, 8, 8, 1)),
        (row(4, 4, 1, 16), (1, 4, 4, 1)),
        (row(4, "", 1, 4), (4, 1, 4, 1)),
        (row(2, "", 4, 1), (2, 2, 1, 4)),
        (row(8, "", 0, 0), (8, 1, 1, 8)),
    ],
)
def test_degrees_of_one_server(written, read):
    layout = fleet_of_row(written, deployment("gpt-oss-120b", "b200-sxm-180gb", "mxfp4"))
    assert layout.decode[:4] == read
    assert (layout.decoders, layout.apart, layout.stated, layout.users) == (1, False, True, 64)


def test_a_product_of_degrees_is_believed_where_fewer_devices_would_not_do():
    layout = fleet_of_row(row(4, 1, 2, 2), deployment("qwen3-235b-a22b", "h100-sxm5-80gb", "fp8-block"))
    assert layout.decode[:4] == (4, 1, 2, 2)


def test_a_degree_that_is_not_said_is_the_fewest_that_fits_and_noted():
    layout = fleet_of_row(row("", "", "", ""), deployment("llama-3.1-70b", "h100-sxm5-80gb", "bf16"))
    assert (layout.decode[0], layout.stated) == (2, False)  # 141 GB
    assert "not said" in layout.notes[0]


def test_a_number_that_no_server_has_is_all_devices():
    layout = fleet_of_row(row(36, 1, 36, 1, concurrency="1075"), deployment("deepseek-r1", "gb200-nvl72", "nvfp4"))
    assert (layout.apart, layout.stated) == (True, False)
    assert layout.decode[0] * layout.decode[1] * layout.decoders <= 36
    assert "36" in layout.notes[0]


def apart(users, **more):
    degrees = {"prefill_tp_size": "4", "prefill_moe_ep_size": "4", "prefill_moe_tp_size": "1"}
    degrees |= {"decode_tp_size": "8", "decode_moe_ep_size": "1", "decode_moe_tp_size": "8"}
    ones = {"prefill_attention_dp_size": "1", "decode_attention_dp_size": "1"}
    return {"mode": "disagg", "concurrency": users} | degrees | ones | more


def test_stated_servers_are_believed():
    stated = apart("48", decode_num_workers="6", prefill_num_workers="2")
    layout = fleet_of_row(stated, deployment("deepseek-r1", "gb200-nvl72", "nvfp4"))
    assert (layout.decoders, layout.prefillers, layout.stated, layout.notes) == (6, 2, True, ())


def test_unstated_servers_are_assumed_and_said():
    found = deployment("deepseek-r1", "gb200-nvl72", "nvfp4")
    few, many = fleet_of_row(apart("16"), found), fleet_of_row(apart("2048"), found)
    assert (few.decode[:2], few.decoders, few.stated) == ((8, 1), 4, False)
    assert (many.decode[:2], many.decoders) == ((1, 8), 1)
    assert many.notes == (
        "how many servers there are is not said: one for prompts",
        "1 for decoding, with data parallel attention",
    )
