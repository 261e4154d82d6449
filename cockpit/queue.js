// SPDX-License-Identifier: Apache-2.0
// A queue and its ids: hexadecimal as lszcrypt writes them, decimal as administrators type them.

const _ = window.cockpit.gettext;

/** 27 for 001b. */
export const decimal = id => String(parseInt(id, 16));

/** 10.27 for 0a.001b. */
export const inDecimal = name => name.split(".").map(decimal).join(".");

const KEYS = {
    ArrowLeft: ([row, column]) => [row, column - 1],
    ArrowRight: ([row, column]) => [row, column + 1],
    ArrowUp: ([row, column]) => [row - 1, column],
    ArrowDown: ([row, column]) => [row + 1, column],
    Home: ([row]) => [row, 0],
    End: ([row], [, columns]) => [row, columns - 1],
};

/** Where `key` leads from `[row, column]` in a grid of `[rows, columns]`; null if it leads nowhere. */
export function moved(key, from, size, whole) {
    const next = KEYS[key] && KEYS[key](from, size);
    if (!next)
        return null;
    if (whole && key === "Home")
        return [0, 0];
    if (whole && key === "End")
        return [size[0] - 1, size[1] - 1];
    return next.map((at, axis) => Math.min(Math.max(at, 0), size[axis] - 1));
}

/** A queue in a sentence. */
export function described(queue, owner) {
    const driver = queue.driver || _("no driver");
    const parts = [`${queue.queue} = ${inDecimal(queue.queue)}`, owner, driver, queue.state];
    return parts.filter(part => part).join(", ");
}
