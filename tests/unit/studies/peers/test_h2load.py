from pathlib import Path

import pytest

from studies.peers.h2load import Aim, Counted, LoadFailed, median_us, parse, words
from studies.peers.rows import Load

PRINTED = """\
finished in 14.52ms, 206554.67 req/s, 56.17MB/s
requests: 3000 total, 3000 started, 3000 done, 2999 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 835.34KB (855388) total, 32.51KB (33292) headers (space savings 92.84%), 750.00KB (768000) data
                     min         max         mean         sd        +/- sd
time for request:       24us      2.47ms       {mean}       176us    99.47%
time for connect:       72us       343us       161us       123us    75.00%
"""


@pytest.mark.parametrize(("mean", "mean_us"), [("98us", 98.0), ("1.20ms", 1200.0), ("2.00s", 2e6)])
def test_what_h2load_prints_is_read_in_any_of_its_units(mean: str, mean_us: float) -> None:
    assert parse(PRINTED.format(mean=mean)) == Counted(3000, 2999, 206554.67, mean_us, 768000)


def test_what_is_no_result_is_refused_with_its_end() -> None:
    with pytest.raises(LoadFailed, match="no result: could not connect"):
        parse("could not\nconnect")


def test_no_output_at_all_is_said() -> None:
    with pytest.raises(LoadFailed, match="nothing at all"):
        parse("")


def test_the_median_is_of_the_third_column() -> None:
    assert median_us("1795\t200\t253\n1796\t200\t100\n1797\t200\t264\n") == 253


def test_a_log_without_requests_is_refused() -> None:
    with pytest.raises(LoadFailed, match="logged no request"):
        median_us("")


def test_a_body_is_posted_with_its_headers() -> None:
    aim = Aim("http://127.0.0.1:1/x", (("te", "trailers"),), Path("body"))
    expected = ["h2load", "-t1", "-c4", "-m8", "-d", "body", "-H", "te: trailers", "-n", "7", "http://127.0.0.1:1/x"]
    assert words(aim, Load(4, 8), "-n", "7") == expected


def test_without_a_body_it_is_a_get() -> None:
    assert words(Aim("http://127.0.0.1:1/x"), Load(1, 1)) == ["h2load", "-t1", "-c1", "-m1", "http://127.0.0.1:1/x"]
