// SPDX-License-Identifier: Apache-2.0
// Plans and outcomes of apvfio's in words, as elements.

import { element, facts } from "./dom.js";
import { Problem, unreadable } from "./problem.js";
import { timeOfDay } from "./text.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

const SHOWN = 32;
const DOES = {
    remove: _("remove the mediated device"),
    return: _("return to the host"),
    free: _("free for guests"),
    unbind: _("unbind the queue"),
    probe: _("bind the queue"),
    offline: _("set offline again"),
    create: _("create the mediated device"),
    assign: _("assign queues to the device"),
};

/** Up to 32 queues, and how many they are. */
export function queues(list, none = _("none")) {
    if (!list.length)
        return none;
    const shown = list.slice(0, SHOWN).join(", ") + (list.length > SHOWN ? ", …" : "");
    return `${cockpit.format(cockpit.ngettext("$0 queue", "$0 queues", list.length), list.length)}: ${shown}`;
}

/** A list of sentences, or null. */
export function sentences(list, look) {
    return list.length ? element("ul", { class: look }, ...list.map(text => element("li", {}, text))) : null;
}

/** What went wrong, and what to do; `more` follows. An error of this page's own means that the answer is from another version. */
export function problemBox(problem, ...more) {
    const { message, remedy } = problem instanceof Problem ? problem : unreadable("apvfio");
    return element("div", { class: "alert danger", role: "alert" },
                   element("strong", {}, message), remedy ? element("p", {}, remedy) : null, ...more);
}

/** That there is no answer, since when, why if that is known, and from when what is shown is. */
export function unansweredBox(problem, since, last) {
    const when = element("p", {}, cockpit.format(_("No answer since $0."), timeOfDay(since)),
                         " ", last ? cockpit.format(_("What is shown is from $0."), timeOfDay(last)) : "");
    return problem ? problemBox(problem, when) : element("div", { class: "alert warning", role: "status" }, when);
}

/** The writes to the kernel. */
export function steps(list) {
    if (!list.length)
        return element("p", {}, _("This host does not have to change."));
    const title = cockpit.ngettext("$0 write to the kernel", "$0 writes to the kernel", list.length);
    return element("details", { open: list.length < 9 }, element("summary", {}, cockpit.format(title, list.length)),
                   element("ol", {}, ...list.map(step =>
                       element("li", {}, DOES[step.op] || step.op, element("code", {}, `echo ${step.value} > ${step.path}`)))));
}

/** What starting a guest does, or changing one that runs. */
export function plan(found) {
    if (!found)
        return [element("p", {}, _("This host was not checked."))];
    return [
        facts([
            [_("Queues"), queues(found.queues)],
            ...(found.gained ? [[_("The guest gets"), queues(found.gained)]] : []),
            ...(found.given_up ? [[_("The guest gives up"), queues(found.given_up)]] : []),
            [_("Freed by"), freedBy(found)],
            [_("Collateral queues"), element("span", { class: found.collateral.length ? "warning" : "" },
                                                  queues(found.collateral))],
            ...(found.alternative ? [[_("Alternative"), alternative(found.alternative)]] : []),
        ]),
        sentences(found.warnings, "warning"),
        steps(found.steps),
        found.chzdev.length ? element("p", {}, _("Equivalent chzdev command: "),
                                      ...found.chzdev.map(text => element("code", {}, text))) : null,
    ];
}

function freedBy(found) {
    if (found.mechanism === "overrides")
        return _("driver_override, queue by queue; no collateral queues");
    if (found.freed_by === "none")
        return _("no mask change needed: the queues are already free");
    return found.freed_by === "adapters" ? _("adapters (apmask)") : _("domains (aqmask)");
}

function alternative(other) {
    const what = other.freed_by === "adapters" ? _("adapters; collateral queues: $0")
        : _("domains; collateral queues: $0");
    return cockpit.format(what, queues(other.collateral));
}

/** What becomes of a guest's definition. */
export function definition(lines) {
    return lines.length ? element("details", { open: true }, element("summary", {}, _("Its definition")),
                                  element("pre", {}, ...lines.map(line => element("div", {}, line))))
        : element("p", {}, _("Its definition stays as it is."));
}

/** What a release or a reconciliation does. */
export function outcome(found) {
    const { apmask, aqmask, overrides } = found.pending;
    const left = [apmask && `apmask ${apmask}`, aqmask && `aqmask ${aqmask}`, ...Object.keys(overrides)].filter(text => text);
    return [
        sentences(found.seen, "warning"),
        steps(found.steps),
        left.length ? element("p", { class: "warning" },
                              cockpit.format(_("Pending returns: $0"), left.join(", "))) : null,
    ];
}

/** What a change of the masks would do. */
export function masks(found) {
    if (!found.changed)
        return [element("p", {}, _("The masks have these values already."))];
    const now = [["active", _("The active $0 would be")], ["persistent", _("The stored $0 would be")]];
    return [
        facts([
            ...now.flatMap(([key, text]) => Object.entries(found[key] || {}).map(([name, ids]) =>
                [cockpit.format(text, name), ids === null ? _("not stored") : ids || _("empty")])),
            [_("The host would lose"), element("span", { class: found.freed.length ? "warning" : "" }, queues(found.freed))],
            [_("The host would get"), queues(found.returned)],
        ]),
        sentences(found.warnings, "warning"),
        steps(found.steps),
    ];
}
