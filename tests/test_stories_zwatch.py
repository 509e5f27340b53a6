"""Alarms, events and audits as a client lives them over HTTP, in both dialects: what a topic sends, and what histories tell."""

import asyncio
import base64
import time

import aiohttp
import aiohttp.web
import pytest
from aiohttp.test_utils import TestServer
from asking import counted_points, each

from zmock import SHA512_OF_PASSWORD, Store, named, serve

WEB, HOST4, TOPIC, ALARM = named("vm-web-1"), named("host-4"), named("topic-alarms"), named("alarm-web-1-cpu")
BUSY = {"namespace": "ZStack/VM", "metricName": "CPUAllUsedUtilization", "comparisonOperator": "GreaterThan", "threshold": 0, "period": 60, "repeatInterval": 0}
OF_WEB = {"labels": [{"key": "VMUuid", "operator": "Equal", "value": WEB}]}
DEPTH = {"namespace": "Queue", "metricName": "Depth", "comparisonOperator": "GreaterThanOrEqualTo", "threshold": 90, "period": 60, "repeatInterval": 0}


@pytest.fixture
async def cloud():
    async with serve(open=True) as mock:  # a session would not last for what is looked at here
        await mock.login()
        yield mock


async def sink(mock, method="GET"):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/hooks") as answer:
        return (await answer.json()).get("hooks")


async def delivered(mock, *names):
    """What the sink was sent since the last look, by these members of the bodies."""
    await mock.advance(0)
    hooks = await sink(mock)
    await sink(mock, "DELETE")
    return [tuple(hook["body"].get(name) for name in names) for hook in hooks]


async def subscribed(mock, **endpoint):
    """A topic with an HTTP endpoint that leads to the sink: the actions of an alarm, and the uuids of both."""
    topic = await mock.create("CreateSNSTopic", name="t")
    end = await mock.create("CreateSNSHttpEndpoint", name="sink", url=f"{mock.base}/zmock/hooks", **endpoint)
    await mock.call("SubscribeSNSTopic", topicUuid=topic["uuid"], endpointUuid=end["uuid"])
    return {"actions": [{"actionType": "sns", "actionUuid": topic["uuid"]}]}, topic["uuid"], end["uuid"]


async def put(mock, *values, **labels):
    await mock.call("PutMetricData", namespace="Queue", data=[{"metricName": "Depth", "value": value, "labels": labels} for value in values])


async def status_of(mock, alarm):
    return (await mock.query("zwatch/alarms", f"uuid={alarm}"))[0]["status"]


async def history(mock, alarm, *names, **params):
    answer = await mock.call("GetAlarmData", conditions=[f"alarmUuid={alarm}"], **params)
    return [tuple(record[name] for name in names) for record in answer["histories"]]


async def test_an_alarm_on_a_machine_fires_at_the_end_of_a_period_repeats_and_recovers(each_dialect):
    mock = each_dialect
    actions, topic, _ = await subscribed(mock)
    alarm = await mock.create("CreateAlarm", name="busy", **BUSY | OF_WEB | actions | {"repeatInterval": 180})
    assert (alarm["status"], alarm["actions"], [label["key"] for label in alarm["labels"]]) == ("OK", [{"alarmUuid": alarm["uuid"], "actionType": "sns", "actionUuid": topic}], ["VMUuid"])
    assert await delivered(mock) == [], "a clock that stands evaluates nothing"
    await mock.advance(60)
    assert await delivered(mock, "alarmName", "alarmStatus", "threshold") == [("busy", "Alarm", 0)] and await status_of(mock, alarm["uuid"]) == "Alarm"
    await mock.advance(120)
    assert await delivered(mock) == []
    await mock.advance(600)
    assert await delivered(mock, "alarmStatus") == [("Alarm",)] * 4, "it repeats"
    await mock.call("UpdateAlarm", uuid=alarm["uuid"], threshold=100.5)
    await mock.advance(60)
    assert await delivered(mock, "alarmStatus") == [("OK",)], "and recovers"
    await mock.advance(3600)
    assert await delivered(mock) == []
    assert await history(mock, alarm["uuid"], "alarmStatus", "alarmName") == [("OK", "busy"), ("Alarm", "busy")], "the newest first"


