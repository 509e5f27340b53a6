"""Monitoring data: metrics of ZWatch and of Prometheus over HTTP, and what holds for every series."""

import json
import re
from pathlib import Path

import pytest
from asking import counted_points, each, failure
from hypothesis import given
from hypothesis import strategies as st

import zmock
from zmock import Catalogue, SettingsError, levels, named, serve

WEB, HOST = named("vm-web-1"), named("host-1")
DAY = 86400
LOADS = ("cpu", "memory", "read", "write", "in", "out")
BOTH = ("ZStack/VM", "ZStack/Host")
SELECTOR = f'collectd:collectd_virt_virt_cpu_total{{exported_instance="{WEB}"}}'


def now_of(mock):
    return int(mock.cloud.clock.now())


async def data(mock, name, namespace="ZStack/VM", **params):
    return (await mock.call("GetMetricData", namespace=namespace, metricName=name, **params))["data"]


async def points(mock, name, **params):
    """The points of the only series that a call selects, by their times."""
    answered = await data(mock, name, **params)
    assert len({tuple(point["labels"].items()) for point in answered}) <= 1
    return {point["time"]: point["value"] for point in answered}


async def of_web(mock, name="CPUAllUsedUtilization", **params):
    return await points(mock, name, labels=[f"VMUuid={WEB}"], **params)


async def of_host(mock, name="CPUAllUsedUtilization", **params):
    return await points(mock, name, namespace="ZStack/Host", labels=[f"HostUuid={HOST}"], **params)


# metadata


async def test_all_metrics_are_named_with_their_labels_and_each_has_points(cloud):
    metrics = (await cloud.call("GetAllMetricMetadata"))["metrics"]
    assert {metric["namespace"] for metric in metrics} == {*BOTH}
    for metric in metrics:
        some = await data(cloud, metric["name"], metric["namespace"])
        assert some and all([*point["labels"]] == metric["labelNames"] for point in some), metric


async def test_both_namespaces_have_the_metrics_of_a_console(cloud):
    names = {namespace: set() for namespace in BOTH}
    for metric in (await cloud.call("GetAllMetricMetadata"))["metrics"]:
        names[metric["namespace"]].add(metric["name"])
    wanted = "CPUUsedUtilization CPUAllUsedUtilization CPUAverageUsedUtilization MemoryUsedBytes MemoryFreeBytes MemoryUsedInPercent"
    wanted += " DiskAllReadBytes DiskAllWriteBytes NetworkAllInBytes NetworkAllOutBytes DiskReadBytes NetworkOutBytes"
    assert all({*wanted.split()} <= found for found in names.values())


async def test_the_values_of_labels_are_those_of_what_works_and_of_the_filter(cloud):
    asked = {"namespace": "ZStack/VM", "metricName": "CPUUsedUtilization"}
    labels = (await cloud.call("GetMetricLabelValue", **asked, labelNames=["VMUuid", "CPUNum"], filterLabels=[f"VMUuid={WEB}"]))["labels"]
    assert labels == [{"VMUuid": WEB, "CPUNum": "0"}]
    labels = (await cloud.call("GetMetricLabelValue", **asked, labelNames=["VMUuid"]))["labels"]
    assert {label["VMUuid"] for label in labels} == {vm["uuid"] for vm in await cloud.query("vm-instances", "state=Running")}


# times


async def test_the_last_minute_is_the_default_with_a_point_each_ten_seconds(cloud):
    now = now_of(cloud)
    assert [*await of_web(cloud)] == [*range(now - 60, now + 1, 10)]


async def test_times_and_periods_are_seconds_of_the_clock_and_the_future_has_no_points(cloud):
    now = now_of(cloud)
    assert [*await of_web(cloud, startTime=now - 300, endTime=now - 100, period=100)] == [now - 300, now - 200, now - 100]
    assert [*await of_web(cloud, startTime=now - 100, endTime=now + 900, period=50)] == [now - 100, now - 50, now]
    assert await of_web(cloud, startTime=now + 1) == {}
    before = await of_web(cloud, offsetAheadOfCurrentTime=3600, period=60)
    assert [*before] == [*range(now - 3600, now + 1, 60)]
    await cloud.advance(3600)
    assert await of_web(cloud, startTime=now - 3600, endTime=now, period=60) == before, "what was, stays"
    assert max(await of_web(cloud)) == now + 3600


