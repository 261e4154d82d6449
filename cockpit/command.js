// SPDX-License-Identifier: Apache-2.0
// The command apvfio, which knows and does everything that the page shows and offers.

import { ended, explained, noAnswer, parsed, Problem, timedOut, told, unreadable } from "./problem.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

/** Seconds until a command that only looks, or one that changes the host, is ended. */
const LOOKING = 30;
const CHANGING = 600;
/** Seconds without a status, though `--watch` repeats it every 30, until the watch is begun again. */
const SILENCE = 90;
const AGAIN = 5;
/** Characters of a status, at most, and of what is none: an error that ends the watch. */
const LONGEST = 1 << 24;
const LONGEST_REST = 1 << 20;

/** Seconds from its begin until a command is ended: a timeout(1) that is just forking would leave its command behind. */
const YOUNG = 2;

const running = new Set();
// A command whose page is gone has nobody to answer to.
window.addEventListener("pagehide", () => running.forEach(channel => channel.close("terminated")));

/**
 * Run apvfio: the channel, and what ends it. Whatever becomes of this page or of cockpit, timeout(1) ends it after
 * `limit` seconds, 0 for never.
 */
function spawn(words, { admin, limit }) {
    const command = ["timeout", "-k", "5", String(limit), "apvfio", ...words];
    const channel = cockpit.spawn(command, { superuser: admin ? "require" : "try", err: "message" });
    const over = () => running.delete(channel);
    const begun = performance.now();
    running.add(channel);
    channel.then(over, over);
    return [channel, () =>
        setTimeout(() => channel.close("terminated"), Math.max(0, begun + YOUNG * 1000 - performance.now()))];
}

/**
 * What `apvfio words --json` prints, and what it warns of meanwhile: `[document, warning]`.
 * A `name` of somebody's choice can be no option. `admin` asks for an administrator's rights, which are otherwise taken
 * where they are there; a `change` is given more time. An aborted `signal` ends the command.
 */
export function ask(words, { name, admin = false, change = false, signal } = {}) {
    const command = ["apvfio", ...words.filter(word => /^[a-z]+$/.test(word))].join(" ");
    const limit = change ? CHANGING : LOOKING;
    const argv = [...words, "--json", ...(name === undefined ? [] : ["--", name])];
    return new Promise((resolve, reject) => {
        if (signal?.aborted) {
            reject(ended(command, change));
            return;
        }
        // The page gives up first; a late answer is nobody's.
        const [channel, close] = spawn(argv, { admin, limit: limit + 5 });
        const end = problem => {
            reject(problem);
            close();
        };
        const timer = setTimeout(() => end(noAnswer(command, limit, change)), limit * 1000);
        signal?.addEventListener("abort", () => end(ended(command, change)));
        channel.then((text, warning) => {
            clearTimeout(timer);
            const found = parsed(text);
            if (found)
                resolve([found, (warning || "").trim()]);
            else
                reject(unreadable(command, change));
        }, (failure, text) => {
            clearTimeout(timer);
            reject(timedOut(failure) ? noAnswer(command, limit, change) : explained(failure, text, command, change));
        });
    });
}

/**
 * Follow the host: `tell` gets the status now and after every change, `lament` a `Problem`.
 * Returned is what ends it.
 */
export function follow(tell, lament) {
    const command = "apvfio status --watch";
    let current, timer;

    function start() {
        let line = "", left = "", before = "", over = false;
        const [channel, close] = spawn(["status", "--watch", "--json"], { admin: false, limit: 0 });
        current = close;
        const stop = why => {
            if (over || current !== close)
                return;
            over = true;
            clearTimeout(timer);
            close();
            lament(why);
            timer = setTimeout(start, AGAIN * 1000);
        };
        const patient = seconds => {
            clearTimeout(timer);
            timer = setTimeout(() => stop(noAnswer(command, seconds)), seconds * 1000);
        };
        patient(LOOKING);
        channel.stream(text => {
            if (over || current !== close)
                return;
            const [first, ...lines] = text.split("\n");
            line += first;
            if (line.length > LONGEST || left.length > LONGEST_REST)
                stop(unreadable(command));
            if (!lines.length)
                return;
            lines.unshift(line);
            line = lines.pop();
            for (const one of lines) {
                const found = parsed(one);
                if (!found) {
                    // An error's object that ends the command has several lines.
                    left += one;
                    continue;
                }
                patient(SILENCE);
                // It is repeated to show that it is watched.
                if (one === before)
                    continue;
                before = one;
                if ("error" in found)
                    lament(told(found));
                else
                    tell(found);
            }
        });
        channel.then(() => stop(left + line ? unreadable(command) : new Problem(_("apvfio has stopped watching the host."))),
                     failure => stop(explained(failure, left + line, command)));
    }

    start();
    return () => {
        clearTimeout(timer);
        current();
        current = null;
    };
}
