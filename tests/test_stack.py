"""The finished stack on a real engine, as a student uses it. The tests build on each other, as the lab's steps do."""

import json
import re
import time

import pytest

from lab import ROOT, docker, fetch, fetch_json, has_image, image, listens, needs, run, until

MEMORY = {"prometheus": 512, "alertmanager": 128, "mailpit": 128, "grafana": 512}


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("stack")
    lab.services = [service for service in MEMORY if service != "grafana" or has_image("grafana/grafana")]
    # The first two results of this seed are above 0.9: an alert fires during the start.
    lab.model.start("--seed", "3")
    lab.said = lab.up(*lab.services)
    return lab


@pytest.fixture
def grafana(lab):
    """The password, for a test that needs Grafana."""
    image("grafana/grafana")
    return lab.password()


def test_up_prints_the_addresses_and_check_is_satisfied(lab):
    assert f"http://localhost:{lab.ports[9090]}" in lab.said
    assert (lab.stack / ".env").stat().st_mode & 0o777 == 0o600
    until(20, "the target is up", lambda: lab.ask('count(up{job="model_mock"} == 1)') == 1)
    lab.run("check", "exporter", *lab.services)


def test_everything_listens_on_the_loopback_address_only(lab):
    needs("ss", "iproute2")
    addresses = [line.split()[3] for line in run("ss", "-ltnH").splitlines()]
    for port in lab.ports.values():
        assert not [address for address in addresses if re.search(rf"(?<!^127\.0\.0\.1):{port}$", address)]
    # A single Alertmanager needs no cluster, so it has no port for other members.
    assert fetch_json(f"{lab.alertmanager}/api/v2/status")["cluster"]["status"] == "disabled"


def inspect(lab, service):
    return json.loads(docker("inspect", lab.container(service)))[0]


def test_each_container_is_healthy_has_limits_and_stays_down_after_a_reboot(lab):
    for service in lab.services:
        container = inspect(lab, service)
        docker("exec", container["Id"], *container["Config"]["Healthcheck"]["Test"][1:])
        host = container["HostConfig"]
        seen = [host[key] for key in ("CapDrop", "SecurityOpt", "ReadonlyRootfs", "PidsLimit", "Memory", "MemorySwap")]
        limit = MEMORY[service] << 20
        assert seen == [["ALL"], ["no-new-privileges:true"], True, 256, limit, limit], service
        assert host["RestartPolicy"]["Name"] == "on-failure", service
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}}, service


def test_each_volume_has_a_name(lab):
    """Also the folder that an image declares as a volume: without a mount, Docker would create an unnamed one."""
    for service in lab.services:
        names = [mount["Name"] for mount in inspect(lab, service)["Mounts"] if mount["Type"] == "volume"]
        assert names == [f"{lab.project}_{service}-data"], service


def origin_allowed(url, origin):
    """Whether a web page of that origin may read the answer, by the header that browsers look at."""
    answer = run("curl", "-sSi", "--noproxy", "*", "-H", f"Origin: {origin}", url)
    return re.search(rf"^access-control-allow-origin: (\*|{origin})\r$", answer, re.M | re.I) is not None


def test_no_web_page_can_read_the_services(lab):
    pages = {"prometheus": f"{lab.prometheus}/api/v1/query?query=up", "mailpit": f"{lab.mailpit}/api/v1/messages"}
    if "grafana" in lab.services:
        pages["grafana"] = f"{lab.grafana}/api/health"
    assert not [service for service, page in pages.items() if origin_allowed(page, "http://attacker.example")]
    assert origin_allowed(pages["prometheus"], lab.prometheus)


def test_prometheus_runs_with_the_settings_of_the_file(lab):
    # Prometheus takes 512MB for 512 MiB.
    assert fetch_json(f"{lab.prometheus}/api/v1/status/runtimeinfo")["data"]["storageRetention"] == "30d or 512MiB"
    flags = fetch_json(f"{lab.prometheus}/api/v1/status/flags")["data"]
    assert flags["web.external-url"] == f"{lab.prometheus}/" and flags["config.auto-reload-interval"] == "5s"
    assert (flags["web.enable-admin-api"], flags["web.enable-lifecycle"]) == ("false", "false")
    config = fetch_json(f"{lab.prometheus}/api/v1/status/config")["data"]["yaml"]
    for setting in ("scrape_interval", "evaluation_interval", "refresh_interval"):
        assert set(re.findall(f"^ *{setting}: (.*)$", config, re.M)) == {"5s"}, setting
    alertmanager = fetch_json(f"{lab.alertmanager}/api/v2/status")["config"]["original"]
    assert re.findall("repeat_interval: (.*)", alertmanager) == ["1h"]
    rules = fetch_json(f"{lab.prometheus}/api/v1/rules")["data"]["groups"][0]
    keys = ("duration", "keepFiringFor", "labels")
    assert rules["interval"] == 5
    assert {rule["name"]: tuple(rule[key] for key in keys) for rule in rules["rules"]} == {
        "ModelResultHigh": (0, 15, {"severity": "warning"}),
        "ModelMockDown": (15, 0, {"severity": "critical"}),
        "ModelResultStale": (10, 0, {"severity": "warning"}),
        "ModelResultDrift": (60, 0, {"severity": "warning"}),
    }