async def test_a_long_time_without_a_period_has_about_a_hundred_points(cloud):
    assert len(await of_web(cloud, offsetAheadOfCurrentTime=DAY)) == 101


async def test_a_value_is_the_same_for_any_period_and_by_any_api(cloud):
    now = now_of(cloud)
    each_second = await of_web(cloud, startTime=now - 600, period=1)
    each_minute = await of_web(cloud, startTime=now - 600, period=60)
    assert each_minute.items() <= each_second.items()
    body = await cloud.call("PrometheusQueryPassThrough", expression=SELECTOR, startTime=now - 600, endTime=now, step="60s")
    (series,) = body["inventories"]["data"]["result"]
    assert {second: float(value) for second, value in series["values"]} == each_minute


async def test_the_same_seed_gives_the_same_data_and_another_seed_other_data():
    answers = []
    for seed in (1, 1, 2):
        async with serve(seed=seed) as mock:
            await mock.login()
            answers.append(await of_web(mock, startTime=1_795_000_000, endTime=1_795_000_600, period=60))
    assert answers[0] == answers[1] != answers[2]


# state


async def test_a_stopped_machine_has_no_points_and_a_started_one_those_since_its_start(cloud):
    await cloud.act("vm-instances", WEB, "stopVmInstance")
    assert await of_web(cloud, offsetAheadOfCurrentTime=DAY) == {}
    await cloud.advance(600)
    await cloud.act("vm-instances", WEB, "startVmInstance")
    start = now_of(cloud)
    await cloud.advance(100)
    await cloud.act("vm-instances", WEB, "updateVmInstance", name="web")
    assert [*await of_web(cloud, startTime=start - 600, period=50)] == [start, start + 50, start + 100]


async def test_a_new_machine_has_points_since_it_was_made(cloud):
    made = await cloud.create(
        "CreateVmInstance", name="v", instanceOfferingUuid=named("offering-small"), imageUuid=named("image-centos7"), l3NetworkUuids=[named("l3-private")]
    )
    now = now_of(cloud)
    assert [*await points(cloud, "MemoryUsedBytes", labels=[f"VMUuid={made['uuid']}"], offsetAheadOfCurrentTime=DAY, period=60)] == [now]


async def test_a_host_that_is_away_has_no_points_and_neither_have_its_machines(cloud):
    before = await of_host(cloud), await of_web(cloud)
    incident = await cloud.incident({"host-down": "host-1"})
    assert await of_host(cloud) == await of_web(cloud) == {} != before[0]
    await cloud.end_incident(incident["id"])
    await cloud.call("ReconnectHost", uuid=HOST)
    assert (await of_host(cloud), await of_web(cloud)) == before


async def test_a_host_is_as_busy_as_its_machines_and_less_without_one(cloud):
    params = {"offsetAheadOfCurrentTime": 3600, "period": 600}
    before = {name: await of_host(cloud, name, **params) for name in ("CPUAllUsedUtilization", "MemoryUsedBytes", "DiskAllReadBytes", "NetworkAllOutBytes")}
    web = {name: await of_web(cloud, name, **params) for name in before}
    await cloud.act("vm-instances", WEB, "stopVmInstance")
    vm, host = (cloud.cloud.store.peek(*of) for of in (("VmInstance", WEB), ("Host", HOST)))
    for name, series in before.items():
        after = await of_host(cloud, name, **params)
        part = vm["cpuNum"] / host["cpuNum"] if name.startswith("CPU") else 1
        assert {second: round(value - web[name][second] * part, 1) for second, value in series.items()} == pytest.approx(after, abs=0.1), name


async def test_used_and_free_make_the_whole(cloud):
    memory = cloud.cloud.store.peek("VmInstance", WEB)["memorySize"]
    for used, free, whole in (("MemoryUsedBytes", "MemoryFreeBytes", memory), ("MemoryUsedInPercent", "MemoryFreeInPercent", 100), ("CPUAllUsedUtilization", "CPUAllIdleUtilization", 100)):
        first, second = await of_web(cloud, used), await of_web(cloud, free)
        assert {at: value + second[at] for at, value in first.items()} == pytest.approx(dict.fromkeys(first, whole), abs=0.02)


