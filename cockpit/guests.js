// SPDX-License-Identifier: Apache-2.0
// The guests that ask for something, as `apvfio guest list` tells them, and those that hold queues.

import { clearGuest, release, setGuest, showPlan } from "./actions.js";
import { button, element, renew, section, table } from "./dom.js";
import { problemBox } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

export class Guests {
    constructor(changed) {
        this.changed = changed;
        this.list = element("div", {});
        this.part = section("guests", _("Guests"),
                            button(_("Give a guest queues…"), () => setGuest(null, changed), { class: "secondary change" }),
                            this.list);
    }

    show(rows) {
        const heads = [_("Guest"), _("State"), _("Asks for"), _("Its start"), ""];
        renew(this.list, rows, () => [rows.length
            ? table(_("Guests"), heads, rows.map(row => this.line(row)))
            : element("p", {}, _("No guest asks for queues."))]);
    }

    lament(problem) {
        renew(this.list, [problem.message, problem.remedy], () => [problemBox(problem)]);
    }

    line(row) {
        const label = what => ({ class: "secondary", "aria-label": `${what} ${row.guest}` });
        const change = what => ({ ...label(what), class: "secondary change" });
        return [row.guest, row.state, asked(row), standing(row), [element("div", { class: "buttons" },
            button(_("Plan…"), () => showPlan(row.guest), label(_("Plan"))),
            button(_("Change…"), () => setGuest(row, this.changed), change(_("Change"))),
            button(_("Clear…"), () => clearGuest(row, this.changed), change(_("Clear"))))]];
    }
}

function asked(row) {
    if (row.error)
        return element("span", { class: "warning" }, row.error);
    return row.any ? cockpit.format(_("any $0"), row.any) : matrix(row);
}

/** Whether it could start now, or why not, and with whom it cannot run. */
function standing(row) {
    const rivals = row.not_with.length && cockpit.format(_("not together with $0"), row.not_with.join(", "));
    const why = row.why && !row.error && element("span", { class: "warning" }, row.why.error);
    return [why || (row.can_start && _("possible")), rivals && element("small", {}, rivals)];
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

    show({ leases, promises }) {
        renew(this.list, [leases, promises], () => [
            leases.length
                ? table(_("Leases"), [_("Guest"), _("Queues"), _("Freed by"), _("State"), _("Device"), ""],
                        leases.map(lease => this.line(lease)))
                : element("p", {}, _("No guest holds queues.")),
            ...promises.map(promise =>
                element("p", {}, cockpit.format(_("mdevctl is starting the device $0."), promise.mdev))),
        ]);
    }

    line(lease) {
        return [lease.guest, matrix(lease), lease.way, lease.state, element("code", {}, lease.mdev),
                button(_("Release…"), () => release(lease, this.changed),
                       { class: "secondary change", "aria-label": `${_("Release")} ${lease.guest}` })];
    }
}
