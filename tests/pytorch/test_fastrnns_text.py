"""fastrnns' table as it grows, and two files side by side in every format."""

from __future__ import annotations

import csv
import io
import json

import pytest

from torchperf_ci.pytorch.fastrnns import (
    COLUMNS,
    TableFormat,
    VariantPair,
    VariantTable,
    VariantTimes,
    compare_pairs,
    write_rows,
)

PAIRS = [
    VariantPair(group="lstm", variant="jit", old=2.0, new=2.5),
    VariantPair(group="lstm", variant="=py|`x`\n<b>@all", old=None, new=1234.5678, note="failed in old"),
]


def test_the_table_fits_a_terminal() -> None:
    """A row has less than 80 characters; the spread has two digits, and a failure its reason in one line."""
    table = VariantTable(["jit", "py"])
    lines = [
        table.header(),
        table.row(VariantTimes(group="lstm", variant="jit", forward=(1.0, 2.0), backward=(1234.5678, 1234.5678))),
        table.row(VariantTimes(group="lstm", variant="py", failure="ValueError: no\nway")),
    ]
    assert "\n".join(lines) == (
        "               name   avg_fwd   std_fwd   min_fwd   avg_bwd   std_bwd   min_bwd\n"
        "                jit       1.5      0.71         1      1235         0      1235\n"
        "                 py failed: ValueError: no way"
    )
    assert max(map(len, lines)) == 79


def test_long_names_and_numbers_are_not_cut() -> None:
    """The first column is as wide as the longest variant's name; a number keeps its digits, whatever the width."""
    table = VariantTable(["a_name_that_is_rather_long"], separator=",")
    row = table.row(
        VariantTimes(
            group="g", variant="a_name_that_is_rather_long", forward=(1.2346e-6, 1.2346e-6), backward=(12000.0, 13000.0)
        )
    )
    assert [cell.strip() for cell in row.split(",")] == [
        *("a_name_that_is_rather_long", "1.235e-06", "0", "1.235e-06", "12500", "707", "12000")
    ]
    assert len(table.header()) == len(row)


@pytest.mark.parametrize("form", TableFormat)
def test_results_are_written_in_every_format(form: TableFormat) -> None:
    """A variant that failed has its reason there, harmless, and no numbers."""
    rows = [
        VariantTimes(group="lstm", variant="jit", forward=(1.0, 2.0), backward=(3.0,)),
        VariantTimes(group="lstm", variant="py", failure="no |`x`\n<b>@all"),
    ]
    text = write_rows(rows, form)
    if form is TableFormat.JSON:
        good, bad = json.loads(text)
        assert [good[name] for name in COLUMNS[1:]] == [1.5, pytest.approx(0.5**0.5), 1.0, 3.0, None, 3.0]
        assert [bad[name] for name in COLUMNS[1:]] == [None] * 6
        assert (good["failure"], bad["failure"]) == ("", "no |`x`\n<b>@all")
    elif form is TableFormat.CSV:
        head, good, bad = csv.reader(io.StringIO(text))
        assert head == ["group", *COLUMNS, "failure"]
        assert good == ["lstm", "jit", "1.5", str(0.5**0.5), "1.0", "3.0", "", "3.0", ""]
        assert bad == ["lstm", "py", *[""] * 6, "no |`x` <b>@all"]
    else:
        good, bad = text.splitlines()[-2:]
        assert [part for part in good.replace("|", " ").replace("`", "").split() if part != "±"] == [
            *("lstm", "jit", "1.5", "0.71", "1", "3", "3")
        ]
        if form is TableFormat.MARKDOWN:
            failure = "<code>no &#124;&#96;x&#96; &#60;b&#62;&#64;\u2060all</code>"
            assert bad.split("|")[-2].strip() == failure
        else:
            assert bad.endswith("no |`x` <b>@all")


def test_two_files_side_by_side() -> None:
    """The table shows old, new and ratio, a dash for what is missing, and a note that says why."""
    assert compare_pairs(PAIRS, TableFormat.TABLE) == (
        "group  name             old ms  new ms  ratio  note\n"
        "-----  ---------------  ------  ------  -----  -------------\n"
        "lstm   jit                   2     2.5  1.250\n"
        "lstm   =py|`x` <b>@all       –    1235      –  failed in old\n"
        "\n"
        "Geometric mean of new / old over 1 variant: 1.250 (above 1 is slower)"
    )


def test_names_are_harmless_in_markdown() -> None:
    """A pipe, a back-tick, a tag or a mention in a name stays text inside its cell."""
    *_, hostile, _, _ = compare_pairs(PAIRS, TableFormat.MARKDOWN).splitlines()
    assert [cell.strip() for cell in hostile.split("|")[1:-1]] == [
        *(
            "`lstm`",
            "<code>&#61;py&#124;&#96;x&#96; &#60;b&#62;&#64;\u2060all</code>",
            "–",
            "1235",
            "–",
            "failed in old",
        )
    ]


def test_csv_has_full_numbers_and_no_formulas() -> None:
    """Numbers as they are, empty where there are none; a name that begins like a formula is quoted."""
    rows = list(csv.reader(io.StringIO(compare_pairs(PAIRS, TableFormat.CSV))))
    assert rows == [
        ["group", "name", "old", "new", "ratio", "note"],
        ["lstm", "jit", "2.0", "2.5", "1.25", ""],
        ["lstm", "'=py|`x` <b>@all", "", "1234.5678", "", "failed in old"],
    ]


def test_json_is_a_list_of_objects() -> None:
    """JSON has the same columns, with null where there is no number."""
    first, second = json.loads(compare_pairs(PAIRS, TableFormat.JSON))
    assert first == {"group": "lstm", "name": "jit", "old": 2.0, "new": 2.5, "ratio": 1.25, "note": ""}
    assert second["name"] == "=py|`x`\n<b>@all"
    assert second["old"] is second["ratio"] is None
