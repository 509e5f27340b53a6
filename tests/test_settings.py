"""Settings: a flag beats a ZMOCK_* variable, which beats the default; a mistake names the nearest right thing."""

import re
from dataclasses import fields

import pytest
from asking import each, read_settings

from zmock import Settings, SettingsError, choices_of

ANOTHER = {  # a value for each setting that is not its default, and how it is written
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": (9090, "9090"),
    "data": ("elsewhere", "elsewhere"),
    "memory": (True, "true"),
    "cloud": ("large:20", "large:20"),
    "dialect": ("server", "server"),
    "delay": ("0.5-2", "0.5-2"),
    "long_delay": ("60", "60"),
    "rules": (("a.json",), "a.json"),
    "scenario": ("a.json", "a.json"),
    "catalogue": (("c.json",), "c.json"),
    "seed": (7, "7"),
    "addresses": ("first", "first"),
    "clock": ("frozen", "frozen"),
    "durable": ("off", "off"),
    "no_magic": (True, "true"),
    "strict": (True, "true"),
    "open": (True, "true"),
    "worlds": (5, "5"),
    "base_url": ("http://zstack.example.com", "http://zstack.example.com"),
    "utc_offset": (-3.5, "-3.5"),
    "body_limit": (100, "100"),
    "journal": (0, "0"),
    "cert": ("c.pem", "c.pem"),
    "key": ("both.pem", "both.pem"),
    "allow_origin": (("http://localhost:5173",), "http://localhost:5173"),
    "control_token": ("t", "t"),
    "quiet": (True, "true"),
}
NAMES = [item.name for item in fields(Settings)]


def flag(name):
    return "--" + name.replace("_", "-")


def variable(name):
    return "ZMOCK_" + name.upper()


def written(name):
    """The arguments that set it to its other value."""
    value, text = ANOTHER[name]
    return [flag(name)] if value is True else [f"{flag(name)}={text}"]


def test_without_anything_there_are_the_defaults():
    assert read_settings([], {}) == Settings()
    assert (Settings().host, Settings().port, Settings().data, Settings().dialect) == ("127.0.0.1", 8080, "data/cloud", "manual")


@each("name", NAMES)
def test_each_setting_has_a_flag(name):
    set_by = {"sources": {name: flag(name)}}
    assert vars(read_settings(written(name), {})) == vars(Settings()) | {name: ANOTHER[name][0]} | set_by


@each("name", NAMES)
def test_each_setting_has_a_variable(name):
    set_by = {"sources": {name: variable(name)}}
    assert vars(read_settings([], {variable(name): ANOTHER[name][1]})) == vars(Settings()) | {name: ANOTHER[name][0]} | set_by


@each("name", [name for name in NAMES if ANOTHER[name][0] is not True])
def test_a_flag_beats_its_variable(name):
    default = getattr(Settings(), name) or "from-variable"
    assert getattr(read_settings(written(name), {variable(name): str(default)}), name) == ANOTHER[name][0]


@pytest.fixture
def help_text(capsys):
    with pytest.raises(SystemExit) as leaves:
        read_settings(["--help"], {})
    assert leaves.value.code == 0
    return capsys.readouterr().out


@each("item", fields(Settings), ids=NAMES)
def test_help_has_a_line_for_each_setting_below_its_group(help_text, item):
    (line,) = [line for line in help_text.splitlines() if line.startswith(f"  {flag(item.name)} ")]
    default = "" if item.default in (False, (), "") else f" [{item.default:g}]" if isinstance(item.default, float) else f" [{item.default}]"
    assert line.endswith(f"  {item.metadata['help']}{default}")
    headings = re.findall(r"^(\w.*):$", help_text.partition(line)[0], re.M)
    assert headings[-1] == item.metadata["group"]


def test_help_fits_on_one_screen(help_text):
    lines = help_text.splitlines()
    assert len(lines) <= 56 and max(map(len, lines)) <= 100
    assert re.findall(r"^(\w.*):$", help_text, re.M) == ["commands", "the cloud", "time and trouble", "the network", "the folder", "the output"]


def test_help_explains_the_variables_once(help_text):
    assert help_text.count("ZMOCK_PORT") == 1 and "[ ] is a default." in help_text


def test_help_names_the_commands(help_text):
    commands = help_text.partition("commands:\n")[2].partition("the cloud:")[0]
    assert re.findall(r"^  (\w+)", commands, re.M) == ["env", "wait", "calls", "check", "import", "openapi", "completion"]


@each("name", [name for name in NAMES if choices_of(Settings.__dataclass_fields__[name].metadata["values"])])
def test_a_setting_with_choices_shows_and_takes_these_only(name):
    values = Settings.__dataclass_fields__[name].metadata["values"]
    for choice in values.split("|"):
        assert getattr(read_settings([flag(name), choice], {}), name) == choice
    with pytest.raises(SettingsError, match=f"^{flag(name)} is {' or '.join(values.split('|'))}, not 'x'"):
        read_settings([flag(name), "x"], {})


