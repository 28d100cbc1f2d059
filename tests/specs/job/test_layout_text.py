"""Claims about layouts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import InputError
from hwprof.specs.job.layout_text import layout_text, parse_layout


@pytest.mark.parametrize(
    ("text", "ranks", "degrees"),
    [  # data, tensor, pipeline, virtual, zero stage, sequence parallel
        ("ddp", 4, (4, 1, 1, 1, 0, False)),
        ("fsdp", 4, (4, 1, 1, 1, 3, False)),
        ("zero2", 2, (2, 1, 1, 1, 2, False)),
        ("tp2", 2, (1, 2, 1, 1, 0, False)),
        ("tp2-sp", 2, (1, 2, 1, 1, 0, True)),
        ("pp4", 4, (1, 1, 4, 1, 0, False)),
        ("pp2-vp2", 2, (1, 1, 2, 2, 0, False)),
        ("FSDP-tp2-pp2", 16, (4, 2, 2, 1, 3, False)),
    ],
)
def test_layout_is_read_as_it_is_meant(text, ranks, degrees):
    layout = parse_layout(text, ranks)
    assert degrees == (
        layout.data_parallel,
        layout.tensor_parallel,
        layout.pipeline_parallel,
        layout.virtual_stages,
        layout.zero_stage,
        layout.sequence_parallel,
    )
    assert layout.devices == ranks


@given(
    data=st.sampled_from(["ddp", "zero2", "fsdp"]),
    tensor=st.sampled_from(["", "-tp2", "-tp4-sp"]),
    pipeline=st.sampled_from(["", "-pp2", "-pp4-vp2"]),
)
def test_text_of_a_layout_reads_back(data, tensor, pipeline):
    if data == "ddp" and tensor:
        return
    layout = parse_layout(data + tensor + pipeline, 64)
    assert parse_layout(layout_text(layout), 64) == layout


@pytest.mark.parametrize(
    ("text", "ranks", "says"),
    [
        ("dp", 2, "'dp' is not a parallel layout"),
        ("tp0", 2, "is not a parallel layout"),
        ("ddp-fsdp", 2, "is not a parallel layout"),
        ("tp2-tp2", 4, "is not a parallel layout"),
        ("tp3", 4, "divides the model over 3 ranks, and there are 4"),
        ("tp2", 4, "write fsdp-tp2, or start 2 ranks"),
        ("ddp-tp2", 4, "write fsdp-tp2"),
        ("fsdp-sp", 2, "add tp<N>"),
        ("fsdp-vp2", 2, "virtual_stages = 2"),
    ],
)
def test_what_is_no_layout_is_refused_with_a_way_out(text, ranks, says):
    with pytest.raises(InputError, match=says):
        parse_layout(text, ranks)
