"""Do the tables of several ranks say what each did, and why one is empty?"""

from __future__ import annotations

from records import make_ranks

from hwprof.report.run.rank_tables import collective_table, link_table, rank_phase_table, rank_table


def test_each_rank_has_a_row_and_the_late_one_holds_the_others_up(record):
    table = rank_table(make_ranks(record))
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, (cell.value for cell in row), strict=True)) for row in table.rows]
    assert [row["rank"] for row in rows] == [0, 1, 2, 3]
    assert "Rank 2" in table.note
    assert [len(rank_phase_table(make_ranks(record)).rows), len(collective_table(make_ranks(record)).rows)] == [4, 1]


def test_an_empty_table_gives_its_own_reason(record):
    several = make_ranks(record)
    assert link_table(several).empty == "The links were not probed before this run."
    assert link_table(record).empty == "One process ran: there are no other ranks."
    timeless = tuple(rank.model_copy(update={"phases_s": {}}) for rank in several.ranks.ranks)
    silent = several.ranks.model_copy(update={"ranks": timeless, "collectives": ()})
    without = several.model_copy(update={"ranks": silent})
    assert rank_phase_table(without).empty == "No rank timed a phase."
    assert collective_table(without).empty == "The profiled window has no collective."
