"""What tests/run reads off bats, node and pytest: a test that is counted wrongly hides a failure."""
from pathlib import Path

import counts

BATS = """1..4
ok 1 status: says who serves in 12ms
not ok 2 status: a replica that does not run in 3ms
# (in test file tests/status.bats, line 3)
# ok this line belongs to the failure
ok 3 status: --json # skip no engine
not ok 4 setup_file failed
"""
NODE = """TAP version 13
# Subtest: health
    # Subtest: inner
    not ok 1 - inner
ok 1 - health
not ok 2 - ready
ok 3 - later # SKIP not here
okay is no verdict
"""
JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest" errors="1" failures="2" skipped="1" tests="10">
<testcase/></testsuite></testsuites>"""


def test_bats() -> None:
    assert counts.tap(BATS) == (1, 2, 1)


def test_node_counts_a_test_and_not_its_parts() -> None:
    assert counts.tap(NODE) == (1, 1, 1)


def test_nothing_was_written() -> None:
    assert counts.tap("") == (0, 0, 0)


def test_pytest(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(JUNIT)
    assert counts.junit(report) == (6, 3, 1)


def test_pytest_that_wrote_no_report(tmp_path: Path) -> None:
    assert counts.junit(tmp_path / "absent.xml") == (0, 0, 0)


def test_what_the_machine_cannot_run_is_told_from_other_skips(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert counts.beyond(report) == 0
    cases = "".join(f'<testcase><skipped type="pytest.skip" message="{text}">x</skipped></testcase>'
                    for text in (f"{counts.BEYOND}no systemd", "no engine", f"later {counts.BEYOND}"))
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert counts.beyond(report) == 1
