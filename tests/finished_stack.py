"""The tests of the finished stack, as a student uses it. test_stack.py runs them on Docker, test_podman.py on Podman.

They build on each other, as the lab's steps do."""

import re
import time

import pytest

from lab import ROOT, docker, edit, fetch, fetch_json, has_image, is_readable, listens, require_image, run, until


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("stack")
    lab.services = ["prometheus", "alertmanager", "mailpit"] + ["grafana"] * has_image("grafana/grafana")
    # The first two results of this seed are above 0.9: an alert fires during the start.
    lab.model.start("--seed", "122")
    lab.output = lab.up(*lab.services)
    return lab


@pytest.fixture
def grafana(lab):
    """The password, for a test that needs Grafana."""
    require_image("grafana/grafana")
    return lab.password()


def test_up_prints_the_addresses_and_check_is_satisfied(lab):
    assert f"http://localhost:{lab.ports[9090]}" in lab.output
    assert (lab.stack / ".env").stat().st_mode & 0o777 == 0o600
    until(60, "the target is up", lambda: lab.ask('count(up{job="model_mock"} == 1)') == 1)
    lab.run("check", "exporter", *lab.services)


def test_everything_listens_on_the_loopback_address_only(lab):
    assert lab.exposed() == []
    # A single Alertmanager doesn't need a cluster, and so no port for other members.
    assert fetch_json(f"{lab.alertmanager}/api/v2/status")["cluster"]["status"] == "disabled"


def test_the_health_checks_work_in_their_containers(lab):
    for service in lab.services:
        lab.run_health_check(service)


def test_no_web_page_can_read_the_services(lab):
    prometheus = f"{lab.prometheus}/api/v1/query?query=up"
    assert is_readable(prometheus, lab.prometheus) and not is_readable(prometheus)
    assert not is_readable(f"{lab.mailpit}/api/v1/messages")
    assert "grafana" not in lab.services or not is_readable(f"{lab.grafana}/api/health")


def test_prometheus_and_alertmanager_run_with_the_settings_of_the_files(lab):
    # Prometheus takes 512MB for 512 MiB.
    assert fetch_json(f"{lab.prometheus}/api/v1/status/runtimeinfo")["data"]["storageRetention"] == "30d or 512MiB"
    flags = fetch_json(f"{lab.prometheus}/api/v1/status/flags")["data"]
    assert flags["web.external-url"] == f"{lab.prometheus}/" and flags["config.auto-reload-interval"] == "5s"
    config = fetch_json(f"{lab.prometheus}/api/v1/status/config")["data"]["yaml"]
    for setting in ("scrape_interval", "evaluation_interval", "refresh_interval"):
        assert set(re.findall(f"^ *{setting}: (.*)$", config, re.M)) == {"5s"}, setting
    assert fetch_json(f"{lab.prometheus}/api/v1/rules")["data"]["groups"][0]["interval"] == 5
    alertmanager = fetch_json(f"{lab.alertmanager}/api/v2/status")["config"]["original"]
    times = sorted(re.findall(r"(?:wait|interval): (.*)", alertmanager))
    assert times == ["0s", "1h", "200ms", "30s", "30s", "5m"]
    assert f"--web.external-url={lab.alertmanager}/" in docker("inspect", lab.container("alertmanager"))


def test_grafana_runs_with_the_settings_of_the_file(lab, grafana):
    settings = fetch_json(f"{lab.grafana}/api/admin/settings", password=grafana)
    names = {
        "unified_alerting": ["enabled"],
        "analytics": ["reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled"],
        "news": ["news_feed_enabled"],
        "snapshots": ["external_enabled"],
        "cloud_migration": ["enabled"],
        "plugins": ["preinstall_disabled", "public_key_retrieval_disabled"],
        "security": ["disable_gravatar"],
    }
    for section in names:
        for name in names[section]:
            assert settings[section][name] == ("true" if "disable" in name else "false"), name
    assert settings["security"]["brute_force_login_protection_max_attempts"] == "100"
    assert f"login admin, password {grafana}\n" in lab.output
    with pytest.raises(OSError, match="401"):
        fetch(f"{lab.grafana}/api/search")
    home = fetch_json(f"{lab.grafana}/api/dashboards/home", password=grafana)["dashboard"]
    assert home["uid"] == "modelmock"


