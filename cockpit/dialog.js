// SPDX-License-Identifier: Apache-2.0
// A dialog that shows what would be done before there is a button that does it.

import { button, element, fill } from "./dom.js";
import { timeOfDay } from "./text.js";
import { problemBox } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

let names = 0;

/**
 * Open it, unless one is open. `fields` are asked for; `plan(values, signal)` promises elements that tell what would be done,
 * and `act(values, signal)`, behind a button called `verb`, promises that it has been done. What was planned
 * for other values is not done. Without a `verb` there is only something to be read. The signal says that nobody
 * waits for it any more. `done` hears of what may have changed, with a warning if there is one.
 */
export function openPlan({ title, intro, fields = [], plan, verb, act, done = () => {} }) {
    if (document.querySelector("dialog[open]"))
        return;
    const id = `dialog-${++names}`;
    const form = element("div", { class: "fields" }, ...fields.map(field => fieldLine(field)));
    const shown = element("div", { class: "plan", "aria-live": "polite" });
    const show = button(_("Show plan"), () => planned(), { class: "secondary", hidden: !fields.length });
    const go = button(verb || "", () => acted(), { class: "primary", disabled: true, hidden: !verb });
    const cancel = button(verb ? _("Cancel") : _("Close"), () => busy ? working.abort() : box.close(), { class: "link" });
    const box = element("dialog", { "aria-labelledby": id },
                        element("h2", { id }, title), intro ? element("p", {}, intro) : null,
                        form, shown, element("footer", {}, go, show, cancel));
    let busy = false, working = new AbortController();

    function values() {
        return Object.fromEntries(fields.map(field => {
            const input = form.querySelector(`[name="${field.name}"]`);
            return [field.name, field.kind === "check" ? input.checked : input.value.trim()];
        }));
    }

    /** Nobody waits any more for what was asked. */
    function forget() {
        working.abort();
        working = new AbortController();
        go.disabled = true;
        fill(shown);
        for (const field of fields)
            form.querySelector(`[data-field="${field.name}"]`).hidden = Boolean(field.when && !field.when(values()));
    }

    async function planned() {
        forget();
        const { signal } = working;
        fill(shown, element("p", { class: "waiting" }, _("Planning…")));
        try {
            const told = await plan(values(), signal);
            if (signal.aborted)
                return;
            fill(shown, ...told);
            go.disabled = false;
        } catch (problem) {
            if (!signal.aborted)
                failed(problem);
        }
    }

    function failed(problem) {
        fill(shown, problemBox(problem));
        show.hidden = false;
    }

    async function acted() {
        busy = true;
        [go, show].forEach(one => { one.disabled = true });
        fill(cancel, _("Stop"));
        form.inert = true;
        const since = cockpit.format(_("Working since $0…"), timeOfDay(new Date()));
        shown.append(element("p", { class: "waiting", role: "status" }, since));
        try {
            const warning = await act(values(), working.signal);
            busy = false;
            box.close();
            done(warning);
        } catch (problem) {
            busy = false;
            forget();
            failed(problem);
            fill(cancel, _("Cancel"));
            show.disabled = false;
            form.inert = false;
            done();
        }
    }

    form.addEventListener("input", forget);
    form.addEventListener("keydown", event => event.key === "Enter" && event.target.type === "text" && planned());
    box.addEventListener("cancel", event => busy && event.preventDefault());
    box.addEventListener("close", () => {
        working.abort();
        box.remove();
    });
    document.body.append(box);
    forget();
    box.showModal();
    if (!fields.length)
        planned();
}

function fieldLine({ name, label, help, value = "", kind = "text", options = [] }) {
    const id = `field-${name}`;
    const about = help ? element("small", { id: `${id}-help` }, help) : null;
    const described = about ? { "aria-describedby": about.id } : {};
    const text = element("label", { htmlFor: id }, label);
    if (kind === "check")
        return element("div", { class: "check", "data-field": name },
                       element("input", { id, name, type: "checkbox", checked: Boolean(value), ...described }), text, about);
    const input = kind === "choice"
        ? element("select", { id, name, ...described },
                  ...options.map(([key, what]) => element("option", { value: key, selected: key === value }, what)))
        : element("input", { id, name, type: "text", value, autocomplete: "off", spellcheck: false, ...described });
    return element("div", { "data-field": name }, text, input, about);
}