async def test_the_processors_of_a_machine_are_on_average_as_busy_as_all_of_them(cloud):
    params = {"labels": [f"VMUuid={named('vm-db-1')}"]}
    of_each, of_all = await data(cloud, "CPUUsedUtilization", **params), await points(cloud, "CPUAllUsedUtilization", **params)
    busy = {}
    for point in of_each:
        busy.setdefault(point["time"], []).append(point["value"])
    count = cloud.cloud.store.peek("VmInstance", named("vm-db-1"))["cpuNum"]
    assert count > 1 and {len({*values}) for values in busy.values()} == {count}
    assert {second: sum(values) / count for second, values in busy.items()} == pytest.approx(of_all, abs=0.02)


@each("cloud_name", ("demo", "large:300"))
async def test_no_machine_and_no_host_uses_more_than_it_has(cloud_name):
    async with serve(cloud=cloud_name) as mock:
        await mock.advance(DAY)
        await mock.login()
        hosts = {host["uuid"]: host for host in mock.cloud.store.rows("Host")}
        vms = {vm["uuid"]: vm for vm in mock.cloud.store.rows("VmInstance")}
        params = {"offsetAheadOfCurrentTime": DAY, "period": 43200}
        used, busy = [
            {(point["labels"]["HostUuid"], point["time"]): point["value"] for point in await data(mock, name, "ZStack/Host", **params)}
            for name in ("MemoryUsedBytes", "CPUAllUsedUtilization")
        ]
        assert busy and all(0 < value < 100 for value in busy.values())
        assert all(0 < value < hosts[host]["totalMemoryCapacity"] for (host, _), value in used.items())
        for point in await data(mock, "MemoryUsedBytes", **params):
            used[vms[point["labels"]["VMUuid"]]["hostUuid"], point["time"]] -= point["value"]
        for point in await data(mock, "CPUAllUsedUtilization", **params):
            vm = vms[point["labels"]["VMUuid"]]
            busy[vm["hostUuid"], point["time"]] -= point["value"] * vm["cpuNum"] / hosts[vm["hostUuid"]]["cpuNum"]
        assert min(used.values()) > 0 and min(busy.values()) > 0, "a host uses more than its machines do together"


async def test_the_machines_of_an_overcommitted_host_share_its_processors_and_its_memory(cloud):
    names = ("CPUAllUsedUtilization", "MemoryUsedInPercent")
    before = [await of_web(cloud, name) for name in names]
    cloud.cloud.change("VmInstance", WEB, cpuNum=100, memorySize=1 << 40)
    for name, alone in zip(names, before):
        shared, host = await of_web(cloud, name), await of_host(cloud, name)
        assert max(shared.values()) < min(alone.values()) and max(host.values()) < 100


# labels


async def test_a_label_may_name_several_values_and_an_account_sees_only_its_own_machines_and_no_host(cloud):
    other = named("vm-web-2")
    both = await data(cloud, "CPUAllUsedUtilization", labels=[f"VMUuid =~ {WEB}|{other}"], offsetAheadOfCurrentTime=1)
    assert {point["labels"]["VMUuid"] for point in both} == {WEB, other}
    assert await data(cloud, "CPUAllUsedUtilization", labels=[f"VMUuid={'a' * 31}4"]) == []
    await cloud.create("CreateAccount", name="a", password="b" * 128)
    cloud.session = (await cloud.call("LogInByAccount", accountName="a", password="b" * 128))["inventory"]["uuid"]
    assert await data(cloud, "CPUAllUsedUtilization") == []
    for api, params in {
        "GetMetricData": {"namespace": "ZStack/Host", "metricName": "MemoryUsedBytes"},
        "GetMetricLabelValue": {"namespace": "ZStack/Host", "metricName": "MemoryUsedBytes", "labelNames": ["HostUuid"]},
        "PrometheusQueryPassThrough": {"expression": SELECTOR},
        "PrometheusQueryVmMonitoringData": {"expression": SELECTOR, "vmUuids": [WEB]},
    }.items():
        assert re.match(r"SYS\.1006: (operation is denied|the account.* has no access)", await failure(cloud, api, **params)), api


# Prometheus


