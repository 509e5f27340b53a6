"""The page at / in a real browser: stories of people who look at a cloud, and of what disturbs them."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from asking import ask_control, each, eventually
from browser import SHOTS

import zmock as module
from zmock import named, serve

SOURCE = Path(module.__file__).parent / "data" / "page.html"
TABS = ("cloud", "calls", "jobs", "trouble", "time", "state")
VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


@pytest.fixture
def zmock_settings():
    return {"clock": "real"}


async def opened(browser, mock, place="", **options):
    """The page at a place of its own, once it is live."""
    page = await browser.open(f"{mock.base}/{place}", **options)
    await page.until("document.querySelector('#link').dataset.link === 'live'")
    return page


@pytest.fixture
async def page(zmock, browser):
    await zmock.login()
    return await opened(browser, zmock)


async def go_to(page, tab):
    await page.click(f"[data-tab={tab}]")
    await page.until(f"document.querySelector('[data-tab={tab}]').ariaCurrent === 'page'")


def row(text):
    """An expression: a row of the list on display has a text."""
    return f"[...document.querySelectorAll('main [data-row]')].some(row => row.innerText.includes({json.dumps(text)}))"


# cloud


async def test_the_form_creates_a_virtual_machine_and_the_list_shows_it(zmock, page):
    await page.click("#create")
    await page.write("from-the-form", "dialog [name=name]")
    await page.choose("dialog [name=imageUuid]", named("image-centos7"))
    await page.click("dialog button.main")
    await page.until(row("from-the-form"))
    await page.until("!document.querySelector('dialog')")
    (vm,) = await zmock.query("vm-instances", "name=from-the-form")
    assert vm["state"] == "Running"
    assert [call.outcome for call in zmock.calls("CreateVmInstance")] == ["succeeded"]  # it goes through the API


async def test_a_virtual_machine_of_the_api_appears_and_its_states_follow(zmock, page):
    vm = await zmock.create("CreateVmInstance", name="from-the-api", **VM)
    await page.until(row("from-the-api"))
    await page.click("tr[data-row] td", "from-the-api")
    await page.see("Running", "aside")
    await zmock.act("vm-instances", vm["uuid"], "stopVmInstance")
    await page.see("Stopped", "aside")
    await page.click("aside button", "Start")
    await page.see("Running", "aside")
    await zmock.delete("vm-instances", vm["uuid"])
    await page.see("Destroyed", "aside")


async def test_text_of_the_cloud_is_text_and_no_markup(zmock, page):
    name = "<img src=x onerror=alert(1)>&amp;"
    await zmock.create("CreateZone", name=name)
    await page.run("location.hash = '#/cloud/zones'")
    await page.until(row(name))


async def test_a_form_shows_what_zmock_refuses(zmock, page):
    await page.click("#create")
    await page.write("x" * 300, "dialog [name=name]")
    await page.click("dialog button.main")
    await page.see("name", "dialog .error")
    assert await zmock.query("vm-instances", "name=" + "x" * 300) == []
    page.expected = ["status of 400"]
    await page.press("Escape")
    await page.until("!document.querySelector('dialog')")


async def test_related_objects_are_links(page):
    await page.click("tr[data-row] td", "web-1")
    await page.click("aside dd a", "host-")
    await page.until("location.hash.startsWith('#/cloud/hosts?open=')")
    await page.see("Connected", "aside")
    await page.run("history.back()")
    await page.see("web-1", "aside h2")


async def test_the_picture_shows_hosts_with_their_machines(page):
    await page.click(".segments button", "Picture")
    await page.until("document.querySelectorAll('.host').length === 4")
    assert await page.run("document.querySelectorAll('.host [role=progressbar]').length") == 8
    await page.click(".vms a[aria-label^=web-1]")
    await page.see("web-1", "aside h2")


# 10 000 objects


@pytest.mark.parametrize(("machines", "last"), (
    pytest.param(2_000, "19", marks=pytest.mark.zmock(cloud="large:2000")),
    pytest.param(10_000, "99", marks=[pytest.mark.zmock(cloud="large:10000"), pytest.mark.slow]),
))  # fmt: skip
async def test_thousands_of_machines_are_filtered_sorted_paged_and_drawn(zmock, browser, machines, last):
    page = await opened(browser, zmock)
    await page.see(f"{machines:,} VmInstance", "#sentence")
    await page.click("[data-facet='state=Running']")
    await page.see(f"of {machines:,}", "#sentence")
    await page.click("#sentence a")
    await page.write(f"name~=vm-{last}%", "#filter")
    await page.see(f"111 of {machines:,} VmInstance", "#sentence")
    await page.press("Enter")
    await page.click("th button", "name")
    await page.until("document.querySelector('th[aria-sort=ascending]')")
    await page.click("th button", "name")
    await page.until("document.querySelector('tbody td').innerText === 'vm-" + last + "99'")
    await page.click("main [aria-label='Next page']")
    await page.see("101–111 of 111")
    assert "start=100" in await page.run("location.hash")
    await page.write("name=nobody", "#filter")
    await page.see("No VmInstance matches")
    await page.write("nam=vm-1", "#filter")
    await page.press("Enter")
    await page.see("did you mean name", ".error")
    page.expected = ["status of 400"]
    await page.click(".segments button", "Picture")
    await page.until(f"document.querySelectorAll('.host .stack').length >= {machines // 100}")
    await page.click(".stack a")
    await page.see("hostUuid=", "#sentence")


async def test_the_query_box_completes_fields_operators_and_values(page):
    await page.write("sta", "#filter")
    await page.see("state", "[role=option][aria-selected=true]")
    await page.press("Enter")
    await page.see("state=", "[role=option]")
    await page.write("=Run")
    await page.click("[role=option]", "Running")
    await page.see("state=Running", "#sentence")


# calls


async def test_a_call_opens_with_request_answer_and_hint(zmock, page):
    await go_to(page, "calls")
    await zmock.request("GET", "/zones?q=nam=x")
    await page.click("[data-seq]", "QueryZone")
    await page.see("did you mean name?", "aside")
    await page.see("nam=x", "aside")
    await page.click("aside summary", "Headers")
    await page.see("Authorization", "aside")
    await page.see('"code"', "aside")


async def test_a_call_is_copied_as_curl_and_as_a_test(zmock, page):
    await page.browser.send("Browser.grantPermissions", permissions=["clipboardReadWrite"], browserContextId=page.browser.context)
    await zmock.create("CreateZone", name="copied")
    await go_to(page, "calls")
    await page.click("[data-seq]", "CreateZone")
    await page.click("aside button", "curl")
    text = await page.until("navigator.clipboard.readText()")
    assert text.startswith("curl ") and "copied" in text and zmock.url in text
    await page.click("aside button", "pytest")
    text = await page.until("navigator.clipboard.readText().then(text => text.includes('def test') && text)")
    compile(text, "copied", "exec")


async def test_calls_are_filtered_and_problems_stand_out(zmock, page):
    await go_to(page, "calls")
    for path in ("/zones", "/hosts", "/zones?q=nam=x"):
        await zmock.request("GET", path)
    await page.until("document.querySelectorAll('[data-seq]').length === 4")  # and the login
    await page.write("api:QueryZone -status:4xx", "#filter")
    await page.until("document.querySelectorAll('[data-seq]').length === 1")
    await page.press("Escape")
    await page.click("button", "Problems only")
    await page.until("document.querySelectorAll('[data-seq]').length === 1 && document.querySelector('[data-seq]').innerText.includes('400')")


async def test_the_list_of_calls_stands_while_it_is_paused(zmock, page):
    await go_to(page, "calls")
    await page.click("#pause")
    for _ in range(3):
        await zmock.request("GET", "/hosts")
    await page.see("3 new", "#fresh")
    assert not await page.run(row("QueryHost"))
    await page.click("#fresh")
    await page.until(row("QueryHost"))


async def test_a_burst_of_calls_is_shown_in_full_or_its_gap_is_filled(zmock, page):
    await go_to(page, "calls")
    await page.until(row("LogInByAccount"))
    await asyncio.gather(*(zmock.request("GET", "/zones") for _ in range(80)))
    complete = "document.querySelector('.tall').style.height === 81 * document.querySelector('[data-seq]').offsetHeight + 'px'"
    await page.until(f"document.querySelector('.gap') || {complete}")
    if await page.run("document.querySelector('.gap') !== null"):
        await page.click(".gap button")
    await page.until(complete)


# jobs


async def test_jobs_are_held_and_released(zmock, page):
    await go_to(page, "jobs")
    await page.click("button", "Hold new jobs")
    await eventually(lambda: zmock.rules)
    status, _ = await zmock.request("PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"startVmInstance": {}})
    assert status == 202
    await page.see("StartVmInstance", ".job.held")
    await page.until("document.title.startsWith('(1)')")
    assert [vm["state"] for vm in await zmock.query("vm-instances", "name=ci-1")] == ["Starting"]
    await page.click(".job button", "Release")
    await page.until(row("succeeded"))
    assert [vm["state"] for vm in await zmock.query("vm-instances", "name=ci-1")] == ["Running"]


@pytest.mark.zmock(delay="1000")
async def test_jobs_fail_with_a_code_finish_or_expire(zmock, page):
    await go_to(page, "jobs")
    for name in ("a", "b", "c"):
        await zmock.request("POST", "/zones", {"params": {"name": name}})
    running = "[...document.querySelectorAll('.job')].filter(job => job.innerText.includes('CreateZone') && job.querySelector('[role=progressbar]')).length"
    await page.until(f"{running} === 3")
    await page.click(".job summary")
    await page.write("HOST_ALLOCATION.1000", ".job details[open] input")
    await page.click(".job details[open] button", "Fail")
    await page.see("HOST_ALLOCATION.1000", ".job")
    await page.click(".job button", "Finish")
    await page.until(row("succeeded"))
    await page.click(".job button", "Expire")
    await page.until(f"{running} === 0")
    assert sorted(job["state"] for job in zmock.jobs()) == ["failed", "succeeded"]


# trouble


async def test_a_rule_of_the_form_fires(zmock, page):
    await zmock.create("CreateZone", name="before")
    await go_to(page, "trouble")
    await page.write("CreateZone", "[name=api]")
    await page.write("params.name = db-*", "[name=when]")
    await page.write("1", "[name=times]")
    await page.choose("[name=then]", "error")
    await page.write("HOST_ALLOCATION.1000", "[name=error]")
    await page.see("would have matched 0 of the last", "#trial")
    written = json.loads(await page.run("document.querySelector('#rule-json').value"))
    assert written == {"api": "CreateZone", "when": {"params.name": "db-*"}, "times": 1, "then": {"error": "HOST_ALLOCATION.1000"}}
    await page.click("button", "Add rule")
    await page.see("0 of 0", "[data-rule]")
    assert [rule.definition for rule in zmock.rules] == [written]
    with pytest.raises(RuntimeError, match="HOST_ALLOCATION.1000"):
        await zmock.create("CreateZone", name="db-1")
    await page.see("1 of 1", "[data-rule]")
    await page.click("[data-rule] a")
    await page.see("HOST_ALLOCATION.1000", "aside")
    await go_to(page, "trouble")
    await page.click("[data-rule] button", "Remove")
    await page.until("!document.querySelector('[data-rule]')")
    assert zmock.rules == []


async def test_a_wrong_rule_says_what_is_wrong(page):
    await go_to(page, "trouble")
    await page.write('{"api": "CreateZon", "then": {"error": "SYS.1001"}}', "#rule-json")
    await page.click("button", "Add rule")
    await page.see("did you mean CreateZone?", ".error")
    await page.write("{", "#rule-json")
    await page.see("This is no JSON object", ".error")
    page.expected = ["status of 400"]


@pytest.mark.zmock(rules=[{"id": "mine", "api": "CreateZone", "then": {"error": "SYS.1001"}}], strict=False)
async def test_a_rule_is_edited(zmock, page):
    await go_to(page, "trouble")
    await page.click("[data-rule=mine] button", "Edit")
    await page.see("would have matched 0", "#trial")
    await page.write("3", "[name=times]")
    await page.click("button", "Add rule")
    await page.see('"times":3', "[data-rule=mine]")
    assert [rule.definition["times"] for rule in zmock.rules] == [3]
    await page.write('{"id": "mine", "api": "CreateZon", "then": {"error": "SYS.1001"}}', "#rule-json")
    await page.click("button", "Add rule")
    await page.see("did you mean CreateZone?", ".error")
    assert len(zmock.rules) == 1
    page.expected = ["status of 400"]


@pytest.mark.zmock(strict=False)
async def test_each_template_makes_a_rule(zmock, page):
    await go_to(page, "trouble")
    count = await page.until("document.querySelectorAll('main .chip').length")
    text, before = "document.querySelector('#rule-json').value", "{}"
    for n in range(count):
        await page.click(f"main .chip:nth-child({n + 1})")
        before = await page.until(f"{text} !== {json.dumps(before)} && {text}")
        await page.click("button", "Add rule")
        await page.until(f"document.querySelectorAll('[data-rule]').length === {n + 1}")
    assert count >= 5 and len(zmock.rules) == count


async def test_incidents_begin_and_end(zmock, page):
    await go_to(page, "trouble")
    await page.choose("#incident", "host-down")
    await page.choose("#target", "host-1")
    await page.click("button", "Begin")
    await page.see("host-1", "[data-incident]")
    assert [host["status"] for host in await zmock.query("hosts", "name=host-1")] == ["Disconnected"]
    await page.click("[data-incident] button", "End")
    await page.until("!document.querySelector('[data-incident]')")


# time and state


@pytest.mark.zmock(delay="5")
async def test_time_is_frozen_and_advanced(zmock, page):
    await go_to(page, "time")
    await page.click("button", "Frozen")
    await page.until("document.querySelector('.clock.frozen')")
    before = zmock.clock.now()
    await zmock.request("POST", "/zones", {"params": {"name": "waits"}})
    await page.see("CreateZone", ".line")
    await page.click("button", "+10 s")
    await page.see("ame due")
    assert zmock.clock.now() - before == pytest.approx(10, abs=0.01)
    await page.write("90", "#seconds")
    await page.click("button", "Advance")
    await eventually(lambda: zmock.clock.now() - before > 99)
    await zmock.advance(3600)  # by another client
    await page.until(f"Date.parse(document.querySelector('#now').innerText + 'Z') >= {(zmock.clock.now() - 1) * 1000}")
    await page.click("button", "Real")
    await page.until("!document.querySelector('.clock.frozen')")


async def test_a_snapshot_is_taken_and_restored_and_a_reset_can_be_taken_back(zmock, page):
    await zmock.create("CreateZone", name="first")
    await go_to(page, "state")
    await page.write("mine", "#snapshot")
    await page.click("button", "Take")
    await page.see("mine", "[data-snapshot]")
    assert await page.run("document.querySelector('a[download=\"cloud.json\"]').href") == f"{zmock.base}/zmock/cloud"
    await zmock.create("CreateZone", name="second")
    await page.click("[data-snapshot=mine] button", "Restore")
    await page.click("[data-snapshot=mine] button", "Confirm?")
    await page.see("mine is restored")
    assert [zone["name"] for zone in await zmock.query("zones", "name?=first,second")] == ["first"]
    await page.click("section:nth-child(2) button", "Reset")
    await page.click("section:nth-child(2) button", "Confirm?")
    await page.see("before-reset", "[data-snapshot]")
    await zmock.login()
    assert await zmock.query("zones", "name=first") == []
    await page.click("#toasts button")
    await page.see("before-reset is restored")
    await zmock.login()
    assert len(await zmock.query("zones", "name=first")) == 1


async def test_worlds_are_made_opened_and_dropped(zmock, page):
    await go_to(page, "state")
    await page.write("mine", "#world")
    await page.click("button", "Make")
    await page.see("mine", "[data-world]")
    world = await zmock.world("mine")
    await world.create("CreateZone", name="only here")
    await page.run("document.querySelector('[data-world=mine] a').click()")
    await page.see("mine", "h1")
    await page.run("location.hash = '#/cloud/zones'")
    await page.see("only here", "tbody")
    await page.run(f"location.href = '{zmock.base}/#/state'")
    await page.see("mine", "[data-world]")
    await page.click("[data-world=mine] button", "Drop")
    await page.click("[data-world=mine] button", "Confirm?")
    await page.until("!document.querySelector('[data-world]')")


async def test_the_changes_show_with_the_call_behind_each(zmock, page):
    await go_to(page, "state")
    await page.see("Nothing has changed")
    await ask_control(zmock, "PUT", "snapshots/before")
    zone = await zmock.create("CreateZone", name="made by a call")
    await page.see("made by a call", f"[data-change='{zone['uuid']}']")
    await zmock.act("vm-instances", named("vm-web-1"), "stopVmInstance")
    changed = f"[data-change='{named('vm-web-1')}']"
    await page.see("web-1", changed)
    await page.see("state: Running → Stopped", changed)
    await page.choose("#from", "before")
    await page.see("added", f"[data-change='{zone['uuid']}']")
    await page.shoot("changes")
    await zmock.delete("zones", zone["uuid"])
    await page.until(f"!document.querySelector(\"[data-change='{zone['uuid']}']\")")
    seq = zmock.calls("StopVmInstance")[0].seq
    await page.click(f"{changed} > a", f"#{seq} StopVmInstance")
    await page.see("StopVmInstance", "aside")
    assert f"open={seq}" in await page.run("location.hash")


async def test_a_cloud_that_was_resumed_shows_its_changes_since_a_snapshot_only(browser, tmp_path):
    for _ in range(2):
        async with serve(data=str(tmp_path / "cloud"), clock="real") as mock:
            await ask_control(mock, "PUT", "snapshots/mine")
    async with serve(data=str(tmp_path / "cloud"), clock="real") as mock:
        page = await opened(browser, mock, "#/state")
        page.expected = ["status of 409", "/zmock/events"]  # which ends with the mock
        await page.see("take a snapshot", ".error")
        await page.choose("#from", "mine")
        await page.until("!document.querySelector('.error')")


# how it behaves


async def test_the_page_never_shows_in_the_journal(zmock, browser):
    page = await opened(browser, zmock)
    for tab in TABS:
        await go_to(page, tab)
    await page.run("location.hash = '#/cloud?view=picture'")
    await page.until("document.querySelector('.host')")
    assert zmock.calls() == []


async def test_a_hidden_page_closes_its_stream_and_resumes_without_a_gap(zmock, page):
    await go_to(page, "calls")
    assert len(page.streams) == 1
    await page.browser.open("about:blank")
    await eventually(lambda: not page.streams)
    for n in range(20):
        await zmock.request("GET", f"/zones?q=name=zone-{n}")
    assert not page.streams
    await page.send("Page.bringToFront")
    await page.until("document.querySelectorAll('[data-seq]').length === 21 || document.querySelector('.gap')")
    assert not await page.run("document.querySelector('.gap')?.innerText")


async def test_the_page_goes_on_when_zmock_comes_back(zmock, page):
    await page.until(row("web-1"))
    page.expected = ["ERR_"]
    zmock.down()
    await page.until("document.querySelector('#link').dataset.link === 'lost'")
    await page.see("web-1", "tbody")  # what it showed stays
    zmock.up()
    await page.until("document.querySelector('#link').dataset.link === 'live'")
    await zmock.create("CreateVmInstance", name="after", **VM)
    await page.until(row("after"))


async def test_a_restarted_zmock_is_shown_anew(browser):
    async with serve(clock="real") as first:
        page = await opened(browser, first)
        await page.until(row("web-1"))
        page.expected = ["ERR_"]
    async with serve(clock="real", cloud="empty", port=first.port):
        await page.see("No VmInstance")


async def test_all_is_reached_by_the_keyboard(zmock, page):
    await page.press("/")
    await page.write("name=ci-1")
    await page.press("Enter")
    await page.until("document.querySelectorAll('tr[data-row]').length === 1")
    while not await page.run("document.activeElement.matches('tr[data-row]')"):
        await page.press("Tab")
    await page.press("Enter")
    await page.see("ci-1", "aside h2")
    await page.press("Escape")
    await page.until("!document.querySelector('aside') && document.activeElement.matches('tr[data-row]')")
    for n, tab in enumerate(TABS, 1):
        await page.press(str(n))
        await page.until(f"document.querySelector('[data-tab={tab}]').ariaCurrent === 'page'")
    await page.press("2", "p")
    await page.until("document.querySelector('#pause').ariaPressed === 'true'")
    await page.press("?")
    await page.see("Copy the call as curl", "dialog")
    await page.press("Escape")
    await page.until("!document.querySelector('dialog')")


async def nameless(page):
    """The controls on display that a screen reader has no name for."""
    nodes = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    roles = {"button", "textbox", "searchbox", "combobox", "checkbox", "link", "spinbutton", "listbox", "dialog", "progressbar"}
    shown = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles]
    return [f"{node['role']['value']} {node['backendDOMNodeId']}" for node in shown if not node.get("name", {}).get("value")]


COVERED = """(() => {
  const controls = [...document.querySelectorAll("#page :is(button, input, select, textarea)")].filter(each => each.checkVisibility())
  const boxes = controls.map(each => [each, each.getBoundingClientRect()])
  const share = (a, b, c, d) => Math.min(b, d) - Math.max(a, c) > 2
  const pairs = boxes.flatMap(([one, a], n) => boxes.slice(n + 1).map(([other, b]) => [one, a, other, b]))
  return pairs.filter(([one, a, other, b]) => share(a.left, a.right, b.left, b.right) && share(a.top, a.bottom, b.top, b.bottom)
    && one.closest("aside, dialog, .list, .pane") === other.closest("aside, dialog, .list, .pane"))
    .map(([one, , other]) => one.outerHTML.slice(0, 80) + " and " + other.outerHTML.slice(0, 80))
})()"""
WIDE = "[document.documentElement, ...document.querySelectorAll('.pane, aside, dialog')].filter(each => each.scrollWidth > each.clientWidth).map(each => each.outerHTML.slice(0, 80))"
PLACES = {  # each with what shows that it is drawn
    "cloud": "tbody tr", "cloud?view=picture": ".host", f"cloud/vm-instances?open={named('vm-web-1')}": "aside dd", "cloud/volumes": "tbody tr",
    "cloud/nowhere": ".error", "calls": "[data-seq]", "calls?open=SEQ": "aside pre", "jobs": ".job", "trouble": "[data-rule]", "time": ".pane .line",
    "state": "[data-snapshot]", "form": "dialog [name=name]", "keys": "dialog kbd",
}  # fmt: skip


@pytest.mark.zmock(rules=[{"id": "r", "api": "DeleteZone", "then": {"job": "hold"}}], strict=False, delay="1000")
@each("options", (
    {}, {"width": 320, "language": "zh-CN", "dark": True},
    *({"width": width, "language": language, "dark": dark} for width in (1280, 320) for language in ("en-US", "zh-CN") for dark in (0, 1) if SHOTS),
))  # fmt: skip
async def test_each_place_fits_its_window_and_names_its_controls(zmock, browser, options):
    await zmock.login()
    await zmock.request("POST", "/volumes/data", {"params": {"name": "a-volume-with-a-name", "diskOfferingUuid": named("disk-20g")}})
    await ask_control(zmock, "PUT", "snapshots/mine")
    await zmock.world("a-world-with-a-long-name-" + 30 * "x")
    zmock.db.table("Zone").update({"name": "y z", "description": 90 * "x"})
    page = await opened(browser, zmock, **options)
    page.expected = ["status of 404"]
    width, is_dark = options.get("width", 1280), options.get("dark", False)
    for place, drawn in PLACES.items():
        if place == "form":
            await page.run("location.hash = '#/cloud/vm-instances'")
            await page.click("#create")
        elif place == "keys":
            await page.press("?")
        else:
            await page.run(f"location.hash = '#/{place}'".replace("SEQ", str(zmock.calls()[-1].seq)))
            tab = re.split("[/?]", place)[0]
            await page.until(f"document.querySelector('[data-tab={tab}][aria-current]')")
        await page.until(f"document.querySelector('{drawn}')")
        assert await page.run(WIDE) == [], place
        assert await page.run(COVERED) == [], place
        assert await nameless(page) == [], place
        name = f"{re.sub('[^a-z]+', '-', place)}-{width}-{'dark' if is_dark else 'light'}-{options.get('language', 'en')[:2]}"
        await page.shoot(name)
        if place in ("form", "keys"):
            await page.press("Escape")
            await page.until("!document.querySelector('dialog')")
    light = sum(map(int, re.findall(r"\d+", await page.run("getComputedStyle(document.body).backgroundColor"))))
    assert (light < 128 * 3) == is_dark
    assert await page.run("document.documentElement.lang") == ("zh-CN" if options.get("language") == "zh-CN" else "en")


# words


async def test_every_word_has_its_chinese(page):
    text = SOURCE.read_text(encoding="utf-8")
    used = {json.loads(word) for word in re.findall(r'\bt\(("(?:[^"\\]|\\.)*")', text)}
    assert len(used) > 50 and not re.findall(r"\bt\((?!text\b|\"|\))", text)  # the words stand in the call
    assert {*await page.run("Object.keys(CHINESE)")} == used
    same = await page.run("Object.entries(CHINESE).filter(([english, chinese]) => (english.match(/{\\w+}/g) || []).sort().join() !== (chinese.match(/{\\w+}/g) || []).sort().join())")
    assert same == []
    await page.click("#language")
    await page.see("调用", "nav")
    await page.run("location.reload()")
    await page.see("调用", "nav")


# drawing


PATCHES = """(() => {
  let seed = 1
  const random = (most) => (seed = seed * 48271 % 2147483647) % most
  const tree = (depth) => h(["p", "div", "b"][random(3)], {class: "c" + random(3), title: random(2) ? "t" + random(9) : null},
    Array.from({length: depth ? random(5) : 0}, (_, n) => (random(3) ? {...tree(depth - 1)} : "text " + random(9))))
  const keyed = (list) => h("div", {}, list.map((key) => h("p", {key}, key, tree(1))))
  const there = document.createElement("div")
  for (let n = 0; n < 600; n += 1) {
    const keys = [..."abcdefgh"].filter(() => random(2)).sort(() => random(3) - 1)
    const wanted = [tree(3), keyed(keys)], anew = document.createElement("div")
    patch(there, wanted)
    patch(anew, wanted)
    if (there.innerHTML !== anew.innerHTML) return [n, there.innerHTML, anew.innerHTML]
  }
  return "alike"
})()"""


async def test_patching_gives_the_same_as_drawing_anew(page):
    assert await page.run(PATCHES) == "alike"