async def test_an_alarm_is_on_if_all_points_of_a_period_meet_its_condition(cloud):
    alarm = await cloud.create("CreateAlarm", name="busy", **BUSY | OF_WEB)
    threshold = 0
    for n in range(5):
        await cloud.advance(60)
        end = int(cloud.clock.now())
        times = {"startTime": end - 48, "endTime": end, "period": 12}
        points = (await cloud.call("GetMetricData", namespace="ZStack/VM", metricName="CPUAllUsedUtilization", labels=[f"VMUuid={WEB}"], **times))["data"]
        values = [point["value"] for point in points]
        assert len(values) == 5 and await status_of(cloud, alarm["uuid"]) == ("Alarm" if min(values) > threshold else "OK")
        if n == 0:
            assert await history(cloud, alarm["uuid"], "metricValue") == [(min(values),)]
        threshold = (min(values) + max(values)) / 2
        await cloud.call("UpdateAlarm", uuid=alarm["uuid"], threshold=threshold)


async def test_an_alarm_has_no_data_as_long_as_its_machine_is_stopped(cloud):
    alarm = await cloud.create("CreateAlarm", name="busy", **BUSY | OF_WEB)
    await cloud.advance(7200)
    assert await status_of(cloud, alarm["uuid"]) == "Alarm"
    await cloud.act("vm-instances", WEB, "stopVmInstance")
    await cloud.advance(60)
    assert await status_of(cloud, alarm["uuid"]) == "InsufficientData", "however far it had looked ahead"
    await cloud.act("vm-instances", WEB, "startVmInstance")
    await cloud.advance(60)
    assert await history(cloud, alarm["uuid"], "alarmStatus") == [("Alarm",), ("InsufficientData",), ("Alarm",)]


@each(("operator", "threshold", "status"), [("GreaterThan", 5, "OK"), ("GreaterThanOrEqualTo", 5, "Alarm"), ("LessThan", 5, "OK"), ("LessThanOrEqualTo", 5, "Alarm"), ("LessThan", 6, "Alarm")])
async def test_a_value_is_compared_as_the_operator_says(cloud, operator, threshold, status):
    await put(cloud, 5)
    alarm = await cloud.create("CreateAlarm", name="depth", **DEPTH | {"comparisonOperator": operator, "threshold": threshold})
    await put(cloud, 5)
    assert await status_of(cloud, alarm["uuid"]) == status


async def test_a_point_that_a_client_puts_fires_an_alarm_at_once(each_dialect):
    mock = each_dialect
    actions, _, _ = await subscribed(mock)
    await put(mock, 10, queue="mail")
    alarm = await mock.create("CreateAlarm", name="deep", labels=[{"key": "queue", "op": "Equal", "value": "mail"}], **DEPTH | actions)
    await put(mock, 95, queue="news")
    assert await delivered(mock) == [], "another queue"
    await put(mock, 95, queue="mail")
    assert await delivered(mock, "alarmName", "metricValue") == [("deep", 95)]
    await mock.advance(120)
    assert await delivered(mock, "alarmStatus") == [("InsufficientData",)], "nothing was put for a period"
    await put(mock, 1, queue="mail")
    assert await history(mock, alarm["uuid"], "alarmStatus") == [("OK",), ("InsufficientData",), ("Alarm",)]


async def test_points_of_clients_are_metrics_as_others(cloud):
    await put(cloud, 1.5, queue="mail")
    await cloud.advance(10)
    await put(cloud, 2, queue="mail")
    metrics = (await cloud.call("GetAllMetricMetadata"))["metrics"]
    assert metrics[-1] == {"namespace": "Queue", "name": "Depth", "labelNames": ["queue"]}
    points = (await cloud.call("GetMetricData", namespace="Queue", metricName="Depth", labels=["queue=mail"]))["data"]
    assert sorted(point["value"] for point in points) == [1.5, 2] and abs(points[0]["time"] - points[1]["time"]) == 10
    labels = await cloud.call("GetMetricLabelValue", namespace="Queue", metricName="Depth", labelNames=["queue"])
    assert labels == {"labels": [{"queue": "mail"}]}


