// SPDX-License-Identifier: Apache-2.0
// The command apvfio, which knows and does everything that the page shows and offers.

const cockpit = window.cockpit;
const _ = cockpit.gettext;

/** What went wrong: a sentence, what to do, and the kind that apvfio gives it. */
export class Problem extends Error {
    constructor(sentence, remedy = "", kind = "failure") {
        super(sentence);
        this.remedy = remedy;
        this.kind = kind;
    }
}

/**
 * What `apvfio words --json` prints, and what it warns of meanwhile: `[document, warning]`.
 * A `name` of somebody's choice can be no option. Only changes need the rights of an administrator;
 * to look, they are taken where they are there.
 */
export function ask(words, { name, change = false } = {}) {
    const command = ["apvfio", ...words, "--json", ...(name === undefined ? [] : ["--", name])];
    return new Promise((resolve, reject) => {
        cockpit.spawn(command, { superuser: change ? "require" : "try", err: "message" })
            .then((text, warning) => resolve([JSON.parse(text), (warning || "").trim()]))
            .catch((failure, text) => reject(problem(failure, text)));
    });
}

/**
 * Follow the host: `tell` gets the status now and after every change, `lament` a `Problem`.
 * Returned is what ends it.
 */
export function follow(tell, lament) {
    const AGAIN = 5000;
    let channel, timer, ended = false;

    function start() {
        let line = "", left = "";
        channel = cockpit.spawn(["apvfio", "status", "--watch", "--json"], { superuser: "try", err: "message" });
        channel.stream(text => {
            const lines = (line + text).split("\n");
            line = lines.pop();
            for (const one of lines) {
                const found = parsed(one);
                if (!found)
                    left += one;
                else if (found.error)
                    lament(told(found));
                else
                    tell(found);
            }
        });
        channel.then(() => stopped(new Problem(_("apvfio has stopped watching the host."))),
                     failure => stopped(problem(failure, left + line)));
    }

    function stopped(why) {
        if (ended)
            return;
        lament(why);
        timer = setTimeout(start, AGAIN);
    }

    start();
    return () => {
        ended = true;
        clearTimeout(timer);
        channel.close("terminated");
    };
}

function problem(failure, text) {
    const found = parsed(text);
    if (found && found.error)
        return told(found);
    if (failure instanceof SyntaxError)
        return new Problem(_("apvfio's answer cannot be read."), _("Install this page and apvfio in the same version."));
    if (failure.problem === "not-found")
        return new Problem(_("The command apvfio is not on this host."), _("Install the package apvfio."));
    if (failure.problem === "access-denied")
        return new Problem(_("Only an administrator may do that."), _("Turn on administrative access, at the top of the page."));
    return new Problem(failure.message || cockpit.message(failure));
}

function told(found) {
    const who = found.guest ? cockpit.format(_("guest $0: "), found.guest) : "";
    return new Problem(who + found.error, found.remedy || "", found.kind);
}

/** The object in `text`; null if it holds none, as half of one does not. */
function parsed(text) {
    try {
        const found = JSON.parse(text);
        return found && typeof found === "object" ? found : null;
    } catch {
        return null;
    }
}
