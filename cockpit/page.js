// SPDX-License-Identifier: Apache-2.0
// The page: it follows `apvfio status --watch`, and asks for the rest when something has changed.

import { reconcile } from "./actions.js";
import { follow } from "./command.js";
import { button, element, fill, section } from "./dom.js";
import { Guests, Leases } from "./guests.js";
import { Host } from "./host.js";
import { Matrix } from "./matrix.js";
import { noAnswer, unreadable } from "./problem.js";
import { Question } from "./question.js";
import { timeOfDay } from "./text.js";
import { followTheme } from "./theme.js";
import { sentences, unansweredBox } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

const OFTEN = 15000;
const SOON = 2000;
/** Seconds that the first status, and what cockpit says of its user, may take. */
const PATIENCE = 5;
const LONGEST = 30;
let timer;
/** Since when there is no status, null if there is one; when there was one last, or null. */
let since = new Date(), last = null;

const matrix = new Matrix();
const guests = new Guests(changed);
const leases = new Leases(changed);
const host = new Host(changed);
/** What no event tells: libvirt's guests, and the stored masks. */
const questions = [
    new Question(["guest", "list"], { answered: rows => guests.show(rows), unanswered: (...why) => guests.unanswered(...why) }),
    new Question(["masks"], { answered: masks => host.showStored(masks), unanswered: (...why) => host.unanswered(...why) }),
];
const live = element("span", { id: "live", role: "status" }, _("connecting…"));
const access = element("div", { id: "access" });
const alerts = element("div", { id: "alerts" });
const notes = element("div", { id: "notes" });
const drift = element("div", { id: "drift" });
const parts = element("div", { class: "parts", hidden: true },
                      section("matrix", _("Queues"), [], ...matrix.parts), host.part, guests.part, leases.part);

function show(status) {
    try {
        matrix.show(status);
        leases.show(status);
        host.show(status);
        fill(drift, status.drift.length ? drifted(status.drift) : null);
    } catch {
        lament(unreadable("apvfio status --watch"));
        return;
    }
    fill(alerts);
    fill(live, _("live"));
    parts.hidden = false;
    since = null;
    last = new Date();
    more();
    // A guest that has its queues runs only a little later, and that is no change of the host.
    clearTimeout(timer);
    timer = setTimeout(more, SOON);
}

function drifted(sentencesOfDrift) {
    return element("div", { class: "alert warning", role: "status" },
                   element("strong", {}, _("Drift")), sentences(sentencesOfDrift, ""),
                   button(_("Reconcile…"), () => reconcile(changed), { class: "secondary change" }));
}

function lament(problem) {
    since ??= new Date();
    fill(live, _("not live"));
    fill(alerts, unansweredBox(problem, since, last));
}

function more() {
    questions.forEach(question => question.ask());
}

/** Something was done. What is more to say about it stays until it is read. */
function changed(warning) {
    if (warning)
        notes.append(note(warning));
    more();
}

function note(text) {
    const box = element("div", { class: "alert warning", role: "alert" }, element("p", {}, text),
                        button(_("Dismiss"), () => box.remove(), { class: "secondary" }));
    return box;
}

/** Without the rights of an administrator there is little to see, and nothing to be done. */
function permitted(admin) {
    document.body.classList.toggle("limited", !admin);
    fill(access, !admin && element("div", { class: "alert info", role: "status" },
                                   element("strong", {}, _("Limited access")),
                                   element("p", {}, _("To change anything, turn on administrative access at the top of the page."))));
}

function start() {
    const permission = cockpit.permission({ admin: true });
    let end = null;
    // null: not known yet.
    const decide = () => {
        if (permission.allowed === null)
            return;
        permitted(permission.allowed);
        if (end)
            end();
        end = follow(show, lament);
        setTimeout(() => last || alerts.hasChildNodes() ||
                   fill(live, cockpit.format(_("no answer since $0"), timeOfDay(since))), PATIENCE * 1000);
    };
    permission.addEventListener("changed", decide);
    decide();
    setTimeout(() => end || lament(noAnswer("cockpit", LONGEST)), LONGEST * 1000);
    setInterval(() => cockpit.hidden || parts.hidden || more(), OFTEN);
}

followTheme();
fill(document.getElementById("page"), element("header", { class: "top" }, element("h1", {}, _("Crypto queues")), live),
     access, alerts, notes, drift, parts);
document.title = _("Crypto queues");
start();
