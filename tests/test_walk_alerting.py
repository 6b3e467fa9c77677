"""Follows the lab's page on Alertmanager in depth: receivers, grouping, inhibition, silence, and the three times."""

import re
import time

import pytest

from lab import Model, fetch_json, until, value
from walk import second_laptop

PROMETHEUS, ALERTMANAGER, MAILPIT = "http://localhost:9090", "http://localhost:9093", "http://localhost:8025"


@pytest.fixture(scope="module")
def walk(request):
    with second_laptop("alerting", request, "prom/prometheus", "prom/alertmanager", "axllent/mailpit") as walk:
        walk.shell("mkdir my-stack && cd my-stack")
        walk.run_model("cargo run --release -- --value 0.5")
        second = Model(5001)
        request.addfinalizer(second.stop)
        walk.second = second
        yield walk


def compose(walk, *commands):
    """Compose's commands, without Grafana, which this page doesn't need."""
    for command in commands:
        walk.shell(f"docker compose {command}")


def is_scraped(walk):
    restarted = time.time()
    until(90, "Prometheus scrapes", lambda: (value(PROMETHEUS, "max(timestamp(model_result))") or 0) > restarted)


def mails():
    """The subjects, the newest first."""
    return [mail["Subject"] for mail in fetch_json(f"{MAILPIT}/api/v1/messages?limit=500")["messages"]]


def calls(walk):
    """The webhook's lines that begin a call."""
    return walk.shell("docker compose logs --no-log-prefix webhook").count("--- ")


def test_alertmanager_in_depth(walk):
    with walk.follows("alerting.md"):
        walk.write_up_to("6-hand-in.md")
        walk.type()  # copies the files
        compose(walk, "up -d prometheus alertmanager mailpit")

        # Without for: and keep_firing_for:, the alert ends with the result.
        walk.word("keep_firing_for:")
        rules = walk.root / "my-stack/rules.yml"
        rules.write_text(re.sub(r"^ *(keep_firing_for|for):.*\n", "", rules.read_text(), flags=re.M))
        walk.type("docker compose restart prometheus")
        is_scraped(walk)
        walk.run_model("cargo run --release -- --value 0.95")
        until(60, "the mail", lambda: walk.word("[FIRING:1]") in str(mails()))
        walk.run_model("cargo run --release -- --value 0.5")
        until(60, "the mail of the end", lambda: walk.word("[RESOLVED]") in str(mails()))

        walk.shell(walk.fence("sh"))  # makes the webhook
        walk.write(3)
        walk.shell(walk.fence("sh").replace("up -d", "up -d prometheus alertmanager mailpit webhook"))
        until(60, "Alertmanager", lambda: fetch_json(f"{ALERTMANAGER}/api/v2/status"))
        am, *questions = walk.fence("sh").splitlines()
        # The walk's shell keeps variables, but no functions.
        ask = lambda command: walk.shell(f"{am}\n{command}")
        receivers = [ask(question).split() for question in questions]
        assert receivers == [[walk.word("webhook,mailbox")], ["mailbox"]], receivers

        # Grouping: one mail for two models.
        targets = walk.root / "my-stack/prometheus.yml"
        added = targets.read_text().replace(
            '- "localhost:5000"\n', '- "localhost:5000"\n          - "localhost:5001"\n'
        )
        targets.write_text(added)
        walk.word('"localhost:5001"')
        compose(walk, "restart prometheus")
        walk.second.start("--value", "0.95")
        is_scraped(walk)
        walk.run_model("cargo run --release -- --value 0.95")
        both = walk.word("[FIRING:2] ModelResultHigh (model_mock warning)")
        until(120, "one mail for two models", lambda: both in mails())

        # Inhibition: the model that is down explains the high result.
        before = calls(walk)
        walk.second.stop()
        down = lambda: [subject for subject in mails() if "FIRING:1] ModelDown" in subject]
        until(90, "the mail about the model that is down", down)
        until(60, "the call of the webhook", lambda: calls(walk) == before + 1)
        inhibited = ask(walk.word("am alert query --inhibited -o extended"))
        assert "localhost:5001" in inhibited and walk.word("suppressed") in inhibited, inhibited
        high = [subject for subject in mails() if "ModelResultHigh" in subject]
        alerts = lambda: fetch_json(f"{ALERTMANAGER}/api/v2/alerts?filter=alertname=ModelResultHigh")
        of_second = lambda: [alert for alert in alerts() if alert["labels"]["instance"] == "localhost:5001"]
        until(120, "the end of the inhibited alert", lambda: not of_second())
        assert [subject for subject in mails() if "ModelResultHigh" in subject] == high

        # A silence of one of two.
        ask(walk.fence("sh"))
        walk.second.start("--value", "0.95")
        until(90, "the mail of the end", lambda: walk.word("[RESOLVED] ModelDown") in str(mails()[:2]))
        silenced = until(60, "the silenced alert", lambda: ask(walk.word("am alert query --silenced")))
        assert "ModelResultHigh" in silenced
        time.sleep(31)  # an interval of the group
        assert [subject for subject in mails() if "ModelResultHigh" in subject] == high
        ask(walk.word("am silence expire $(am silence query --quiet)"))

        # The three times.
        times = calls(walk)
        started = time.time()
        output = ask(walk.fence("sh"))
        assert time.time() - started > 100
        reasons = re.findall(r'"?(?:notification_)?[rR]eason"?\s*[:=]\s*"([^"]*)', output)
        clock = [
            sum(int(part) * 60**power for power, part in enumerate(reversed(each.split(":"))))
            for each in re.findall(r"(\d\d:\d\d:\d\d)", output)
        ]
        begin, seen = clock[0], clock[1:][times:]
        delays = [(each - begin) % 86400 for each in seen]
        assert len(delays) == 3 and all(abs(a - b) <= 3 for a, b in zip(delays, (10, 40, 100))), (delays, output)
        promised = [walk.word(word) for word in ("first notification", "new alerts added", "repeat interval elapsed")]
        assert reasons[-3:] == promised or all(word in output for word in promised), output

        walk.second.stop()
        walk.run_model("cargo run --release -- --value 0.5")
        back = walk.fence("sh").replace(
            "up -d --remove-orphans", "up -d --remove-orphans prometheus alertmanager mailpit"
        )
        walk.shell(back)
        check = walk.word("../scripts/check.sh prometheus alertmanager")
        until(90, "no failure", lambda: "FAIL" not in walk.shell(check, code=None))
        walk.explains(
            "localhost:5001", "[FIRING:2]", "--value 0.95", "--value 0.95 --listen 127.0.0.1:5001", "ModelDown"
        )
        walk.explains("ModelResultHigh", "my-stack", "prometheus.yml", "amtool", "am", "Ctrl+C", "mailbox", "for:")
        walk.explains("curl -s localhost:9093/api/v2/alerts", "busybox httpd", "repeat_interval")
        walk.explains("docker compose logs -f --no-log-prefix webhook")
