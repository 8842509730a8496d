"""fastrnns' table as it grows, and two files side by side in every format."""

from __future__ import annotations

import csv
import io
import json

from torchperf_ci.pytorch.fastrnns.results import (
    ComparisonFormat,
    VariantPair,
    VariantTable,
    VariantTimes,
    compare_pairs,
)

PAIRS = [
    VariantPair(group="lstm", variant="jit", old=2.0, new=2.5),
    VariantPair(group="lstm", variant="=py|`x`\n<b>@all", old=None, new=1234.5678, note="failed in old"),
]


def test_the_table_is_aligned() -> None:
    """Columns are 16 wide, numbers have four digits, and a failure has its reason in one line."""
    table = VariantTable(["jit", "py"])
    lines = [
        table.header(),
        table.row(VariantTimes(group="lstm", variant="jit", forward=(1.0, 2.0), backward=(1234.5678, 1234.5678))),
        table.row(VariantTimes(group="lstm", variant="py", failure="ValueError: no\nway")),
    ]
    assert "\n".join(lines) == (
        "            name          avg_fwd          std_fwd         info_fwd"
        "          avg_bwd          std_bwd         info_bwd\n"
        "             jit              1.5           0.7071            min=1"
        "             1235                0         min=1235\n"
        "              py failed: ValueError: no way"
    )


def test_long_names_are_not_cut() -> None:
    """The first column is as wide as the longest variant's name."""
    table = VariantTable(["jit_layernorm_decom"], separator=",")
    row = table.row(VariantTimes(group="lstm", variant="jit_layernorm_decom", forward=(1.0,), backward=(2.0,)))
    assert row.split(",") == [
        "jit_layernorm_decom",
        *(text.rjust(16) for text in ("1", "nan", "min=1", "2", "nan", "min=2")),
    ]
    assert len(table.header()) == len(row)


def test_two_files_side_by_side() -> None:
    """The table shows old, new and ratio, a dash for what is missing, and a note that says why."""
    assert compare_pairs(PAIRS, ComparisonFormat.TABLE) == (
        "group    name               old (ms)    new (ms)    ratio  note\n"
        "-------  ---------------  ----------  ----------  -------  -------------\n"
        "lstm     jit                       2         2.5    1.250\n"
        "lstm     =py|`x` <b>@all           –        1235        –  failed in old"
    )


def test_names_are_harmless_in_markdown() -> None:
    """A pipe, a back-tick, a tag or a mention in a name stays text inside its cell."""
    *_, hostile = compare_pairs(PAIRS, ComparisonFormat.MARKDOWN).splitlines()
    assert hostile == (
        "| `lstm`  | <code>&#61;py&#124;&#96;x&#96; &#60;b&#62;&#64;\u2060all</code> "
        "|          – |       1235 |       – | failed in old |"
    )


def test_csv_has_full_numbers_and_no_formulas() -> None:
    """Numbers as they are, empty where there are none; a name that begins like a formula is quoted."""
    rows = list(csv.reader(io.StringIO(compare_pairs(PAIRS, ComparisonFormat.CSV))))
    assert rows == [
        ["group", "name", "old", "new", "ratio", "note"],
        ["lstm", "jit", "2.0", "2.5", "1.25", ""],
        ["lstm", "'=py|`x` <b>@all", "", "1234.5678", "", "failed in old"],
    ]


def test_json_is_a_list_of_objects() -> None:
    """JSON has the same columns, with null where there is no number."""
    first, second = json.loads(compare_pairs(PAIRS, ComparisonFormat.JSON))
    assert first == {"group": "lstm", "name": "jit", "old": 2.0, "new": 2.5, "ratio": 1.25, "note": ""}
    assert second["name"] == "=py|`x`\n<b>@all"
    assert second["old"] is second["ratio"] is None
