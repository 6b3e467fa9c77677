"""What check.sh --alert says of a high result whose mail doesn't come, or can't be recognized."""

import re

import pytest

from lab import ENVIRONMENT, docker, fetch_json, require_image, require_whole, until
from student import Stack

COMPOSE = """
x-host: &host {network_mode: host}
services:
  prometheus:
    <<: *host
    image: PROMETHEUS
    command: [--config.file=/files/prometheus.yml, "--web.listen-address=127.0.0.1:@9090"]
    volumes: [".:/files"]
  alertmanager:
    <<: *host
    image: ALERTMANAGER
    command:
      - --config.file=/files/alertmanager.yml
      - --web.listen-address=127.0.0.1:@9093
      - --cluster.listen-address=
    volumes: [".:/files"]
  mailpit:
    <<: *host
    image: MAILPIT
    environment: {MP_SMTP_BIND_ADDR: "127.0.0.1:@1025", MP_UI_BIND_ADDR: "127.0.0.1:@8025"}
"""
PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["localhost:@9093"]}]}]}
scrape_configs: [{job_name: a, static_configs: [{targets: ["127.0.0.1:@5000"]}]}]
"""
RULES = """
groups: [{name: a, rules: [{alert: High, expr: model_result > 0.9}]}]
"""
ALERTMANAGER = """
route: {receiver: box, group_wait: 0s, group_interval: 1s}
receivers:
  - name: box
    email_configs:
      - {to: a@b.c, from: a@b.c, smarthost: "127.0.0.1:@1025", require_tls: false}
"""
NAMELESS = 'require_tls: false, headers: {Subject: Look}, html: "", text: A result is high'
# Words of the line on the mail, and changes: the file, what is replaced, and by what.
FAULTS = {
    "a receiver without an address": (
        "FAIL  the mail arrives: the receiver nobody has no address",
        ("alertmanager.yml", "receiver: box", "receiver: nobody"),
        ("alertmanager.yml", "receivers:\n", "receivers:\n  - name: nobody\n"),
    ),
    "a mail without a name": (
        "open  the mail arrives: only another mail came: Look",
        ("alertmanager.yml", "require_tls: false", NAMELESS),
    ),
    "an older alert in the group": (
        "open  the mail arrives: its group is mailed every group_interval",
        ("rules.yml", "rules: [", "rules: [{alert: Always, expr: vector(1)}, "),
        ("alertmanager.yml", "group_interval: 1s", "group_interval: 5m"),
    ),
    "a password of Mailpit": (
        "Mailpit doesn't show its mails without a password",
        ("compose.yaml", "{MP_SMTP", '{MP_UI_AUTH: "me:secret", MP_SMTP'),
    ),
}


@pytest.fixture(scope="module")
def mine(make_lab):
    require_whole("axllent/mailpit")
    lab = make_lab("alerts")
    files = {
        "compose.yaml": COMPOSE,
        "prometheus.yml": PROMETHEUS,
        "rules.yml": RULES,
        "alertmanager.yml": ALERTMANAGER,
    }
    for word in ("PROMETHEUS", "ALERTMANAGER", "MAILPIT"):
        files["compose.yaml"] = files["compose.yaml"].replace(word, require_image(f".*/{word.lower()}"))
    return Stack(lab, files)


@pytest.fixture
def begin(mine):
    """Starts the stack with a change, without alerts and mails of before."""

    def start(*changes):
        mine.compose("down", "-v", "-t", "1")
        mine.restore()
        for name, old, new in changes:
            mine.edit(name, old, new)
        mine.lab.model.start("--value", "0.5")
        mine.up()
        until(60, "the samples", lambda: mine.lab.ask("up") == 1)
        return mine

    return start


@pytest.mark.parametrize("name", FAULTS)
def test_a_mail_that_does_not_come_or_names_nothing_is_told(begin, name):
    words, *changes = FAULTS[name]
    mine = begin(*changes)
    if "older" in name:
        until(60, "the mail of the other alert", lambda: mine.lab.mails())
    mine.lab.model.start("--value", "0.95")
    assert words in mine.check("--alert", code=None)[None]


def test_a_label_with_the_value_begins_another_alert_with_each_result(begin):
    rule = 'expr: model_result > 0.01, for: 20s, labels: {result: "{{ $value }}"}'
    mine = begin(("rules.yml", "expr: model_result > 0.9", rule))
    mine.lab.model.start("--interval", "1")
    assert "FAIL  the alert fires: its label result has the value in it" in mine.check("--alert", code=1)[None]


def test_another_port_of_alertmanager_that_others_reach_is_told(begin):
    setting = "--cluster.listen-address="
    # An address of this machine at which the tests haven't reserved the port.
    address = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    mine = begin(("compose.yaml", setting, f"{setting}{address}:@9095"))
    reach = lambda: mine.check("alertmanager", code=None).get("only your machine reaches it", "")
    until(60, "the port", lambda: f"others do, too: {mine.lab.ports[9095]}. Next" in reach(), reach)


# Each look at the clock takes 40 seconds.
DATE = """#!/bin/sh
[ "$1" = +%s ] || exec /bin/date "$@"
echo x >>"$0.log"
echo $(($(wc -l <"$0.log") * 40))
"""


def test_a_high_result_is_waited_for_ten_minutes(begin, tmp_path):
    mine = begin(("rules.yml", "model_result > 0.9", "model_result > 0.95"))
    for name, text in {"date": DATE, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    output = mine.check("--alert", code=1, env={"PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"})[None]
    found = re.search(r"FAIL  a result passes 0[.]95: none in (\d+) s, the last was 0[.]5", output)
    assert found and 600 <= int(found[1]) < 700, output


def test_an_alert_with_a_for_is_waited_for_and_its_mail_found_in_any_time_zone_and_not_marked_as_read(begin):
    rule = 'expr: "count_over_time((0.9 < model_result)[10s:1s]) > 3", for: 5s'
    new_york = ("compose.yaml", "{MP_SMTP", "{TZ: America/New_York, MP_SMTP")
    mine = begin(("rules.yml", "expr: model_result > 0.9", rule), new_york)
    mine.lab.model.start("--value", "0.95")
    assert "ok    the mail arrives" in mine.check("--alert")[None]
    mails = fetch_json(f"{mine.lab.mailpit}/api/v1/messages")
    assert mails["messages"][0]["Created"][-6:] in ("-05:00", "-04:00") and mails["unread"] == mails["total"] > 0