async def test_prometheus_answers_a_matrix_or_a_vector_at_the_end(cloud):
    now = now_of(cloud)
    body = await cloud.call("PrometheusQueryPassThrough", expression=SELECTOR, relativeTime="5m", step="1m")
    assert (body["inventories"]["status"], body["inventories"]["data"]["resultType"]) == ("success", "matrix")
    (series,) = body["inventories"]["data"]["result"]
    assert series["metric"] == {"__name__": "collectd:collectd_virt_virt_cpu_total", "exported_instance": WEB, "hostUuid": HOST}
    assert [second for second, _ in series["values"]] == [*range(now - 300, now + 1, 60)]
    body = await cloud.call("PrometheusQueryPassThrough", expression=SELECTOR, instant=True)
    (vector,) = body["inventories"]["data"]["result"]
    assert body["inventories"]["data"]["resultType"] == "vector" and vector["value"] == series["values"][-1]


async def test_prometheus_selects_by_machine_and_by_label(cloud):
    body = await cloud.call("PrometheusQueryVmMonitoringData", expression='collectd:collectd_virt_virt_vcpu{type=~"0|1", }', vmUuids=[named("vm-db-1")], instant=True)
    assert [series["metric"]["type"] for series in body["inventories"]["data"]["result"]] == ["0", "1"]
    body = await cloud.call("PrometheusQueryPassThrough", expression="collectd:collectd_memory", instant=True)
    connected = await cloud.query("hosts", "status=Connected")
    assert {series["metric"]["hostUuid"] for series in body["inventories"]["data"]["result"]} == {host["uuid"] for host in connected}


# refusals

VM = {"namespace": "ZStack/VM", "metricName": "MemoryUsedBytes"}
PASS, OF_VMS = "PrometheusQueryPassThrough", "PrometheusQueryVmMonitoringData"
REFUSED = {
    "an unknown namespace": ("GetMetricData", VM | {"namespace": "ZStack/Vm"}, "the namespace[ZStack/Vm] has no metric[MemoryUsedBytes]"),
    "an unknown metric": ("GetMetricData", VM | {"metricName": "CPUUsedUtilisation"}, "the namespace[ZStack/VM] has no metric[CPUUsedUtilisation]"),
    "an unknown metric for label values": ("GetMetricLabelValue", VM | {"metricName": "x", "labelNames": ["a"]}, "has no metric[x]"),
    "an unknown label": ("GetMetricData", VM | {"labels": ["VmUuid=1"]}, "metric[MemoryUsedBytes] of the namespace[ZStack/VM] has no label named VmUuid"),
    "a label of other metrics": ("GetMetricLabelValue", VM | {"labelNames": ["CPUNum"]}, "has no label named CPUNum"),
    "a label without a value": ("GetMetricData", VM | {"labels": ["VMUuid"]}, "the label string[VMUuid] contains no valid operator"),
    "a pattern": ("GetMetricData", VM | {"labels": ["VMUuid=~a(b|c)+"]}, "zmock reads NAME=VALUE and NAME=~VALUE|VALUE"),
    "a function": ("GetMetricData", VM | {"functions": ["average(groupBy='VMUuid')"]}, "zmock evaluates no functions"),
    "a period of nothing": ("GetMetricData", VM | {"period": 0}, "period[0] must be 1 second or more"),
    "an end before the start": ("GetMetricData", VM | {"startTime": 5, "endTime": 3}, "endTime[3] must not be before startTime[5]"),
    "milliseconds": ("GetMetricData", VM | {"startTime": 1531186266000}, "must be in seconds since 1970, not in milliseconds"),
    "an unknown metric of Prometheus": (PASS, {"expression": "collectd:collectd_memry"}, "has no metric[collectd:collectd_memry]"),
    "an unknown label of Prometheus": (PASS, {"expression": 'collectd:collectd_memory{host="a"}'}, "has no label named host"),
    "an expression": (PASS, {"expression": "rate(collectd:collectd_memory[5m])"}, "zmock evaluates no expression[rate(collectd:collectd_memory[5m])] but a plain selector"),
    "another operator": (PASS, {"expression": 'collectd:collectd_memory{memory!="used"}'}, "but a plain selector"),
    "a time in words": (PASS, {"expression": SELECTOR, "relativeTime": "soon"}, "the relativeTime[soon] is invalid, it must be in format of, for example, 10s, 1h"),
    "a step of nothing": (PASS, {"expression": SELECTOR, "step": "0s"}, "the step[0s] is invalid"),
    "a metric of hosts for machines": (OF_VMS, {"expression": "collectd:collectd_memory", "vmUuids": [WEB]}, "has no label named exported_instance"),
}  # fmt: skip


