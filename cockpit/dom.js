// SPDX-License-Identifier: Apache-2.0
// Elements, made without any text ever being read as markup: names of guests are hostile.

import { printable } from "./text.js";

const shownFor = new WeakMap();

/**
 * An element. Of `properties`, `class`, `role` and those with a dash are attributes, `on` maps events to
 * handlers; the others are set as they are. Children are elements, or text; null and false are left out.
 * All text is shown as apvfio shows it in a terminal.
 */
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name === "on")
            Object.entries(value).forEach(([event, handler]) => made.addEventListener(event, handler));
        else if (name === "class" || name === "role" || name.includes("-"))
            made.setAttribute(name, printable(value));
        else
            made[name] = value;
    }
    made.append(...shown(children));
    return made;
}

/** Replace all that is in `parent`. */
export function fill(parent, ...children) {
    parent.replaceChildren(...shown(children));
}

/** Replace all that is in `parent` with what `make` returns, if that is of another `what` than before. */
export function renew(parent, what, make) {
    const key = JSON.stringify(what);
    if (shownFor.get(parent) === key)
        return;
    const held = parent.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
    fill(parent, ...make());
    shownFor.set(parent, key);
    if (held)
        parent.querySelector(`[aria-label="${CSS.escape(held)}"]`)?.focus();
}

/** A button that does `act`. */
export function button(text, act, properties = {}) {
    return element("button", { type: "button", ...properties, on: { click: act } }, text);
}

/** A part of the page with a heading; `aside` stands beside that. */
export function section(id, heading, aside, ...children) {
    const title = element("h2", { id: `${id}-heading` }, heading);
    return element("section", { id, class: "card", "aria-labelledby": title.id },
                   element("header", {}, title, ...[aside].flat()), ...children);
}

/** A table: `heads` are its columns' texts, `rows` lists of cells; the first cell of each row names it. */
export function table(label, heads, rows) {
    const cells = ([first, ...others]) => [
        element("th", { scope: "row" }, first),
        ...others.map((cell, at) => element("td", { "data-label": heads[at + 1] }, ...[cell].flat())),
    ];
    return element("table", { class: "list", "aria-label": label },
                   element("thead", {},
                           element("tr", {}, ...heads.map(head => element("th", { scope: "col" }, head)))),
                   element("tbody", {}, ...rows.map(row => element("tr", {}, ...cells(row)))));
}

/** Names and values. */
export function facts(pairs) {
    return element("dl", {}, ...pairs.flatMap(([name, value]) =>
        [element("dt", {}, name), element("dd", {}, ...[value].flat())]));
}

function shown(children) {
    return children.filter(child => child !== null && child !== undefined && child !== false)
        .map(child => child instanceof Node ? child : printable(child));
}