async def test_points_of_clients_are_bounded_and_the_oldest_go(cloud, monkeypatch):
    monkeypatch.setattr("zmock.MOST_POINTS", 3)
    await put(cloud, 1, 2)
    await put(cloud, 3, 4)
    assert [point["value"] for point in cloud.cloud.store.rows("MetricDatum")] == [2, 3, 4]


async def test_what_is_disabled_sends_nothing(cloud):
    actions, topic, endpoint = await subscribed(cloud)
    await put(cloud, 1)
    alarm = await cloud.create("CreateAlarm", name="deep", **DEPTH | actions)
    for api, uuid in (("ChangeSNSTopicState", topic), ("ChangeSNSApplicationEndpointState", endpoint), ("ChangeAlarmState", alarm["uuid"])):
        await cloud.call(api, uuid=uuid, stateEvent="disable")
        await put(cloud, 95)
        assert await delivered(cloud) == [], api
        await cloud.call(api, uuid=uuid, stateEvent="enable")
        await cloud.advance(120)
        await put(cloud, 1)
        await delivered(cloud)
    await cloud.call("UnsubscribeSNSTopic", topicUuid=topic, endpointUuid=endpoint)
    await put(cloud, 95)
    assert await status_of(cloud, alarm["uuid"]) == "Alarm" and await delivered(cloud) == []


async def test_an_endpoint_logs_in_with_its_password_and_others_get_no_message(cloud):
    logins = []

    async def receive(request):
        logins.append(request.headers["Authorization"])
        return aiohttp.web.Response()

    app = aiohttp.web.Application()
    app.router.add_post("/", receive)
    async with TestServer(app) as receiver:
        await fire_on(cloud, str(receiver.make_url("/")))
    assert logins == ["Basic " + base64.b64encode(b"ops:sesam").decode()]


async def fire_on(cloud, url):
    """Fire an alarm whose topic leads to endpoints of all kinds."""
    topic = named("topic-alarms")
    kinds = {"Http": {"url": url, "username": "ops", "password": "sesam"}, "Email": {"email": "ops@example.com"}, "DingTalk": {"url": "https://oapi.dingtalk.com/robot"}}
    for kind, more in kinds.items():
        made = await cloud.create(f"CreateSNS{kind}Endpoint", name="n", **more)
        assert "password" not in made
        await cloud.call("SubscribeSNSTopic", topicUuid=topic, endpointUuid=made["uuid"])
    await put(cloud, 1)
    await cloud.create("CreateAlarm", name="deep", actions=[{"actionType": "sns", "actionUuid": topic}], **DEPTH)
    await put(cloud, 95)
    await cloud.advance(0)


async def test_an_event_reaches_its_subscribers(each_dialect):
    mock = each_dialect
    actions, _, _ = await subscribed(mock)
    gone = {"namespace": "ZStack/Host", "eventName": "HostDisconnected"}
    await mock.call("SubscribeEvent", **gone, **actions, labels=[{"key": "HostUuid", "operator": "Equal", "value": named("host-1")}])
    every = (await mock.call("SubscribeEvent", **gone, **actions))["inventory"]
    await mock.incident({"host-down": "host-1"})
    assert await delivered(mock, "name", "resourceId") == [("HostDisconnected", named("host-1"))] * 2
    await mock.incident({"host-down": "host-2"})
    assert await delivered(mock, "resourceId") == [(named("host-2"),)]
    await mock.call("UnsubscribeEvent", uuid=every["uuid"])
    await mock.incident({"host-down": "host-3"})
    assert await delivered(mock) == []
    events = (await mock.call("GetEventData", conditions=["name=HostDisconnected"], limit=3))["events"]
    assert [event["resourceId"] for event in events] == [named(f"host-{n}") for n in (3, 2, 1)]


async def test_the_metadata_of_events_names_all_of_them(cloud):
    families = cloud.cloud.catalogue.events.values()
    assert (await cloud.call("GetAllEventMetadata"))["events"] == [{"namespace": row.namespace, "name": row.name, "labelNames": [row.label]} for row in families]


