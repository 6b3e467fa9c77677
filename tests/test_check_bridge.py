"""What check.sh says of a stack as public ones are: a network of containers, several Compose files, other names.

Docker's own network has other addresses than this machine's, so the model listens at all of them."""

import re

import pytest

from lab import modelmock, require_image, require_whole, start, until
from student import Stack

COMPOSE = """
x-defaults: &defaults
  restart: unless-stopped
  env_file: common.env
  networks: [monitoring]
services:
  prom:
    <<: *defaults
    container_name: CONTAINER
    image: PROMETHEUS
    command: --config.file etc/prometheus.yml --web.external-url=http://localhost:@9090/watch --storage.tsdb.path=data
    working_dir: /prometheus
    user: root
    extra_hosts: ["host.docker.internal:host-gateway"]
    expose: [9090]
    ports: ["127.0.0.1:@9090:9090"]
    volumes:
      - ./prometheus:/prometheus/etc
      - ./alert.rules:/prometheus/rules/alert.rules
      - data:/prometheus/data
volumes: {data: }
networks: {monitoring: }
"""
ALERTS = """
services:
  alerts:
    image: ALERTMANAGER
    profiles: [alerts]
    networks: [monitoring]
    depends_on: {mail: {condition: service_healthy}}
    ports: ["127.0.0.1:@9093:9093"]
    entrypoint: [sh, -c]
    command:
      - |
        echo "$$CONFIG" >/tmp/a.yml
        exec alertmanager --config.file=/tmp/a.yml --storage.path=/alertmanager --cluster.listen-address=
    environment: {CONFIG: "${ALERTS_CONFIG}"}
  mail:
    image: MAILPIT
    profiles: [alerts]
    networks: [monitoring]
    environment: {MP_WEBROOT: box}
    ports: ["127.0.0.1:@8025:8025"]
"""
PROMETHEUS = """
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [/prometheus/rules/*]
alerting: {alertmanagers: [{static_configs: [{targets: ["alerts:9093"]}]}]}
scrape_configs:
  - job_name: ml
    static_configs: [{targets: ["host.docker.internal:@5000"]}]
    relabel_configs: [{target_label: instance, replacement: my-model}]
"""
# Another program's file in the same folder, and a name that only looks like rules.
OTHERS = {
    "prometheus/blackbox.yml": "modules: {http: {prober: http}}\ntargets: [https://example.org]\n",
    "prometheus/dashboards.yaml": "url: http://localhost:1\ngroups: [a]\n",
}
RULES = """
groups:
  - name: results
    rules:
      - {record: "model:result", expr: model_result}
      - {alert: ResultHigh, expr: "(model:result > 0.7)", labels: {severity: warning}}
      - {alert: ResultVeryHigh, expr: "0.9 < model_result and on() vector(1)", labels: {severity: critical}}
"""
# The default mail has the alert's name in its text, and the subject is the student's own.
CONFIG = (
    "route: {receiver: box, group_wait: 0s, group_by: [alertname]}\n"
    "inhibit_rules: [{source_matchers: [severity=critical], target_matchers: [severity=warning], equal: [instance]}]\n"
    'receivers: [{name: box, email_configs: [{to: a@b.c, from: a@b.c, smarthost: "mail:1025", require_tls: false,'
    " headers: {Subject: look at the model}}]}]\n"
)


@pytest.fixture(scope="module")
def mine(make_lab, request):
    require_whole("axllent/mailpit")
    images = {word: require_image(f".*/{word.lower()}") for word in ("PROMETHEUS", "ALERTMANAGER", "MAILPIT")}
    lab = make_lab("bridge")
    files = {
        "monitoring.yml": COMPOSE,
        "alerts.yml": ALERTS,
        "prometheus/prometheus.yml": PROMETHEUS,
        "alert.rules": RULES,
    }
    files |= OTHERS | {"common.env": "TZ=UTC\n", ".env": f"ALERTS_CONFIG='{CONFIG}'\n"}
    for name, text in files.items():
        for word, image in images.items():
            text = text.replace(word, image)
        files[name] = text.replace("CONTAINER", f"{lab.project}-the-watch")
    mine = Stack(lab, files)
    mine.options = ["-f", "monitoring.yml", "-f", "alerts.yml", "--profile", "alerts"]
    model = start(modelmock(), "--listen", f"0.0.0.0:{lab.ports[5000]}", "--value", "0.95", "--quiet")
    request.addfinalizer(model.kill)
    mine.model = model
    mine.up(*mine.options)
    until(60, "the samples", lambda: "ok " in mine.check("prometheus", code=None).get("its targets are up", ""))
    return mine


