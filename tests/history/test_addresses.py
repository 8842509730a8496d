"""Addresses of a site's pages."""

import re

import pytest

from report_builders import case
from torchperf_ci.dashboard.words import case_address, identify_case

HOSTILE = case("../../<img src=x onerror=alert(1)>?#&", suite="\"'\0\udc80", compiler="a/b")


def test_a_case_has_an_address_of_its_own():
    """Whatever it is called; another compiler is another case."""
    addresses = {case_address("", each) for each in (case(), case(compiler="eager"), case("lstm"), HOSTILE)}
    assert len(addresses) == 4
    assert all(re.fullmatch("#/case/[0-9a-f]{12}", address) for address in addresses)


def test_a_metric_is_text_in_an_address():
    """It cannot end the query, or begin another one."""
    assert case_address("", case(), "tokens & ms/#?").endswith("?metric=tokens%20%26%20ms%2F%23%3F")


@pytest.mark.parametrize(
    ("site", "page"),
    [
        ("https://org.github.io/perf", "https://org.github.io/perf/"),
        ("https://org.github.io/perf/", "https://org.github.io/perf/"),
        ("https://ci/artifact/7/index.html", "https://ci/artifact/7/index.html"),
    ],
)
def test_addresses_begin_with_that_of_the_site(site: str, page: str):
    """A folder, with or without its slash, or the page itself, where a host shows no folders."""
    assert case_address(site, case()) == f"{page}#/case/{identify_case(case())}"