async def test_audits_are_the_calls_that_made_api_jobs(cloud):
    zone = await cloud.create("CreateZone", name="z")
    await cloud.advance(1)
    with pytest.raises(RuntimeError):
        await cloud.call("UpdateZone", uuid="a" * 31 + "4", name="n")
    failed, made = (await cloud.call("GetAuditData"))["audits"]
    assert made["apiName"].endswith("APICreateZoneMsg") and "error" not in made and made["operatorAccountUuid"]
    assert "not found" in failed["error"] and failed["time"] == made["time"] + 1000
    await cloud.delete("zones", zone["uuid"])
    (audit,) = (await cloud.call("GetAuditData", conditions=[f"resourceUuid={zone['uuid']}"]))["audits"]
    assert audit["apiName"].endswith("APIDeleteZoneMsg")


async def test_audits_leave_out_calls_of_an_api_that_the_catalogue_has_no_longer(cloud, monkeypatch):
    await cloud.create("CreateZone", name="z")
    await cloud.advance(1)
    await cloud.create("CreateSNSTopic", name="t")
    rows = cloud.cloud.catalogue  # that of all tests, in which the order of the APIs stays
    monkeypatch.setattr(rows, "apis", {name: api for name, api in rows.apis.items() if name != "CreateZone"})
    (audit,) = (await cloud.call("GetAuditData"))["audits"]
    assert audit["apiName"].endswith("APICreateSNSTopicMsg")


async def test_a_period_may_have_any_length(cloud):
    alarm = await cloud.create("CreateAlarm", name="busy", **BUSY | OF_WEB | {"period": 61})
    await cloud.advance(60)
    assert await status_of(cloud, alarm["uuid"]) == "OK"
    await cloud.advance(1)
    assert await status_of(cloud, alarm["uuid"]) == "Alarm"


async def test_an_account_has_its_own_alarms_and_no_events(cloud):
    account = await cloud.create("CreateAccount", name="a", password="b" * 128)
    assert account
    await put(cloud, 95)
    await cloud.create("CreateAlarm", name="deep", **DEPTH)
    await put(cloud, 95)
    cloud.session = (await cloud.call("LogInByAccount", accountName="a", password="b" * 128))["inventory"]["uuid"]
    assert await cloud.query("zwatch/alarms") == [] and (await cloud.call("GetAlarmData"))["histories"] == []
    for api, params in (("GetEventData", {}), ("GetAuditData", {}), ("CreateAlarm", {"name": "n", **BUSY, "namespace": "ZStack/Host"})):
        with pytest.raises(RuntimeError, match=r"SYS\.1006"):
            await cloud.call(api, **params)


async def test_alarms_go_on_after_a_restart(tmp_path):
    async with serve(data=tmp_path / "cloud", memory=False, open=True) as mock:
        await mock.login()
        busy = await mock.create("CreateAlarm", name="busy", **BUSY | OF_WEB)
        await mock.create("CreateAlarm", name="idle", **BUSY | OF_WEB | {"comparisonOperator": "LessThan"})
        await mock.advance(60)
    async with serve(data=tmp_path / "cloud", memory=False, open=True) as mock:
        await mock.login()
        assert await history(mock, busy["uuid"], "alarmStatus") == [("Alarm",)] and await status_of(mock, busy["uuid"]) == "Alarm"
        await mock.call("UpdateAlarm", uuid=busy["uuid"], threshold=200)
        await mock.advance(60)
        assert await status_of(mock, busy["uuid"]) == "OK"


async def test_the_alarm_of_the_demo_cloud_waits_until_it_is_enabled(cloud):
    async def pending():
        async with aiohttp.ClientSession() as http, http.get(f"{cloud.base}/zmock/clock") as answer:
            return [timer for timer in (await answer.json())["pending"] if "alarm" in str(timer)]

    (alarm,) = await cloud.query("zwatch/alarms")
    assert (alarm["uuid"], alarm["state"], alarm["actions"][0]["actionUuid"]) == (ALARM, "Disabled", TOPIC) and await pending() == []
    await cloud.call("ChangeAlarmState", uuid=ALARM, stateEvent="enable")
    assert len(await pending()) == 1
    await cloud.delete("zwatch/alarms", ALARM)
    assert await pending() == [] and await cloud.query("sns/topics")