@each("mistake", REFUSED)
async def test_a_mistake_is_refused_with_the_reason(cloud, mistake):
    api, params, why = REFUSED[mistake]
    assert re.match(r"SYS\.1007: ", refusal := await failure(cloud, api, **params)) and why in refusal
    assert cloud.calls(api)[-1].status == 400


async def test_the_hint_names_the_nearest_metric_or_the_labels(cloud):
    await failure(cloud, "GetMetricData", **VM | {"metricName": "CPUAllUsedUtilisation"})
    assert cloud.calls("GetMetricData")[-1].hints == ["did you mean ZStack/VM CPUAllUsedUtilization?"]
    await failure(cloud, "GetMetricData", **VM | {"labels": ["Uuid=1"]})
    assert cloud.calls("GetMetricData")[-1].hints == ["its labels are VMUuid"]


async def test_too_many_points_are_refused_before_they_are_made(monkeypatch):
    async with serve(cloud="large:300") as mock:
        await mock.advance(10 * DAY)
        await mock.login()
        made = counted_points(monkeypatch)
        assert "SYS.1006: the call needs more than 120000 values" in await failure(mock, "GetMetricData", **VM, offsetAheadOfCurrentTime=10 * DAY, period=60)
        assert 0 < sum(made) <= zmock.MOST_VALUES
        running = [vm["uuid"] for vm in mock.cloud.store.rows("VmInstance") if vm["state"] == "Running"][:100]
        many = await data(mock, "MemoryUsedBytes", offsetAheadOfCurrentTime=999 * 60, period=60, labels=["VMUuid=~" + "|".join(running)])
        assert len(many) == 100_000


# what holds for every series


class Seeded:
    def __init__(self, seed):
        self.seed = str(seed)


SERIES = {"seed": st.integers(0, 99), "uuid": st.text("0123456789abcdef", min_size=32, max_size=32), "load": st.sampled_from(LOADS)}


@given(start=st.integers(0, 4_000_000_000), period=st.integers(1, DAY), count=st.integers(0, 50), **SERIES)
def test_a_level_lies_between_nothing_and_all(seed, uuid, load, start, period, count):
    busy = levels(Seeded(seed), uuid, load, range(start, start + count * period, period))
    assert len(busy) == count and all(0.05 <= level <= 0.9 for level in busy)


@given(start=st.integers(0, 4_000_000_000), period=st.integers(1, DAY), bounds=st.tuples(st.integers(0, 30), st.integers(0, 30)), **SERIES)
def test_the_levels_of_a_part_of_a_window_are_those_of_the_window(seed, uuid, load, start, period, bounds):
    window = range(start, start + 30 * period, period)
    part = slice(*sorted(bounds))
    assert levels(Seeded(seed), uuid, load, window[part]) == levels(Seeded(seed), uuid, load, window)[part]


@given(start=st.integers(0, 4_000_000_000), **SERIES)
def test_a_level_moves_over_a_day(seed, uuid, load, start):
    busy = levels(Seeded(seed), uuid, load, range(start, start + DAY, 3600))
    assert max(busy) - min(busy) > 0.2


def test_the_catalogue_refuses_a_metric_of_nothing(tmp_path):
    file = tmp_path / "metrics.json"
    for row, why in (({"type": "Volume"}, "type: 'Volume' is not VmInstance or Host"), ({"load": "heat"}, "load: 'heat' is not cpu, memory"), ({"shows": "much"}, "shows: 'much' is not used")):
        record = {"namespace": "ZStack/VM", "name": "x", "type": "Host", "load": "cpu", "shows": "used", "labels": {"HostUuid": "uuid"}} | row
        file.write_text(json.dumps({"metrics": [record]}))
        with pytest.raises(SettingsError, match=re.escape(why)):
            Catalogue(Path(zmock.__file__).parent / "data" / "catalogue.json", [file])


@each("page", ("docs/monitoring.md", "docs/zh/monitoring.md"))
def test_the_page_names_all_metrics_and_their_labels(page):
    text = (Path(zmock.__file__).parent / page).read_text(encoding="utf-8")
    for metric in zmock.catalogue().metrics.values():
        words = [metric.name.removeprefix("collectd:collectd_"), *(label for label in metric.labels if label != "__name__")]
        assert [word for word in words if not re.search(rf"`{word}\b", text)] == []
