// SPDX-License-Identifier: Apache-2.0
// What the page does to a host: each is a command of apvfio's, and first the same command's dry run.

import { ask } from "./command.js";
import { openPlan } from "./dialog.js";
import { element } from "./dom.js";
import { unreadable } from "./problem.js";
import { called } from "./text.js";
import * as words from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

/**
 * A dialog about one command: `command(values)` its words and its `name`, `tell` shows its document. It is done only on
 * the state that its plan was made on.
 */
function open({ command, tell, ...rest }) {
    let state;
    const asked = (values, more, rest) => {
        const { argv, name } = command(values);
        return ask([...argv, ...more], { name, admin: true, ...rest });
    };
    openPlan({
        ...rest,
        plan: async (values, signal) => {
            const [found, warning] = await asked(values, ["--dry-run"], { signal });
            if (typeof found.state !== "string")
                throw unreadable("apvfio");
            state = found.state;
            return [warning ? words.sentences([warning], "warning") : null, ...tell(found)];
        },
        act: async (values, signal) =>
            (await asked(values, [`--if-state=${state}`], { change: true, signal }))[1],
    });
}

/** What starting a guest would do. */
export function showPlan(guest) {
    openPlan({
        title: cockpit.format(_("Starting $0"), called(guest)),
        intro: _("What a start of the guest would do to this host now. Nothing is changed."),
        plan: async (_values, signal) => words.plan((await ask(["plan"], { name: guest, signal }))[0]),
    });
}

/** What a guest requests; `row` is its line of `guest list`, null for a guest that is named in the dialog. */
export function setGuest(row, done) {
    const byId = values => values.how === "ids";
    const runs = row && row.state === "running";
    open({
        title: row ? cockpit.format(_("Request of $0"), called(row.guest)) : _("Set a request"),
        done,
        fields: [
            ...(row ? [] : [{ name: "guest", label: _("Guest"), help: _("as libvirt calls it") }]),
            { name: "how", label: _("It requests"), kind: "choice", value: row && row.criteria ? "any" : "ids",
              options: [["ids", _("adapters and domains by their ids")], ["any", _("any queues with these properties")]] },
            { name: "adapters", label: _("Adapters"), value: row && row.adapters || "", when: byId,
              help: _("decimal ids and ranges, hexadecimal with 0x: 0,0xa") },
            { name: "domains", label: _("Usage domains"), value: row && row.domains || "", when: byId,
              help: _("decimal ids and ranges, hexadecimal with 0x: 1-2,0x1b") },
            { name: "any", label: _("Properties"), value: row && row.criteria && row.criteria.any || "",
              when: values => !byId(values), help: "mode=ep11,adapters=2,domains=1,min-generation=7,mkvp=0x…" },
            { name: "cards", label: _("Kinds of adapters"), when: values => !byId(values),
              value: row && row.criteria ? row.criteria.cards.join("; ") : "",
              help: _("only if the guest needs several, then without mode above: mode=cca,adapters=2; mode=ep11,adapters=1") },
            { name: "control", label: _("Control domains"), value: row && row.control_domains || "",
              help: _("empty for none; with properties, usage for the domains that the guest gets") },
            ...(runs ? [{ name: "when", label: _("Applies to"), kind: "choice", value: "config",
                          options: [["config", _("the next start")], ["live", _("the running guest")],
                                    ["both", _("both")]] }] : []),
            { name: "unchecked", label: _("Even if this host cannot start it now"), kind: "check",
              when: values => !values.when || values.when === "config" },
        ],
        command: values => ({
            argv: ["guest", "set",
                   ...(byId(values) ? [`--adapters=${values.adapters}`, `--domains=${values.domains}`]
                       : [`--any=${values.any}`, ...kinds(values.cards).map(one => `--cards=${one}`)]),
                   `--control-domains=${values.control}`,
                   ...scope(values.when),
                   ...(values.unchecked && (values.when || "config") === "config" ? ["--unchecked"] : [])],
            name: row ? row.guest : values.guest,
        }),
        tell: found => [...words.plan(found.plan), words.definition(found.definition)],
        verb: _("Set"),
    });
}

/** The kinds of adapters in a text with semicolons between them. */
const kinds = text => text.split(";").map(one => one.trim()).filter(one => one);

/** A guest requests nothing any more. */
export function clearGuest(row, done) {
    open({
        title: cockpit.format(_("Remove the request of $0"), called(row.guest)),
        done,
        fields: row.state !== "running" ? [] : [
            { name: "when", label: _("Applies to"), kind: "choice", value: "config",
              options: [["config", _("the next start")], ["live", _("the running guest")],
                        ["both", _("both")]] }],
        command: values => ({ argv: ["guest", "clear", ...scope(values.when)], name: row.guest }),
        tell: found => [
            found.mdev && element("p", { class: "warning" }, cockpit.format(_("The running guest loses its mediated device $0."), found.mdev)),
            words.definition(found.definition),
        ],
        verb: _("Clear"),
    });
}

function scope(when) {
    return { live: ["--live"], both: ["--config", "--live"] }[when] || [];
}

/** A guest's queues are returned, though libvirt has not said that it ended. */
export function release(lease, done) {
    open({
        title: cockpit.format(_("Release the queues of $0"), called(lease.guest)),
        intro: _("A guest's queues are returned when it stops. Release them only if apvfio missed that stop."),
        done,
        fields: [{ name: "force", label: _("Even if the guest still uses them: the running guest loses them"), kind: "check" }],
        command: ({ force }) => ({ argv: ["release", ...(force ? ["--force", "--yes"] : [])], name: lease.uuid }),
        tell: words.outcome,
        verb: _("Release"),
    });
}

/** The host becomes what the ledger says. */
export function reconcile(done) {
    open({
        title: _("Reconcile"),
        intro: _("Completes or undoes interrupted changes, and makes the pending returns that are due."),
        done,
        command: () => ({ argv: ["reconcile"] }),
        tell: words.outcome,
        verb: _("Reconcile"),
    });
}

/** The masks, in chzdev's language. */
export function changeMasks(done) {
    const help = _("-0xa frees an id for guests, +0xa returns it; 0-9,11-255 replaces the mask; empty leaves it");
    open({
        title: _("Change the masks"),
        done,
        fields: [
            { name: "apmask", label: _("apmask, of adapters"), help },
            { name: "aqmask", label: _("aqmask, of domains"), help },
            { name: "scope", label: _("Which"), kind: "choice", value: "both",
              options: [["both", _("now, and stored for the next boot")], ["active", _("now")],
                        ["persistent", _("stored for the next boot")]] },
        ],
        command: values => ({
            argv: ["masks", "--yes", ...["apmask", "aqmask"].filter(name => values[name]).map(name => `${name}=${values[name]}`),
                   ...(values.scope === "both" ? [] : [`--${values.scope}`])],
        }),
        tell: words.masks,
        verb: _("Change"),
    });
}