async def test_ten_alarms_look_at_five_points_in_each_period_of_a_week(cloud, monkeypatch):
    for n in range(10):
        await cloud.create("CreateAlarm", name=f"n{n}", **BUSY | OF_WEB | {"threshold": 30 + n * 100, "period": 300})
    made = counted_points(monkeypatch)
    await cloud.advance(7 * 86400)
    assert sum(made) == 10 * (7 * 86400 // 300) * 5
    assert len(await history(cloud, (await cloud.query("zwatch/alarms", "name=n0"))[0]["uuid"], "time")) > 20


async def test_the_greatest_long_is_a_threshold(cloud):
    alarm = await cloud.create("CreateAlarm", name="n", **BUSY | {"threshold": (1 << 63) - 1})
    assert alarm["threshold"] == float(1 << 63)
    with pytest.raises(RuntimeError, match="threshold. must be in range of .0, 9223372036854775807"):
        await cloud.call("UpdateAlarm", uuid=alarm["uuid"], threshold=1e19)


REFUSED = {
    "a metric that there is not": ("CreateAlarm", {"name": "n", **BUSY, "metricName": "CPU"}, "SYS.1007: the namespace[ZStack/VM] has no metric[CPU]"),
    "a label that its metric has not": ("CreateAlarm", {"name": "n", **BUSY, "labels": [{"key": "Vm", "operator": "Equal", "value": "a"}]}, "SYS.1007: metric[CPUAllUsedUtilization] of the namespace[ZStack/VM] has no label named Vm"),
    "a label without a value": ("CreateAlarm", {"name": "n", **BUSY, "labels": [{"key": "VMUuid", "operator": "Equal"}]}, "SYS.1007: invalid label, 'value' field cannot be null"),
    "a label with an operator of its own": ("CreateAlarm", {"name": "n", **BUSY, "labels": [{"key": "VMUuid", "operator": "Like", "value": "a"}]}, "SYS.1007: invalid label, 'op' field is null or something"),
    "an action of another kind": ("CreateAlarm", {"name": "n", **BUSY, "actions": [{"actionType": "mail", "actionUuid": TOPIC}]}, "SYS.1007: invalid action type[mail]"),
    "an action on no topic": ("CreateAlarm", {"name": "n", **BUSY, "actions": [{"actionType": "sns", "actionUuid": WEB}]}, f"SYS.1007: action[uuid:{WEB}, type:sns] not found"),
    "an action without a topic": ("CreateAlarm", {"name": "n", **BUSY, "actions": [{"actionType": "sns"}]}, "SYS.1007: an action has an actionUuid"),
    "an action that is there": ("AddActionToAlarm", {"alarmUuid": ALARM, "actionType": "sns", "actionUuid": TOPIC}, f"SYS.1007: duplicated action[uuid:{TOPIC}, type:sns]"),
    "a label that is there": ("AddLabelToAlarm", {"alarmUuid": ALARM, "key": "VMUuid", "operator": "Equal", "value": "b"}, "SYS.1007: duplicate label[key:VMUuid"),
    "a new label that the metric has not": ("AddLabelToAlarm", {"alarmUuid": ALARM, "key": "Vm", "operator": "Equal", "value": "b"}, "SYS.1007: metric[CPUAllUsedUtilization] of the namespace"),
    "an event that there is not": ("SubscribeEvent", {"namespace": "ZStack/Host", "eventName": "HostGone"}, "SYS.1007: namespace[ZStack/Host] doesn't have the event[HostGone]"),
    "an event of another namespace": ("SubscribeEvent", {"namespace": "ZStack/VM", "eventName": "HostDisconnected"}, "SYS.1007: namespace[ZStack/VM] doesn't have the event[HostDisconnected]"),
    "a label that its event has not": ("SubscribeEvent", {"namespace": "ZStack/Host", "eventName": "HostDisconnected", "labels": [{"key": "VMUuid", "op": "Equal", "value": "a"}]}, "SYS.1007: event[HostDisconnected] doesn't have the label[VMUuid]"),
    "a condition on what no history has": ("GetAlarmData", {"conditions": ["alarm=x"]}, "SYS.1007: invalid label[alarm], valid queryable labels are [alarmUuid, "),
    "a condition that is none": ("GetEventData", {"conditions": ["name"]}, "SYS.1007: the label string[name] contains no valid operator"),
    "times in milliseconds": ("GetAlarmData", {"startTime": 1531152000000}, "SYS.1007: startTime[1531152000000] must be in seconds"),
    "a namespace of the server": ("PutMetricData", {"namespace": "ZStack/VM", "data": [{"metricName": "a", "value": 1}]}, "SYS.1007: namespace name cannot start with ZStack/ that is reserved"),
    "a point without a value": ("PutMetricData", {"namespace": "Q", "data": [{"metricName": "a"}]}, "SYS.1007: field[value] of message"),
    "a point that is no number": ("PutMetricData", {"namespace": "Q", "data": [{"metricName": "a", "value": "NaN"}]}, "SYS.1007: field[value] must be in range"),
    "labels of a point that are none": ("PutMetricData", {"namespace": "Q", "data": [{"metricName": "a", "value": 1, "labels": ["b"]}]}, "BEGIN_OBJECT"),
    "an endpoint that is no url": ("CreateSNSHttpEndpoint", {"name": "n", "url": "mirror"}, "SYS.1007: invalid url[mirror]"),
    "a password without a username": ("CreateSNSHttpEndpoint", {"name": "n", "url": "http://a", "password": "p"}, "SYS.1007: username is not set while password is set"),
    "an address that is none": ("CreateSNSEmailEndpoint", {"name": "n", "email": "ops"}, "SYS.1007: invalid email address[ops]"),
    "a number that is none": ("CreateSNSDingTalkEndpoint", {"name": "n", "url": "http://a", "atPersonPhoneNumbers": ["110"]}, "SYS.1007: invalid phone number[110]"),
    "a template for HTTP": ("CreateSNSTextTemplate", {"name": "n", "applicationPlatformType": "HTTP", "template": "t"}, "SYS.1007: application platform/endpoint [HTTP] doesn't support user-defined template"),
    "a type without items": ("GetMonitorItem", {"resourceType": "ZoneVO"}, "SYS.1007: the resource[type:ZoneVO] doesn't have any monitoring items"),
}  # fmt: skip


@each(("api", "params", "told"), REFUSED.values(), ids=REFUSED)
async def test_a_mistake_is_refused_with_the_reason_and_changes_nothing(cloud, api, params, told):
    before = len(cloud.cloud.store.rows("Alarm")), len(cloud.cloud.store.rows("MetricDatum")), len(cloud.cloud.store.rows("AlarmLabel"))
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **params)
    assert told in str(error.value)
    assert before == (len(cloud.cloud.store.rows("Alarm")), len(cloud.cloud.store.rows("MetricDatum")), len(cloud.cloud.store.rows("AlarmLabel")))