def test_the_data_sources_of_grafana_work_and_cannot_be_changed(lab, grafana):
    sources = {source["uid"]: source for source in fetch_json(f"{lab.grafana}/api/datasources", password=grafana)}
    urls = {uid: f"http://127.0.0.1:{lab.ports[port]}" for uid, port in (("prometheus", 9090), ("loki", 3100))}
    assert {uid: source["url"] for uid, source in sources.items()} == urls
    assert all(source["readOnly"] for source in sources.values())
    assert sources["prometheus"]["isDefault"] and sources["prometheus"]["jsonData"]["timeInterval"] == "5s"
    link = sources["loki"]["jsonData"]["derivedFields"][0]["url"]
    assert link == "/d/modelmock?time=${__value.raw}&time.window=300000"
    health = fetch_json(f"{lab.grafana}/api/datasources/uid/prometheus/health", password=grafana)
    assert health["status"] == "OK"
    for uid in ("modelmock", "modelmock-class"):
        found = fetch_json(f"{lab.grafana}/api/dashboards/uid/{uid}", password=grafana)
        assert found["meta"]["provisioned"] and found["dashboard"]["panels"]
    edit(lab.stack / "grafana/provisioning/datasources/loki.yml", "window=300000", "window=100000")
    lab.run("up", "grafana")
    assert "window=100000" in fetch(f"{lab.grafana}/api/datasources", password=grafana)


def test_the_page_add_new_connection_of_grafana_works_offline(lab, grafana):
    """It asks Grafana for the plugins that could be installed. The list comes from a file and is empty."""
    assert fetch_json(f"{lab.grafana}/api/gnet/plugins", password=grafana, includeDeprecated="true") == {"items": []}
    assert "Proxy request failed" not in docker("logs", lab.container("grafana"))


def test_the_command_for_a_forgotten_password_works(lab, grafana):
    page = (ROOT / "stack/README.md").read_text()
    (command,) = re.findall(r"`(docker compose [^`]*reset-admin-password [^`]*)`", page)
    run("sh", "-c", command, cwd=lab.root, env=lab.env)
    (lab.stack / ".env").write_text(f"GRAFANA_PASSWORD={command.split()[-1]}\n")
    assert fetch_json(f"{lab.grafana}/api/user", password=lab.password())["login"] == "admin"


def test_a_result_that_is_high_once_is_mailed_and_so_is_its_end(lab):
    lab.quiet()
    address, summary = lab.model.address, "the result of the model is 0.95, above 0.9"
    beginning = f"FIRING ModelResultHigh at {address} since "
    count = len(lab.mails(beginning))
    lab.model.start("--value", "0.95")
    until(60, "Prometheus has the result", lambda: lab.ask("model_result") == 0.95)
    lab.model.start("--value", "0.5")
    until(60, f"the mail {beginning}", lambda: len(lab.mails(beginning)) > count, lab.mails)
    assert re.match(rf"{beginning}\d\d:\d\d:\d\d UTC: {re.escape(summary)}", lab.mails(beginning)[0])
    text = lab.mail_texts(beginning)[0]
    for line in (
        f"ModelResultHigh at {address} is firing: {summary}\n",
        f"The model at {address} gave the result 0.95",
        f"Dashboard: {lab.grafana}/d/modelmock?var-instance={address}\n",
    ):
        assert line in text
    lab.quiet()
    text = lab.mail_texts(f"RESOLVED ModelResultHigh at {address}")[0]
    assert f"ModelResultHigh at {address} is resolved, was:" in text
    begun, ended = re.search("^Since (.*) UTC, resolved (.*) UTC$", text, re.M).groups()
    assert begun < ended


def test_a_mail_names_its_times_in_utc_and_with_24_hours(lab):
    day = time.strftime("%F", time.gmtime(time.time() - 86400))
    alert = {"labels": {"alertname": "Evening", "instance": "localhost:1"}, "annotations": {"summary": "it is dark"}}
    alert |= {"startsAt": f"{day}T21:02:03Z"}
    alerts = f"{lab.alertmanager}/api/v2/alerts"
    fetch(alerts, [alert | {"endsAt": "2100-01-01T00:00:00Z"}])
    until(60, "its mail", lambda: lab.mails("FIRING Evening at localhost:1 since 21:02:03 UTC: it is dark"), lab.mails)
    fetch(alerts, [alert | {"endsAt": f"{day}T22:03:04Z"}])
    [text] = until(60, "the mail of its end", lambda: lab.mail_texts("RESOLVED Evening"), lab.mails)
    assert f"\nSince {day} 21:02:03 UTC, resolved {day} 22:03:04 UTC\n" in text


def test_samples_and_mails_outlive_down(lab):
    mails, password = set(lab.mails()), lab.password()
    samples = lab.ask("count_over_time(model_result[1h])")
    lab.run("down")
    assert not listens(lab.ports[9090])
    lab.up(*lab.services)
    until(60, "a sample more", lambda: lab.ask("count_over_time(model_result[1h])") > samples)
    assert mails <= set(lab.mails())
    assert lab.password() == password
