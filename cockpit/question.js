// SPDX-License-Identifier: Apache-2.0
// A question that is asked again and again: one command at a time, so that answers come in their order.

import { ask } from "./command.js";
import { Problem, unreadable } from "./problem.js";

/** Milliseconds after which a question that has no answer is said to have none. */
const PATIENCE = 5000;

export class Question {
    /**
     * `answered` gets each answer; it may throw if it cannot be shown. `unanswered(problem, since, last)` gets why there is
     * none, null while the command is still waited for; `since` is when that was first asked, `last` when there was an
     * answer, or null.
     */
    constructor(words, { answered, unanswered }) {
        this.words = words;
        this.answered = answered;
        this.unanswered = unanswered;
        this.since = this.last = null;
        this.asking = this.again = false;
    }

    /** Ask; if it is being asked, once more after that. */
    async ask() {
        this.again = this.asking;
        if (this.asking)
            return;
        this.asking = true;
        const begun = new Date();
        // Why there was none before stays to be read.
        const late = setTimeout(() => this.since || this.fail(null, begun), PATIENCE);
        try {
            const [found] = await ask(this.words);
            this.show(found);
            this.since = null;
            this.last = new Date();
        } catch (problem) {
            this.fail(problem, begun);
        }
        clearTimeout(late);
        this.asking = false;
        if (this.again)
            this.ask();
    }

    show(found) {
        try {
            this.answered(found);
        } catch {
            throw unreadable(["apvfio", ...this.words].join(" "));
        }
    }

    fail(problem, begun) {
        this.since ??= begun;
        this.unanswered(problem instanceof Problem ? problem : null, this.since, this.last);
    }
}