async def test_one_template_is_the_default_of_its_platform(cloud):
    first = await cloud.create("CreateSNSTextTemplate", name="n", applicationPlatformType="Email", template="${ALARM_NAME}", defaultTemplate=True)
    with pytest.raises(RuntimeError, match=first["uuid"]):
        await cloud.create("CreateSNSTextTemplate", name="n", applicationPlatformType="Email", template="t", defaultTemplate=True)
    assert await cloud.create("CreateSNSTextTemplate", name="n", applicationPlatformType="DingTalk", template="t", defaultTemplate=True)
    await cloud.call("UpdateSNSTextTemplate", uuid=first["uuid"], defaultTemplate=False)
    assert await cloud.create("CreateSNSTextTemplate", name="n", applicationPlatformType="Email", template="t", defaultTemplate=True)


async def test_prometheus_names_series_and_the_values_of_labels(cloud):
    selector = f'collectd:collectd_virt_memory{{exported_instance="{WEB}"}}'
    (series,) = (await cloud.call("PrometheusQueryMetadata", matches=[selector]))["inventories"]["data"]
    assert (series["__name__"], series["exported_instance"]) == ("collectd:collectd_virt_memory", WEB)
    values = (await cloud.call("PrometheusQueryLabelValues", labels=["memory", "hostUuid"]))["inventories"]
    assert values["memory"] == ["used"] and named("host-1") in values["hostUuid"]


