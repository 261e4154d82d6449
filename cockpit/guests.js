// SPDX-License-Identifier: Apache-2.0
// The guests that request something, as `apvfio guest list` tells them, and those that hold queues.

import { clearGuest, release, setGuest, showPlan } from "./actions.js";
import { button, element, fill, renew, section, table } from "./dom.js";
import { called } from "./text.js";
import { unansweredBox } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

/** Rivals that are named; a host may have a thousand guests. */
const RIVALS = 8;

export class Guests {
    constructor(changed) {
        this.changed = changed;
        this.state = element("div", {});
        this.list = element("div", {}, element("p", { class: "waiting" }, _("Waiting for libvirt…")));
        this.part = section("guests", _("Guests"),
                            button(_("Set a request…"), () => setGuest(null, changed), { class: "secondary change" }),
                            this.state, this.list);
    }

    show(rows) {
        if (!Array.isArray(rows))
            throw new TypeError("guests are a list");
        const heads = [_("Guest"), _("State"), _("Request"), _("Next start"), ""];
        renew(this.list, rows, () => [rows.length
            ? table(_("Guests"), heads, rows.map(row => this.line(row)))
            : element("p", {}, _("No guest requests queues."))]);
        renew(this.state, null, () => []);
    }

    /** There is no answer, for a reason that may not be known; what is shown stays. */
    unanswered(problem, since, last) {
        renew(this.state, [problem?.message, problem?.remedy, since], () => [unansweredBox(problem, since, last)]);
        if (!last)
            fill(this.list);
    }

    line(row) {
        const label = what => ({ class: "secondary", "aria-label": `${what} ${called(row.guest)}` });
        const change = what => ({ ...label(what), class: "secondary change" });
        return [called(row.guest), row.state, asked(row), standing(row), [element("div", { class: "buttons" },
            button(_("Plan…"), () => showPlan(row.guest), label(_("Plan"))),
            button(_("Change…"), () => setGuest(row, this.changed), change(_("Change"))),
            button(_("Clear…"), () => clearGuest(row, this.changed), change(_("Clear"))))]];
    }
}

function asked(row) {
    if (!requests(row))
        return row.error ? element("span", { class: "warning" }, row.error.message) : _("nothing");
    return row.criteria ? criteria(row) : matrix(row);
}

/** Criteria and control domains in words. */
function criteria({ criteria: { any, cards }, control_domains: control }) {
    const text = cockpit.format(_("any $0"), [any, ...cards].join("; "));
    return control ? cockpit.format(_("$0, control domains $1"), text, control) : text;
}

/** Whether its request is known: it may have none, or one that makes no sense. */
const requests = row => row.criteria || row.adapters !== null;

/** Whether it could start now, or why not, and with whom it cannot run. */
function standing(row) {
    const more = row.conflicts.length - RIVALS;
    const named = row.conflicts.slice(0, RIVALS).map(called).join(", ") +
        (more > 0 ? cockpit.format(_(" and $0 more"), more) : "");
    const rivals = named && cockpit.format(_("not together with $0"), named);
    const why = row.error && requests(row) && element("span", { class: "warning" }, row.error.message);
    return [why || (row.can_start && _("possible")), rivals ? element("small", {}, rivals) : null];
}

/** Adapters, domains and control domains in words. */
function matrix({ adapters, domains, control_domains: control }) {
    const text = cockpit.format(_("adapters $0, domains $1"), adapters, domains);
    return control ? cockpit.format(_("$0, control domains $1"), text, control) : text;
}

export class Leases {
    constructor(changed) {
        this.changed = changed;
        this.list = element("div", {});
        this.part = section("leases", _("Leases"), [], this.list);
    }

    show({ leases, claims }) {
        renew(this.list, [leases, claims], () => [
            leases.length
                ? table(_("Leases"), [_("Guest"), _("Queues"), _("Freed by"), _("State"), _("Mediated device"), ""],
                        leases.map(lease => this.line(lease)))
                : element("p", {}, _("No guest holds queues.")),
            ...claims.map(claim =>
                element("p", {}, cockpit.format(_("mdevctl is starting mediated device $0."), claim.mdev))),
        ]);
    }

    line(lease) {
        return [called(lease.guest), matrix(lease), lease.freed_by, lease.state, element("code", {}, lease.mdev),
                button(_("Release…"), () => release(lease, this.changed),
                       { class: "secondary change", "aria-label": `${_("Release")} ${called(lease.guest)}` })];
    }
}
