"""Polls of a source that speaks SAGE's protocol, over a real socket."""

from __future__ import annotations

import gzip
import json
import time
import uuid

import pytest

import settings
from errors import ConfigurationError, LoginRefused, PartUnavailable
from records import ImageRecord, SourceAddress, format_timestamp, image_id
from sources import Poller, sage_address
from sources.sage import SHORTEST_NS, WINDOW_NS, parse_line
from tests.fixtures.sage import QUERY, LocalSage, upload

NOW = time.time_ns()
HOUR = 3600 * 10**9
BEGIN = NOW - HOUR
CLOUD = SourceAddress("sage", "https://q.example/api/v1/query", "https://s.example", "https://m.example/", "u", "p")
# As the API gives it.
RECORD = (
    b'{"timestamp":"2022-08-08T15:04:48.820981933Z","name":"upload","value":"https://storage.sagecontinuum.org/api/v1/'
    b'data/Pluginctl/sage-app-tutorial-app-tutorial/000048b02d15bdc2/1659971088820981933-snapshot.jpg","meta":{'
    b'"filename":"snapshot.jpg","host":"000048b02d15bdc2.ws-nxcore","job":"Pluginctl","node":"000048b02d15bdc2",'
    b'"plugin":"app-tutorial","task":"app-tutorial","vsn":"W02F"}}'
)


def poller(denied: tuple[str, ...] = (), timeout: float = 5, tasks: str = "imagesampler-.*") -> Poller:
    return Poller(settings.Sage(unallowed_nodes=denied, task_filter=tasks), settings.Monitor(timeout=timeout))


def test_a_record_of_the_api_becomes_an_image_record_field_by_field() -> None:
    parsed = parse_line(RECORD, CLOUD)
    url = json.loads(RECORD)["value"]
    assert parsed.result == ImageRecord(
        id=image_id("sage", url),
        source="sage",
        url=url,
        timestamp="2022-08-08T15:04:48.820981933Z",
        captured_ns=1659971088820981933,
        filename="snapshot.jpg",
        vsn="W02F",
        node="000048b02d15bdc2",
        host="000048b02d15bdc2.ws-nxcore",
        job="Pluginctl",
        plugin="app-tutorial",
        task="app-tutorial",
    )


def test_the_query_is_the_one_of_the_contract(sage: LocalSage) -> None:
    poller(tasks="imagesampler-(top|left)").poll(sage.cloud, BEGIN // 1000 * 1000 + 789)
    assert sage.seen[0].body == {
        "start": format_timestamp(BEGIN // 1000 * 1000)[:-4] + "Z",
        "filter": {"task": "imagesampler-(top|left)"},
    }
    assert sage.seen[0].authorization is None, "the query API is open: the login is for the storage"


def test_nanoseconds_survive_a_poll(sage: LocalSage) -> None:
    sage.upload("/a.jpg", NOW)
    (record,) = poller().poll(sage.cloud, NOW - 10**9).records
    assert (record.captured_ns, record.timestamp) == (NOW, format_timestamp(NOW))


def test_missing_and_null_fields_become_empty(sage: LocalSage) -> None:
    sage.upload("/old.jpg", NOW, drop=["vsn", "host"], camera=None, zone=3, job=["x"], filename=None)
    (record,) = poller().poll(sage.cloud, BEGIN).records
    assert (record.vsn, record.host, record.camera, record.zone, record.job) == ("", "", "", "3", "")
    assert record.node == "000048b02d15bdc2"
    assert record.filename == "old.jpg", "a record without a filename takes the URL's"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": None}, "no_url"),
        ({"value": ""}, "no_url"),
        ({"value": 7}, "no_url"),
        ({"value": "ftp://x/y.jpg"}, "bad_url"),
        ({"value": "http://[x/y.jpg"}, "bad_url"),
        ({"value": "https://user:secret@x/y.jpg"}, "bad_url"),
        ({"value": "https://x/\r\ny.jpg"}, "bad_url"),
        ({"value": "https://x/\ud800.jpg"}, "bad_url"),
        ({"timestamp": None}, "no_timestamp"),
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"timestamp": "2025-12-01T00:00:00"}, "bad_timestamp"),
        ({"timestamp": "9999-12-01T00:00:00Z"}, "bad_timestamp"),
        ({"meta": None}, "no_vsn"),
        ({"meta": {"task": "imagesampler-top", "vsn": None, "node": ""}}, "no_vsn"),
    ],
)
def test_a_record_that_is_no_image_is_skipped_with_its_reason_and_the_others_go_on(
    sage: LocalSage, change: dict[str, object], reason: str
) -> None:
    good = sage.upload("/good.jpg", NOW)
    sage.say(upload("https://x/y.jpg", NOW) | change)
    page = poller().poll(sage.cloud, BEGIN)
    assert [record.url for record in page.records] == [good["value"]]
    (skipped,) = page.skipped
    assert skipped.reason == reason
    assert "\n" not in skipped.detail
    assert "secret" not in skipped.detail