async def test_an_action_of_the_older_monitoring_belongs_to_triggers(cloud):
    trigger = await cloud.create("CreateMonitorTrigger", name="n", expression="vm.cpu.util > 0.8", duration=60, targetResourceUuid=WEB)
    media = await cloud.create("CreateEmailMedia", name="m", smtpServer="smtp.example.com", smtpPort=25)
    action = await cloud.create("CreateEmailMonitorTriggerAction", name="a", email="ops@example.com", mediaUuid=media["uuid"], triggerUuids=[trigger["uuid"]])
    assert (action["type"], action["triggerUuids"]) == ("Email", [trigger["uuid"]])
    await cloud.call("DetachMonitorTriggerActionFromTrigger", triggerUuid=trigger["uuid"], actionUuid=action["uuid"])
    await cloud.call("AttachMonitorTriggerActionToTrigger", triggerUuid=trigger["uuid"], actionUuid=action["uuid"])
    await cloud.delete("monitoring/triggers", trigger["uuid"])
    (shown,) = await cloud.query("monitoring/trigger-actions/emails")
    assert (shown["triggerUuids"], shown["email"]) == ([], "ops@example.com")


async def test_a_long_move_ends_with_its_mock():
    async with serve(open=True) as mock:
        actions, _, _ = await subscribed(mock)
        await mock.create("CreateAlarm", name="busy", **BUSY | OF_WEB | actions | {"repeatInterval": 1})
        move = asyncio.ensure_future(mock.advance(10**9))
        while not await sink(mock):
            await asyncio.sleep(0)
    await asyncio.wait_for(move, 5)
    assert mock.clock.now() < time.time() + 10**8


LABEL = {"key": "HostUuid", "operator": "Equal", "value": HOST4}
OF_OTHERS = [
    ("ChangeAlarmState", {"uuid": ALARM, "stateEvent": "enable"}), ("DeleteAlarm", {"uuid": ALARM}), ("UpdateAlarm", {"uuid": ALARM, "threshold": 0}),
    ("AddLabelToAlarm", {"alarmUuid": ALARM} | LABEL), ("RemoveActionFromAlarm", {"alarmUuid": ALARM, "actionUuid": TOPIC}),
    ("RemoveLabelFromAlarm", {"uuid": "@labels"}), ("DeleteSNSTopic", {"uuid": TOPIC}), ("UpdateSNSTopic", {"uuid": TOPIC, "name": "mine"}),
    ("SubscribeSNSTopic", {"topicUuid": TOPIC, "endpointUuid": "@end"}), ("DeleteSNSApplicationEndpoint", {"uuid": "@end"}),
    ("UnsubscribeSNSTopic", {"topicUuid": "@topic", "endpointUuid": "@end"}), ("UnsubscribeEvent", {"uuid": "@event"}), ("RemoveLabelFromEventSubscription", {"uuid": "@label"}),
    ("AddActionToEventSubscription", {"subscriptionUuid": "@event", "actionUuid": TOPIC, "actionType": "sns"}),
]  # fmt: skip


@each(("api", "params"), OF_OTHERS)
async def test_an_account_changes_no_alarm_topic_or_subscription_of_another(cloud, api, params):
    actions, topic, end = await subscribed(cloud)
    event = await cloud.create("SubscribeEvent", namespace="ZStack/Host", eventName="HostDisconnected", **actions)
    label = await cloud.create("AddLabelToEventSubscription", subscriptionUuid=event["uuid"], **LABEL)
    uuids = {"@topic": topic, "@end": end, "@event": event["uuid"], "@label": label["uuid"], "@labels": (await cloud.query("zwatch/alarms"))[0]["labels"][0]["uuid"]}
    await cloud.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
    await cloud.login("ann")
    with pytest.raises(RuntimeError, match="SYS.1006: permission denied, the account.* is not the owner of the resource"):
        await cloud.call(api, **{name: uuids.get(value, value) for name, value in params.items()})


async def test_the_keys_of_many_points_are_looked_up_once(cloud, monkeypatch):
    looked_up, spelling = [], Store.spelling
    monkeypatch.setattr(Store, "spelling", lambda store, uuid, types: looked_up.append(uuid) or spelling(store, uuid, types))
    await put(cloud, *range(1000), queue="mail")
    assert looked_up.count("metricName") < 10
