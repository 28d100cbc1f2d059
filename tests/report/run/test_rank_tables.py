"""Do the tables of several ranks say what each did, and why one is empty?"""

from __future__ import annotations

from records import make_ranks

from hwprof.report.run.rank_tables import collective_table, link_table, rank_phase_table, rank_table
from hwprof.specs.record.collective import Meetings, Slowdown


def test_each_rank_has_a_row_and_the_late_one_holds_the_others_up(record):
    ranks = make_ranks(record).ranks
    table = rank_table(ranks)
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, (cell.value for cell in row), strict=True)) for row in table.rows]
    assert [row["rank"] for row in rows] == [0, 1, 2, 3]
    assert [row["place"] for row in rows][:2] == ["data 0, tensor 0, stage 0", "data 1, tensor 0, stage 0"]
    assert [row["late_s"] > 0 for row in rows] == [False, False, True, False]
    assert "Rank 2" in table.note
    assert [len(rank_phase_table(ranks).rows), len(collective_table(ranks).rows)] == [4, 1]


def test_a_rank_of_which_nothing_came_is_named(record):
    ranks = make_ranks(record).ranks.model_copy(update={"missing": (3, 5), "sentence": ""})
    assert rank_table(ranks).note == "Nothing came from rank 3, 5."


def test_phases_of_ranks_stand_in_columns_and_a_rank_without_one_is_blank(record):
    ranks = make_ranks(record).ranks
    first = ranks.ranks[0].model_copy(update={"phases_s": {"forward": 0.1, "host_to_device": 0.002}})
    table = rank_phase_table(ranks.model_copy(update={"ranks": (first, *ranks.ranks[1:])}))
    assert [column.title for column in table.columns] == ["Rank", "forward", "host to device", "backward"]
    assert [row[2].text for row in table.rows] == ["2", "–", "–", "–"]


def test_an_empty_table_gives_its_own_reason(record):
    ranks = make_ranks(record).ranks
    assert link_table(ranks).empty == "The links were not probed before this run."
    timeless = tuple(rank.model_copy(update={"phases_s": {}}) for rank in ranks.ranks)
    silent = ranks.model_copy(update={"ranks": timeless, "collectives": ()})
    assert rank_phase_table(silent).empty == "No rank timed a phase."
    assert collective_table(silent).empty == "The profiled window has no collective."
    assert collective_table(silent).note == ""


def test_what_overlap_and_meeting_cost_stands_under_the_links(record):
    slow = Slowdown(
        work="products",
        beside="all_reduce",
        work_alone_s=1.0,
        work_together_s=1.234,
        beside_alone_s=2.0,
        beside_together_s=4.0,
    )
    meeting = Meetings(piece_s=0.01, met_s=0.015, pieces=10)
    ranks = make_ranks(record).ranks.model_copy(update={"slowdowns": (slow,), "meetings": (meeting,)})
    assert link_table(ranks.model_copy(update={"links": ()})).note == (
        "At the same time, computation takes 1.23 times as long, communication 2 times. "
        "Work of 10 ms takes 1.5 times as long where all ranks then meet."
    )
