// SPDX-License-Identifier: Apache-2.0
// What goes wrong with a command, in sentences, each with what to do.

import { called, printable } from "./text.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

const LONGEST = 1000;
const TIMEOUT = 124;
const NOT_RUN = [126, 127];

/** What went wrong: a sentence, and what to do. */
export class Problem extends Error {
    constructor(sentence, remedy = "") {
        super(printable(sentence, LONGEST));
        this.remedy = printable(remedy, LONGEST);
    }
}

/** The command did not answer within `seconds`, and was ended. */
export const noAnswer = (command, seconds, change) =>
    new Problem(cockpit.format(_("$0 gave no answer within $1 seconds."), command, seconds),
                change ? unknown() : _("Check that libvirt's daemon and this host respond. The page tries again."));

/** Somebody ended the command. */
export const ended = (command, change) =>
    new Problem(cockpit.format(_("$0 was stopped."), command), change ? unknown() : "");

/** An answer that is none, or that this page does not understand. */
export const unreadable = (command, change) =>
    new Problem(cockpit.format(_("$0 gave an answer that this page cannot read."), command),
                change ? unknown() : _("If this persists, install this page and apvfio in the same version."));

/** What the channel's `failure` means; `text` is what the command printed. */
export function explained(failure, text, command, change) {
    const found = parsed(text);
    if (found && "error" in found)
        return told(found);
    if (failure.problem === "access-denied")
        return new Problem(_("Only an administrator may do this."), _("Turn on administrative access, at the top of the page."));
    if (failure.problem)
        return new Problem(cockpit.format(_("Cockpit could not run $0: $1"), command, cockpit.message(failure)),
                           change ? unknown() : _("Reload the page, and log in again if you are asked to."));
    if (failure.exit_signal)
        return new Problem(cockpit.format(_("$0 was killed (signal $1)."), command, failure.exit_signal),
                           change ? unknown() : _("The page tries again."));
    // cockpit's own words name the command that bounds ours.
    const said = failure.message && !failure.message.startsWith("timeout ") ? failure.message : _("no message");
    if (NOT_RUN.includes(failure.exit_status))
        return new Problem(cockpit.format(_("The command apvfio is not installed, or cannot be run: $0"), said),
                           _("Install the package apvfio."));
    return new Problem(cockpit.format(_("$0 failed with exit status $1: $2"), command, failure.exit_status, said),
                       change ? unknown() : "");
}

/** Whether `timeout` ended the command, having waited long enough. */
export const timedOut = failure => !failure.problem && failure.exit_status === TIMEOUT;

/** What apvfio itself says is wrong. */
export function told(found) {
    const { guest, message = found.error, remedy } = found.error || {};
    const who = guest ? cockpit.format(_("guest $0: "), called(guest)) : "";
    return new Problem(who + printable(message, LONGEST), remedy || "");
}

/** The object in `text`; null if it holds none, as half of one does not. */
export function parsed(text) {
    try {
        const found = JSON.parse(text);
        return found && typeof found === "object" ? found : null;
    } catch {
        return null;
    }
}

function unknown() {
    return _("The change may have been made in part. Close this dialog, check the state on the page, and reconcile if there is drift.");
}
