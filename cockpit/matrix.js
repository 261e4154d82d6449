// SPDX-License-Identifier: Apache-2.0
// The matrix: adapters by domains, a cell for each queue, walked with the arrow keys.

import { element, fill } from "./dom.js";
import { decimal, described, moved } from "./queue.js";
import { printable } from "./text.js";

const _ = window.cockpit.gettext;

const PLAIN = { "·": "host", "■": "reserved", "○": "free", "?": "unbound" };

export class Matrix {
    constructor() {
        this.grid = element("table", { class: "matrix", role: "grid", "aria-label": _("Adapters and usage domains"),
                                       on: { keydown: event => this.walk(event), focusin: event => this.tell(event),
                                             mouseover: event => this.tell(event) } });
        this.told = element("p", { id: "told", "aria-live": "polite" }, _("Point at a queue to see its owner."));
        this.legend = element("ul", { id: "legend", "aria-label": _("Legend") });
        this.lost = element("p", { class: "warning" });
        this.parts = [element("div", { class: "scroll" }, this.grid), this.told, this.legend, this.lost];
        this.shape = "";
    }

    /** Show the queues of a status. Cells stay as long as there are the same queues, and so does the focus. */
    show({ picture, queues }) {
        const shape = JSON.stringify([picture.adapters, picture.domains]);
        if (shape !== this.shape)
            this.build(picture);
        this.shape = shape;
        const entries = Object.fromEntries(picture.legend.map(entry => [entry.mark, entry]));
        const known = Object.fromEntries(queues.map(queue => [queue.queue, queue]));
        for (const [name, cell] of this.cells)
            paint(cell, name, entries[picture.marks[name]], known[name]);
        fill(this.legend, ...picture.legend.map(legendLine));
        fill(this.lost, picture.lost || "");
        this.lost.hidden = !picture.lost;
        if (this.grid.contains(document.activeElement))
            fill(this.told, document.activeElement.dataset.told || "");
    }

    build({ adapters, domains }) {
        this.size = [adapters.length, domains.length];
        this.cells = new Map();
        const heads = domains.map(id =>
            element("th", { scope: "col" }, element("span", {}, id), element("small", {}, decimal(id))));
        const rows = adapters.map(({ adapter, type }, row) => {
            const cells = domains.map((domain, column) => {
                const cell = element("td", { role: "gridcell", tabIndex: row + column ? -1 : 0 });
                this.cells.set(`${adapter}.${domain}`, cell);
                return cell;
            });
            const head = element("th", { scope: "row" }, adapter, element("small", {}, `${decimal(adapter)} ${type || ""}`));
            return element("tr", {}, head, ...cells);
        });
        const corner = element("td", { class: "corner" }, element("small", {}, _("domain →")), _("adapter ↓"));
        fill(this.grid, element("thead", {}, element("tr", {}, corner, ...heads)), element("tbody", {}, ...rows));
    }

    walk(event) {
        const cells = [...this.cells.values()];
        const at = cells.indexOf(event.target);
        const columns = this.size[1];
        const next = at >= 0 && moved(event.key, [Math.floor(at / columns), at % columns], this.size, event.ctrlKey);
        if (!next)
            return;
        event.preventDefault();
        event.target.tabIndex = -1;
        const cell = cells[next[0] * columns + next[1]];
        cell.tabIndex = 0;
        cell.focus();
    }

    tell(event) {
        const cell = event.target.closest("td[data-told]");
        if (cell)
            fill(this.told, cell.dataset.told);
    }
}

/** A place where there is no queue stays empty. */
function paint(cell, name, entry, queue) {
    const told = printable(queue ? described(queue, entry.text) : `${name}: ${_("no such queue")}`);
    const look = entry ? PLAIN[entry.mark] || `hue-${entry.hue}` : "none";
    const state = queue && queue.state ? ` ${queue.state.replace(" ", "-")}` : "";
    if (cell.dataset.told === told && cell.textContent === (entry ? entry.mark : ""))
        return;
    cell.className = look + state;
    cell.textContent = entry ? entry.mark : "";
    cell.dataset.told = told;
    cell.setAttribute("aria-label", told);
}

function legendLine(entry) {
    const look = PLAIN[entry.mark] || `hue-${entry.hue}`;
    return element("li", {}, element("span", { class: `mark ${look}`, "aria-hidden": "true" }, entry.mark),
                   element("span", { class: "name" }, entry.text), element("small", {}, entry.counted));
}
