// SPDX-License-Identifier: Apache-2.0
// The page: it follows `apvfio status --watch`, and asks for the rest when something has changed.

import { reconcile } from "./actions.js";
import { ask, follow } from "./command.js";
import { button, element, fill, section } from "./dom.js";
import { Guests, Leases } from "./guests.js";
import { Host } from "./host.js";
import { Matrix } from "./matrix.js";
import { followTheme } from "./theme.js";
import { problemBox, sentences } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

const OFTEN = 15000;
const SOON = 2000;
let timer;

const matrix = new Matrix();
const guests = new Guests(changed);
const leases = new Leases(changed);
const host = new Host(changed);
const live = element("span", { id: "live", role: "status" }, _("connecting…"));
const access = element("div", { id: "access" });
const alerts = element("div", { id: "alerts" });
const notes = element("div", { id: "notes" });
const drift = element("div", { id: "drift" });
const parts = element("div", { class: "parts", hidden: true },
                      section("matrix", _("Queues"), [], ...matrix.parts), host.part, guests.part, leases.part);

function show(status) {
    fill(alerts);
    fill(live, _("live"));
    parts.hidden = false;
    matrix.show(status);
    leases.show(status);
    host.show(status);
    fill(drift, status.drift.length && element("div", { class: "alert warning", role: "status" },
                                               element("strong", {}, _("Not as it should be")), sentences(status.drift, ""),
                                               button(_("Reconcile…"), () => reconcile(changed), { class: "secondary change" })));
    more();
    // A guest that has its queues runs only a little later, and that is no change of the host.
    clearTimeout(timer);
    timer = setTimeout(more, SOON);
}

function lament(problem) {
    fill(live, _("not live"));
    fill(alerts, problemBox(problem));
}

/** What no event tells: libvirt's guests, and the stored masks. */
async function more() {
    await Promise.all([
        ask(["guest", "list"]).then(([rows]) => guests.show(rows), problem => guests.lament(problem)),
        ask(["masks"]).then(([masks]) => host.showStored(masks), () => host.showStored(null)),
    ]);
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
    };
    permission.addEventListener("changed", decide);
    decide();
    setInterval(() => cockpit.hidden || parts.hidden || more(), OFTEN);
}

followTheme();
fill(document.getElementById("page"), element("header", { class: "top" }, element("h1", {}, _("Crypto queues")), live),
     access, alerts, notes, drift, parts);
document.title = _("Crypto queues");
start();