def test_nothing_fails(mine):
    output = mine.check("prometheus", "alertmanager", "mailpit")
    assert "0 failed" in output[None], output[None]
    assert output["its configuration is a file of yours, and right"].startswith("ok ")
    assert output["the alerting rules are loaded"].startswith("ok ")
    assert "http://alerts:" in output["Prometheus knows its Alertmanager"]
    assert f"localhost:{mine.lab.ports[9090]}/watch" in output["Prometheus is ready"]
    assert f"localhost:{mine.lab.ports[8025]}/box" in output["Mailpit is ready"]


def test_a_change_in_any_file_is_told_with_the_command_that_applies_it(mine):
    for name in ("alerts.yml", "common.env"):
        before = mine.files[name]
        (mine.folder / name).write_text(before.replace("MP_WEBROOT: box", "MP_WEBROOT: other").replace("UTC", "CET"))
        output = mine.check("prometheus", "mailpit", code=1)
        line = output["Mailpit is ready" if name == "alerts.yml" else "Prometheus is ready"]
        assert (
            "differs from the Compose file" in line
            and "docker compose -f monitoring.yml -f alerts.yml up -d in" in line
        )
        (mine.folder / name).write_text(before)


def test_a_result_is_followed_to_a_mail_that_does_not_name_the_alert_in_its_subject(mine):
    """One of the two alerts is inhibited, and the other one is mailed."""
    output = mine.check("--alert")
    assert output["the mail arrives"].startswith("ok ")
    assert "ok    a result passes 0.7" in output[None]
    # The hand-in finds the model by its label, and the programs at their paths.
    mine.lab.run("hand-in", "7")
    text = (mine.root / "hand-in-7.txt").read_text()
    for name in ("first-scrape", "minutes-scraped", "fired", "mails", "sample"):
        assert re.search(f"^{name}: [0-9]", text, re.M), f"{name} is missing in:\n{text}"


def test_a_model_that_listens_on_this_machine_only_is_told_where_to_listen(mine):
    mine.model.kill()
    mine.model.wait()
    mine.lab.model.start("--value", "0.5")
    words = f"too: start it with --listen 0.0.0.0:{mine.lab.ports[5000]}"
    until(60, "the hint", lambda: words in mine.check("prometheus", code=None)["its targets are up"])


SHARED = {
    "compose.yaml": """
services:
  alertmanager:
    image: ALERTMANAGER
    command:
      - --config.file=/files/alertmanager.yml
      - --storage.path=/alertmanager
      - --web.listen-address=:@9093
      - --cluster.listen-address=
    volumes: [".:/files"]
    ports: ["127.0.0.1:@9093:@9093", "127.0.0.1:@9090:@9090"]
  prometheus:
    image: PROMETHEUS
    network_mode: "service:alertmanager"
    command: [--config.file=/files/prometheus.yml, --storage.tsdb.path=/prometheus, "--web.listen-address=:@9090"]
    volumes: [".:/files"]
""",
    "alertmanager.yml": "route: {receiver: none}\nreceivers: [{name: none}]\n",
    "prometheus.yml": 'alerting: {alertmanagers: [{static_configs: [{targets: ["localhost:@9093"]}]}]}\n',
}


def test_a_localhost_that_two_containers_share_is_right(make_lab):
    files = dict(SHARED)
    for word in ("PROMETHEUS", "ALERTMANAGER"):
        files["compose.yaml"] = files["compose.yaml"].replace(word, require_image(f".*/{word.lower()}"))
    shared = Stack(make_lab("shared"), files)
    shared.up()
    knows = lambda: shared.check("prometheus", code=None).get("Prometheus knows its Alertmanager", "")
    until(60, "its Alertmanager", lambda: knows().startswith("ok "), knows)