def test_grafana_runs_with_the_settings_of_the_file(lab, grafana):
    settings = fetch_json(f"{lab.grafana}/api/admin/settings", password=grafana)
    off = {
        "auth.anonymous": ["enabled"],
        "users": ["allow_sign_up"],
        "unified_alerting": ["enabled"],
        "analytics": ["reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled"],
        "news": ["news_feed_enabled"],
        "snapshots": ["external_enabled"],
        "cloud_migration": ["enabled"],
        "security": ["allow_embedding"],
    }
    on = {"plugins": ["preinstall_disabled", "public_key_retrieval_disabled"], "security": ["disable_gravatar"]}
    for value, sections in (("false", off), ("true", on)):
        for section, names in sections.items():
            assert {name: settings[section][name] for name in names} == dict.fromkeys(names, value), section
    assert settings["security"]["brute_force_login_protection_max_attempts"] == "100"
    with pytest.raises(OSError, match="401"):
        fetch(f"{lab.grafana}/api/search")
    home = fetch_json(f"{lab.grafana}/api/dashboards/home", password=grafana)["dashboard"]
    assert home["uid"] == "modelmock"


def test_the_data_sources_of_grafana_work_and_cannot_be_changed(lab, grafana):
    sources = {source["uid"]: source for source in fetch_json(f"{lab.grafana}/api/datasources", password=grafana)}
    assert set(sources) == {"prometheus", "loki"} and all(source["readOnly"] for source in sources.values())
    prometheus = sources["prometheus"]
    assert prometheus["isDefault"] and prometheus["jsonData"]["timeInterval"] == "5s"
    assert prometheus["url"] == f"http://127.0.0.1:{lab.ports[9090]}"
    assert sources["loki"]["url"] == f"http://127.0.0.1:{lab.ports[3100]}"
    health = fetch_json(f"{lab.grafana}/api/datasources/uid/prometheus/health", password=grafana)
    assert health["status"] == "OK"
    for uid in ("modelmock", "modelmock-class"):
        found = fetch_json(f"{lab.grafana}/api/dashboards/uid/{uid}", password=grafana)
        assert found["meta"]["provisioned"] and found["dashboard"]["panels"]


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


def test_a_high_result_is_mailed_and_so_is_its_end(lab):
    lab.quiet()
    lab.model.start("--value", "0.95")
    lab.run("check", "--alert")
    until(10, "Prometheus has the page's value", lambda: lab.ask("model_result") == 0.95)
    address = lab.model.address
    subject = rf"FIRING ModelResultHigh at {address} since [\d:]+ UTC: the result of the model is 0\.95, above 0\.9"
    assert re.match(subject, lab.mails()[0])
    text = newest_mail(lab)
    assert f"ModelResultHigh at {address} is firing: the result of the model is 0.95, above 0.9" in text
    assert f"The model at {address} gave the result 0.95" in text
    assert f"Dashboard: {lab.grafana}/d/modelmock?var-instance={address}" in text
    lab.quiet()
    assert re.match(rf"RESOLVED ModelResultHigh at {address}, was: the result", lab.mails()[0])
    assert f"ModelResultHigh at {address} is resolved, was:" in newest_mail(lab)


def newest_mail(lab):
    message = fetch_json(f"{lab.mailpit}/api/v1/messages?limit=1")["messages"][0]
    return fetch_json(f"{lab.mailpit}/api/v1/message/{message['ID']}")["Text"].replace("\r\n", "\n")


def test_a_result_that_is_high_once_is_mailed_within_10_s(lab):
    count = len(lab.mails("FIRING ModelResultHigh"))
    lab.model.start("--value", "0.95")
    time.sleep(5)
    lab.model.start("--value", "0.5")
    until(5, "its mail", lambda: len(lab.mails("FIRING ModelResultHigh")) > count)


def test_samples_and_mails_outlive_down(lab):
    mails, password = set(lab.mails()), lab.password()
    samples = lab.ask("count_over_time(model_result[1h])")
    lab.run("down")
    assert not listens(lab.ports[9090])
    lab.up(*lab.services)
    until(20, "a sample more", lambda: lab.ask("count_over_time(model_result[1h])") > samples)
    assert mails <= set(lab.mails())
    assert lab.password() == password


def test_a_model_that_is_down_is_reported_and_mailed(lab):
    lab.model.stop()
    until(20, "the target is down", lambda: lab.ask("up") == 0)
    said = lab.run("check", "exporter", "prometheus", code=1)
    assert "cargo run --release" in said and "connection refused" in said
    until(45, "its mail", lambda: lab.mails(f"FIRING ModelMockDown at {lab.model.address}"))
    lab.model.start("--value", "0.5")
    until(90, "the mail of its end", lambda: lab.is_over("ModelMockDown"))