def test_the_version_can_be_asked_for(capsys):
    with pytest.raises(SystemExit) as leaves:
        read_settings(["--version"], {})
    assert leaves.value.code == 0 and capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("arguments", "environment", "rules"),
    (
        (["--rules", "a", "--rules", "b"], {}, ("a", "b")),
        ([], {"ZMOCK_RULES": "a:b"}, ("a", "b")),
        (["--rules", "c"], {"ZMOCK_RULES": "a:b"}, ("c",)),
        ([], {"ZMOCK_RULES": ""}, ()),
    ),
)
def test_rules_may_be_given_more_than_once(arguments, environment, rules):
    assert read_settings(arguments, environment).rules == rules


@pytest.mark.parametrize(
    ("text", "value"), (("1", True), ("YES", True), ("true", True), ("0", False), ("no", False), ("False", False), ("", False))
)
def test_a_switch_is_set_by_a_word(text, value):
    assert read_settings([], {"ZMOCK_MEMORY": text}).memory is value


def test_other_variables_are_left_alone():
    assert read_settings([], {"PORT": "1", "HOST": "x", "MEMORY": "maybe"}) == Settings()


@each(
    ("arguments", "told"),
    (
        (["--prot", "80"], "--prot, did you mean --port?"),
        (["--prot=80"], "did you mean --port?"),
        (["--por", "80"], "--por, did you mean --port?"),
        (["--body_limit", "80"], "did you mean --body-limit?"),
        (["--memroy"], "did you mean --memory?"),
        (["start"], "unknown argument start"),
        (["evn"], "unknown argument evn, did you mean env?"),
        (["--port", "1", "env"], "the command env goes first: zmock env"),
        (["--timeout", "3"], "--timeout goes with zmock wait, not with zmock"),
        (["-f"], "-f goes with zmock calls, not with zmock"),
        (["--url=http://x"], "--url goes with zmock env and zmock wait and zmock calls, not with zmock"),
        (["--port"], "--port: expected one argument"),
        (["--port", "http"], "--port: invalid int value: 'http'"),
        (["--memory=yes"], "--memory"),
        (["--port", "65536"], "--port is a number from 0 to 65535, not 65536"),
        (["--port=-1"], "--port is a number from 0 to 65535, not -1"),
        (["--dialect", "servr"], "--dialect is manual or server, not 'servr', did you mean server?"),
        (["--clock", "Frozen"], "did you mean frozen?"),
        (["--utc-offset", "15"], "--utc-offset"),
        (["--utc-offset", "nan"], "--utc-offset"),
        (["--body-limit", "0"], "--body-limit"),
        (["--journal=-1"], "--journal"),
        *(
            (["--delay", text], f"a delay is seconds (0.3) or a range (0.5-2), not {text!r}")
            for text in ("soon", "2-1", "1-", "", "inf", "nan", "0.5-x")
        ),
        (["--delay=-1"], "a delay is seconds"),
        (["--long-delay", "later"], "a delay is seconds"),
        (["--base-url", "cloud.example:80"], "--base-url is an address such as https://cloud.example:8443, not 'cloud.example:80'"),
        (["--base-url", "http://cloud.example?a=b"], "--base-url is an address such as"),
        (["--base-url", "http://cloud.example/zstack/v1/"], "--base-url is the address before /zstack/v1: http://cloud.example"),
    ),
)
def test_a_wrong_argument_is_told_in_one_line(arguments, told):
    with pytest.raises(SettingsError) as error:
        read_settings(arguments, {})
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("environment", "told"),
    (
        ({"ZMOCK_MEMORY": "maybe"}, "ZMOCK_MEMORY is true or false, not 'maybe'"),
        ({"ZMOCK_PORT": "http"}, "ZMOCK_PORT"),
        ({"ZMOCK_DIALECT": "manuel"}, "did you mean manual?"),
        ({"ZMOCK_DELAY": "soon"}, "not 'soon'"),
        ({"ZMOCK_PROT": "80"}, "ZMOCK_PROT, did you mean ZMOCK_PORT?"),
        ({"ZMOCK_BASEURL": "http://a"}, "ZMOCK_BASEURL, did you mean ZMOCK_BASE_URL?"),
        ({"ZMOCK_FOO": "1"}, "no setting reads ZMOCK_FOO$"),
        ({"ZMOCK_URL": "http://a"}, "no setting reads ZMOCK_URL$"),
    ),
)
def test_a_wrong_variable_is_told_in_one_line(environment, told):
    with pytest.raises(SettingsError) as error:
        read_settings([], environment)
    assert told in f"{error.value}$" and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "value"), (("dialect", "servr"), ("delay", "soon"), ("port", -1), ("clock", "wrap")))
def test_settings_made_in_code_are_checked_too(name, value):
    with pytest.raises(SettingsError, match=str(value)):
        Settings(**{name: value})
