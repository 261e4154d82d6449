// SPDX-License-Identifier: Apache-2.0
// A dialog that shows what would be done before there is a button that does it.

import { button, element, fill } from "./dom.js";
import { problemBox } from "./words.js";

const _ = window.cockpit.gettext;

let names = 0;

/**
 * Open it. `fields` are asked for; `plan(values)` promises elements that tell what would be done,
 * and `act(values)`, behind a button called `verb`, promises that it has been done. What was planned
 * for other values is not done. Without a `verb` there is only something to be read.
 */
export function openPlan({ title, intro, fields = [], plan, verb, act, done = () => {} }) {
    const id = `dialog-${++names}`;
    const form = element("div", { class: "fields" }, ...fields.map(field => fieldLine(field)));
    const shown = element("div", { class: "plan", "aria-live": "polite" });
    const show = button(_("Show plan"), () => planned(), { class: "secondary", hidden: !fields.length });
    const go = button(verb || "", () => acted(), { class: "primary", disabled: true, hidden: !verb });
    const cancel = button(verb ? _("Cancel") : _("Close"), () => box.close(), { class: "link" });
    const box = element("dialog", { "aria-labelledby": id },
                        element("h2", { id }, title), intro ? element("p", {}, intro) : null,
                        form, shown, element("footer", {}, go, show, cancel));
    let asked = 0, busy = false;

    function values() {
        return Object.fromEntries(fields.map(field => {
            const input = form.querySelector(`[name="${field.name}"]`);
            return [field.name, field.kind === "check" ? input.checked : input.value.trim()];
        }));
    }

    function forget() {
        asked++;
        go.disabled = true;
        fill(shown);
        for (const field of fields)
            form.querySelector(`[data-field="${field.name}"]`).hidden = Boolean(field.when && !field.when(values()));
    }

    async function planned() {
        forget();
        const mine = asked;
        fill(shown, element("p", { class: "waiting" }, _("Planning…")));
        try {
            const told = await plan(values());
            if (mine !== asked)
                return;
            fill(shown, ...told);
            go.disabled = false;
        } catch (problem) {
            if (mine === asked)
                fill(shown, problemBox(problem));
        }
    }

    async function acted() {
        busy = true;
        [go, show, cancel].forEach(one => { one.disabled = true });
        form.inert = true;
        const waiting = element("p", { class: "waiting", role: "status" }, _("Working…"));
        shown.append(waiting);
        try {
            const warning = await act(values());
            busy = false;
            box.close();
            done(warning);
        } catch (problem) {
            busy = false;
            forget();
            fill(shown, problemBox(problem));
            [show, cancel].forEach(one => { one.disabled = false });
            form.inert = false;
        }
    }

    form.addEventListener("input", forget);
    form.addEventListener("keydown", event => event.key === "Enter" && event.target.type === "text" && planned());
    box.addEventListener("cancel", event => busy && event.preventDefault());
    box.addEventListener("close", () => box.remove());
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