@pytest.mark.parametrize("line", [b"garbage", b'{"timestamp": "2025', b"[1, 2]", b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_not_json_is_skipped_and_the_others_go_on(sage: LocalSage, line: bytes) -> None:
    sage.upload("/before.jpg", NOW)
    sage.say(line)
    sage.upload("/after.jpg", NOW)
    page = poller().poll(sage.cloud, BEGIN)
    assert len(page.records) == 2
    assert [skipped.reason for skipped in page.skipped] == ["bad_line"]


def test_an_endless_line_is_one_bad_line(sage: LocalSage) -> None:
    sage.upload("/before.jpg", NOW)
    sage.say(b'{"x": "' + b"x" * 5_000_000)
    sage.upload("/after.jpg", NOW)
    page = poller().poll(sage.cloud, BEGIN)
    assert (len(page.records), [skipped.reason for skipped in page.skipped]) == (2, ["bad_line"])


def test_a_skipped_line_has_the_same_id_at_every_poll_and_another_than_other_lines(sage: LocalSage) -> None:
    sage.upload("/good.jpg", NOW)
    sage.say(b"one", b"two")
    ids = [{skipped.id for skipped in poller().poll(sage.cloud, BEGIN).skipped} for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2
    assert all(uuid.UUID(skipped).version == 5 for skipped in ids[0])


@pytest.mark.parametrize("denied", ["w02f", "W02F", "000048B02D15BDC2"])
def test_denied_nodes_are_left_out_whatever_their_case(sage: LocalSage, denied: str) -> None:
    record = sage.upload("/denied.jpg", NOW)
    sage.upload("/other.jpg", NOW, vsn="W030", node="0000000000000001")
    page = poller(("x", denied)).poll(sage.cloud, BEGIN)
    assert [kept.vsn for kept in page.records] == ["W030"]
    (skipped,) = page.skipped
    assert (skipped.reason, skipped.vsn, skipped.id) == ("denied_node", "W02F", image_id("sage", record["value"]))


def test_a_page_of_denied_records_only_still_says_how_far_it_reached(sage: LocalSage) -> None:
    sage.upload("/1.jpg", NOW - 5)
    sage.upload("/2.jpg", NOW)
    page = poller(("W02F",)).poll(sage.cloud, BEGIN)
    assert (page.records, len(page.skipped), page.newest_ns) == ((), 2, NOW)


def test_a_bad_record_with_a_time_counts_for_how_far_the_page_reached(sage: LocalSage) -> None:
    sage.say(upload("", NOW))
    assert poller().poll(sage.cloud, BEGIN).newest_ns == NOW


def test_a_time_in_the_future_does_not_carry_the_cursor_there(sage: LocalSage) -> None:
    sage.upload("/tomorrow.jpg", NOW + 86400 * 10**9)
    page = poller().poll(sage.cloud, BEGIN)
    assert len(page.records) == 1
    assert page.newest_ns is not None
    assert page.newest_ns <= time.time_ns()


def test_an_empty_answer_is_an_empty_page(sage: LocalSage) -> None:
    page = poller().poll(sage.cloud, NOW)
    assert (page.records, page.skipped, page.newest_ns) == ((), (), None)


def test_what_is_no_upload_is_no_image_and_no_error(sage: LocalSage) -> None:
    sage.say(upload("https://x/y", NOW) | {"name": "plugin.duration.capture", "value": 1.5})
    page = poller().poll(sage.cloud, BEGIN)
    assert (page.records, page.skipped, page.newest_ns) == ((), (), NOW)


def test_records_come_oldest_first(sage: LocalSage) -> None:
    for back in (1, 3, 2):
        sage.upload(f"/{back}.jpg", NOW - back)
    assert [NOW - record.captured_ns for record in poller().poll(sage.cloud, BEGIN).records] == [3, 2, 1]


def test_overlapping_polls_give_the_same_ids(sage: LocalSage) -> None:
    for number in range(3):
        sage.upload(f"/{number}.jpg", NOW - number)
    first, second = (poller().poll(sage.cloud, start) for start in (BEGIN, NOW - 10**9))
    assert [record.id for record in first.records] == [record.id for record in second.records]
    assert len({record.id for record in first.records}) == 3


@pytest.mark.parametrize("members", [1, 2])
def test_gzip_is_unpacked_even_where_no_header_tells_of_it(sage: LocalSage, members: int) -> None:
    lines = [json.dumps(upload(f"https://x/{number}", NOW)).encode() + b"\n" for number in range(members)]
    sage.answer(QUERY, b"".join(map(gzip.compress, lines)))
    assert len(poller().poll(sage.cloud, BEGIN).records) == members


@pytest.mark.parametrize("cut", [1, 9, -20, -4])
def test_gzip_that_ends_early_is_no_page(sage: LocalSage, cut: int) -> None:
    body = gzip.compress(b"".join(json.dumps(upload(f"https://x/{n}", NOW)).encode() + b"\n" for n in range(50)))
    sage.answer(QUERY, body[:cut] if cut != 1 else body[: len(body) // 2])
    with pytest.raises(PartUnavailable, match="damaged gzip"):
        poller().poll(sage.cloud, BEGIN)


def test_an_answer_that_breaks_off_is_no_page(sage: LocalSage) -> None:
    sage.answer(QUERY, RECORD + b"\n", cut=True)
    with pytest.raises(PartUnavailable, match=r"sage: http://127.0.0.1:\d+/api/v1/query .*WEAVLOADER_SAGE_QUERY_URL"):
        poller().poll(sage.cloud, BEGIN)


def test_an_answer_that_is_no_json_at_all_is_named(sage: LocalSage) -> None:
    sage.answer(QUERY, b"<html>\n<p>Welcome</p>\n</html>")
    with pytest.raises(PartUnavailable, match=r"not newline-delimited JSON.*WEAVLOADER_SAGE_QUERY_URL"):
        poller().poll(sage.cloud, BEGIN)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, PartUnavailable),
        (503, PartUnavailable),
        (429, PartUnavailable),
        (401, LoginRefused),
        (403, LoginRefused),
        (400, ConfigurationError),
        (404, ConfigurationError),
        (302, ConfigurationError),
    ],
)
def test_a_status_is_one_clear_line_with_the_setting(sage: LocalSage, status: int, kind: type[Exception]) -> None:
    sage.answer(QUERY, status=status, headers={"Location": "https://elsewhere.example/?token=x"})
    with pytest.raises(kind, match="WEAVLOADER_SAGE_QUERY_URL") as caught:
        poller().poll(sage.cloud, BEGIN)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_a_source_that_is_not_there_is_named_with_its_url(open_sage) -> None:
    with LocalSage() as gone:
        cloud, replay = gone.cloud, gone.local
    with pytest.raises(PartUnavailable, match=r"refused.*WEAVLOADER_SAGE_QUERY_URL") as caught:
        poller().poll(cloud, BEGIN)
    assert caught.value.part == "sage"
    with pytest.raises(PartUnavailable, match="still running") as caught:
        poller().poll(replay, BEGIN)
    assert caught.value.part == "replay"


def test_a_source_that_does_not_answer_in_time_is_given_up(sage: LocalSage) -> None:
    sage.answer(QUERY, delay=30)
    with pytest.raises(PartUnavailable, match=r"longer than 0\.2 s"):
        poller(timeout=0.2).poll(sage.cloud, BEGIN)


def test_the_cloud_is_a_source_only_with_a_login() -> None:
    assert sage_address(settings.Sage()) is None
    address = sage_address(settings.Sage(user="me", password="secret"))
    assert address is not None
    assert (address.name, address.user, address.local) == ("sage", "me", False)
    assert "secret" not in repr(address)


class TestAfterAGap:
    """A poll covers one window; the next one goes on from where it ended."""

    OVERLAP = 900 * 10**9

    def test_a_poll_gives_one_window_and_says_that_it_is_complete(self, sage: LocalSage) -> None:
        start = NOW - 24 * HOUR
        for hour in (1, 5, 7, 23):
            sage.upload(f"/{hour}.jpg", start + hour * HOUR)
        page = poller().poll(sage.cloud, start)
        assert [(record.captured_ns - start) // HOUR for record in page.records] == [1, 5]
        assert page.complete_ns == (start + self.OVERLAP + WINDOW_NS) // 1000 * 1000
        assert page.reached_ns == page.complete_ns
        assert sage.seen[0].body["end"] == format_timestamp(page.complete_ns)[:-4] + "Z"

    def test_an_empty_window_leads_on_too(self, sage: LocalSage) -> None:
        page = poller().poll(sage.cloud, NOW - 24 * HOUR)
        assert (page.records, page.newest_ns) == ((), None)
        assert page.reached_ns is not None
        assert page.reached_ns > NOW - 24 * HOUR + self.OVERLAP

    def test_what_may_still_come_late_is_in_no_complete_window(self, sage: LocalSage) -> None:
        page = poller().poll(sage.cloud, time.time_ns() - WINDOW_NS - 2 * self.OVERLAP + 60 * 10**9)
        assert page.complete_ns is None
        assert "end" not in sage.seen[0].body

    def test_what_cannot_be_given_in_time_is_asked_for_by_halves_and_then_more_again(self, sage: LocalSage) -> None:
        asked = poller(timeout=0.2)
        start = NOW - 24 * HOUR
        sage.answer(QUERY, delay=30)
        for _ in range(2):
            with pytest.raises(PartUnavailable, match="longer than"):
                asked.poll(sage.cloud, start)
        sage.clear()  # however many of them it has seen
        asked._timeout = 5
        pages = [asked.poll(sage.cloud, start) for _ in range(4)]
        lengths = [(page.complete_ns or 0) - start - self.OVERLAP for page in pages]
        assert [round(WINDOW_NS / length, 3) for length in lengths] == [4, 2, 1, 1]

    def test_a_window_gets_no_shorter_than_leads_on(self, sage: LocalSage) -> None:
        asked = poller()
        sage.answer(QUERY, status=503, times=20)
        for _ in range(20):
            with pytest.raises(PartUnavailable):
                asked.poll(sage.cloud, NOW - 24 * HOUR)
        page = asked.poll(sage.cloud, NOW - 24 * HOUR)
        assert page.complete_ns is not None
        assert page.complete_ns >= NOW - 24 * HOUR + self.OVERLAP + SHORTEST_NS - 1000


class TestWhereThisHostsClockIsAhead:
    """The source's own clock says what is past: what it will be given later must not be passed over."""

    @pytest.fixture(autouse=True)
    def ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        true = time.time_ns
        monkeypatch.setattr("sources.sage.time.time_ns", lambda: true() + 8 * HOUR)

    def test_no_window_is_complete_that_ends_in_the_sources_future(self, sage: LocalSage) -> None:
        asked, start = poller(), NOW - 120 * 10**9
        sage.upload("/1.jpg", start)
        pages = [asked.poll(sage.cloud, start) for _ in range(2)]
        assert [page.complete_ns for page in pages] == [None, None]
        assert [page.newest_ns for page in pages] == [start, start]
        assert ["end" in seen.body for seen in sage.seen] == [True, False]

    def test_nothing_carries_the_cursor_beyond_the_sources_now(self, sage: LocalSage) -> None:
        sage.upload("/1.jpg", NOW + HOUR)
        page = poller().poll(sage.cloud, NOW - HOUR)
        assert page.newest_ns is not None
        assert NOW - HOUR < page.newest_ns < NOW + HOUR

    def test_a_gap_is_still_read_window_by_window(self, sage: LocalSage) -> None:
        asked, start = poller(), NOW - 24 * HOUR
        assert asked.poll(sage.cloud, start).complete_ns is not None
        assert asked.poll(sage.cloud, start).complete_ns is not None
