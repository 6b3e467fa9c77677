"""The walk through the README's section on Alertmanager, in a lab of its own, beside the rest of the walk."""

import time

from lab import until
from test_walk import lab, walk  # noqa: F401 (fixtures)


def mails(lab, state="FIRING"):
    return len(lab.mails(f"{state} ModelResultHigh at {lab.model.address}"))


def high_fires(lab):
    return any(alert["labels"]["alertname"] == "ModelResultHigh" and alert["state"] == "firing" for alert in lab.alerts())


def test_alertmanager(walk, lab):
    with walk.section("Alertmanager", 1000, 860) as page:
        in_alertmanager(walk, lab, page)


def in_alertmanager(walk, lab, page):
    lab.model.start("--value", "0.5")
    until(60, "Alertmanager: the alert of before does not end", lambda: not high_fires(lab))
    before = mails(lab)
    lab.model.start("--value", "0.95")
    until(30, "Alertmanager: the alert does not fire", lambda: high_fires(lab))
    until(15, "Alertmanager: there is no mail", lambda: mails(lab) > before)
    page.goto(lab.prometheus)
    walk.press("Alerts")
    walk.find("FIRING (1)")
    page.get_by_text("ModelResultHigh", exact=True).first.click()
    walk.sees(f'instance="{lab.model.address}"')
    walk.picture("alert-firing", height=700)
    page.goto(lab.alertmanager)
    walk.press("Expand all groups")
    walk.sees('severity="warning"')
    walk.picture("alertmanager", height=500)
    page.goto(lab.mailpit)
    page.get_by_text("FIRING ModelResultHigh").first.click()
    walk.matches(rf"FIRING ModelResultHigh at {lab.model.address} since [\d:]+ UTC: the result of the model is 0\.95, above 0\.9")
    walk.picture("mail", height=480)

    page.goto(lab.alertmanager)
    walk.sees("ModelResultHigh")
    walk.press("Silence")
    walk.fill("Duration", "10m")
    walk.fill("Creator", "me")
    walk.fill("Comment", "trying it out")
    page.wait_for_timeout(500)
    page.set_viewport_size({"width": 1000, "height": 1040})
    page.evaluate("scrollTo(0, 0)")
    walk.picture("silence")
    page.set_viewport_size({"width": 1000, "height": 860})
    walk.press("Create")
    page.goto(lab.alertmanager)
    walk.press("Alerts")
    walk.sees("No alert groups found")
    walk.press("Silenced")
    walk.sees("ModelResultHigh")
    lab.model.start("--value", "0.5")
    until(60, "Alertmanager: the alert does not end", lambda: not high_fires(lab))
    before = mails(lab)
    lab.model.start("--value", "0.95")
    until(30, "Alertmanager: the alert does not fire again", lambda: high_fires(lab))
    time.sleep(10)
    assert mails(lab) == before, "Alertmanager: a mail came in spite of the silence"
    walk.press("Silences", "Expire", "Confirm")
    resolved = mails(lab, "RESOLVED")
    lab.model.start()
    until(60, "Alertmanager: no mail that it is resolved came after the silence", lambda: mails(lab, "RESOLVED") > resolved)
